"""The lease as a Kubernetes Lease object: compare-and-swap by its resourceVersion, the epoch in leaseTransitions.

Whether a holder lives is judged by our own clock from when its last renewal was seen here, never by
comparing the times of two machines.
"""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

from kingmaker_controller.errors import KubernetesError, LeaseUnavailable
from kingmaker_controller.kube.api import LEASE, Api, Object
from kingmaker_controller.leader import Lease, Pace

DURATION_S: Final = 15
PACE: Final = Pace(look_s=2.0, renew_s=2.0, give_up_s=10.0)
"""Renewed every 2 s, given up after 10 s without success, taken over by others 15 s after its last renewal."""


class KubernetesLease:
    """A `LeaseStore`."""

    def __init__(self, api: Api, namespace: str, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._api, self._namespace, self._name, self._clock = api, namespace, name, clock
        self._stored: Object | None = None
        self._seen: tuple[Lease, float] | None = None

    async def read_lease(self) -> Lease | None:
        try:
            self._stored = await self._api.get(LEASE, self._namespace, self._name)
        except KubernetesError as error:
            self._stored = None
            if error.status == 404:
                return None
            raise LeaseUnavailable(str(error)) from error
        return self._note(self._stored)

    async def swap_lease(self, old: Lease | None, new: Lease) -> bool:
        stored = self._stored
        if old is not None and (stored is None or _lease(stored) != old):
            return False
        body: Object = {
            "apiVersion": LEASE.api_version,
            "kind": LEASE.kind,
            "metadata": {"name": self._name, "namespace": self._namespace},
            "spec": {
                "holderIdentity": new.holder,
                "leaseDurationSeconds": DURATION_S,
                "leaseTransitions": new.epoch,
                "renewTime": _micro(new.renewed_at),
                "acquireTime": _micro(new.renewed_at),
            },
        }
        try:
            if old is None or stored is None:
                self._stored = await self._api.create(LEASE, self._namespace, body)
            else:
                body["metadata"] = stored["metadata"]
                if old.holder == new.holder:
                    body["spec"]["acquireTime"] = stored["spec"].get("acquireTime")
                self._stored = await self._api.replace(LEASE, self._namespace, body)
        except KubernetesError as error:
            if error.status in (404, 409):
                return False
            raise LeaseUnavailable(str(error)) from error
        self._note(self._stored)
        return True

    def is_held(self, lease: Lease, now: datetime) -> bool:  # noqa: ARG002 - the clock of another machine says nothing
        return self._seen is None or self._seen[0] != lease or self._clock() - self._seen[1] < DURATION_S

    def _note(self, stored: Object) -> Lease:
        lease = _lease(stored)
        if self._seen is None or self._seen[0] != lease:
            self._seen = (lease, self._clock())
        return lease


def _lease(stored: Object) -> Lease:
    spec = stored.get("spec") or {}
    renewed = str(spec.get("renewTime") or "")
    return Lease(str(spec.get("holderIdentity") or ""), int(spec.get("leaseTransitions") or 0), _milli(renewed))


def _micro(stamp: str) -> str:
    """Kubernetes' MicroTime wants six digits; a stamp has three."""
    return stamp[:-1] + "000Z"


def _milli(micro: str) -> str:
    return micro[:-4] + "Z" if micro.endswith("000Z") else micro
