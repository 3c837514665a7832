"""Statuses in the status of ServedModels: applied whole, and only over what was read.

Every write carries the resourceVersion it is based on, so of two controllers that both believe to lead, one is told
to read again. What is news is written at once; what only says the same in other words (a count, a last
message) at most once a minute: every write wakes everybody who watches.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec

from kingmaker_contracts import keys
from kingmaker_contracts.status import RoutingStatus, Status
from kingmaker_controller.errors import KubernetesError, KubernetesUnavailable, StatusOutdated
from kingmaker_controller.kube.api import SERVED_MODEL, Api, Object
from kingmaker_controller.kube.events import Events
from kingmaker_controller.kube.reflector import Reflector
from kingmaker_controller.rollout.facts import Event, stamp
from kingmaker_controller.state import AuditEntry, StoredModel

logger = logging.getLogger(__name__)

QUIET_S: Final = 60.0
LOOK_S: Final = QUIET_S / 30
"""How often it is looked for statuses whose minute is over."""
_REMEMBERED: Final = 500
_TEXTS: Final = frozenset({"message"})


class _Base(NamedTuple):
    """What a decision is based on: a status, and whose. Every new object's is the same, none."""

    uid: str
    status: Object


class KubernetesRecords:
    """resources: the copy of the ServedModels. The audit is what this process decided; Events are what others see."""

    def __init__(
        self, api: Api, resources: Reflector, events: Events, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._api, self._resources, self._events, self._clock = api, resources, events, clock
        self._based_on: dict[str, _Base] = {}
        self._written_at: dict[str, float] = {}
        self._waiting: dict[str, StoredModel] = {}
        self._untold: dict[str, tuple[Object, Sequence[Event], datetime]] = {}
        """Decisions whose write was not answered: the status, and what is to be told should it stand there."""
        self._audit: dict[str, deque[AuditEntry]] = {}
        self._past: dict[str, RoutingStatus] = {}
        """The last revision of models that were deleted; one of the same name must go on from there. Under another
        leader the epoch is higher, so this need not survive."""

    def models(self) -> dict[str, StoredModel]:
        """What the cluster holds."""
        found = [self._stored(item) for item in self._resources.objects.values() if not is_leaving(item)]
        return {stored.model: stored for stored in found}

    def find(self, model: str) -> StoredModel | None:
        """One model, from now on what its next write is based on."""
        item = self._resources.objects.get(keys.split_model_id(model)[1])
        return None if item is None or is_leaving(item) else self._stored(item)

    async def save(self, stored: StoredModel, events: Sequence[Event], now: datetime) -> None:
        """Raises StatusOutdated and KubernetesError."""
        if stored.removed:
            self._forget(stored.model)
            if stored.status.routing is not None:
                self._past[stored.model] = stored.status.routing
            return
        before = self._based_on.get(stored.model)
        due = self._written_at.get(stored.model, -QUIET_S) + QUIET_S
        if not events and before is not None and not is_news(before.status, _plain(stored)) and self._clock() < due:
            self._waiting[stored.model] = stored
            return
        self._waiting.pop(stored.model, None)
        try:
            await self._write(stored)
        except KubernetesUnavailable:
            self._untold[stored.model] = (_plain(stored), events, now)
            raise
        self._untold.pop(stored.model, None)
        self._note(stored.model, events, now)

    async def reload(self, stored: StoredModel) -> StoredModel:
        """Raises StatusOutdated while it cannot be read."""
        try:
            item = await self._api.get(SERVED_MODEL, *keys.split_model_id(stored.model))
        except KubernetesError as error:
            raise StatusOutdated(str(error)) from error
        before = self._based_on.get(stored.model)
        if before is None or before.uid != item["metadata"]["uid"]:
            raise StatusOutdated(f"{stored.model} was deleted, and another made under its name")
        self._waiting.pop(stored.model, None)
        self._resources.put(item)
        status, events, then = self._untold.pop(stored.model, ({}, (), None))
        if then is not None and not is_news(item.get("status") or {}, status):
            self._note(stored.model, events, then)
        fresh = self._stored(item)
        if stored.generation > fresh.generation:  # accepted since, and not written yet
            return _with_spec(fresh, stored)
        return fresh

    def audit(self, model: str, limit: int = 200) -> list[AuditEntry]:
        """Newest first."""
        return list(self._audit.get(model, ()))[-limit:][::-1]

    async def run(self) -> None:
        """Write what waited for its minute, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            for model in list(self._waiting):
                await self._refresh(model)

    async def _refresh(self, model: str) -> None:
        stored = self._waiting.get(model)
        if stored is None or self._clock() - self._written_at.get(model, 0.0) < QUIET_S:
            return
        try:
            await self._write(stored)
        except (KubernetesError, StatusOutdated) as error:  # nobody else would say it: once more in a minute
            logger.info("status not refreshed", extra={"model": model, "error": str(error)})
            if self._waiting.get(model) is stored:
                self._written_at[model] = self._clock()
        else:
            if self._waiting.get(model) is stored:
                del self._waiting[model]

    async def _write(self, stored: StoredModel) -> None:
        namespace, name = keys.split_model_id(stored.model)
        known = self._resources.objects.get(name)
        before = self._based_on.get(stored.model)
        if known is None or before != _base(known):
            raise StatusOutdated(f"the status of {stored.model} is not the one this decision is based on")
        body: Object = {
            "apiVersion": SERVED_MODEL.api_version,
            "kind": SERVED_MODEL.kind,
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": known["metadata"]["uid"],
                "resourceVersion": known["metadata"]["resourceVersion"],
            },
            "status": _plain(stored),
        }
        try:
            written = await self._api.apply(SERVED_MODEL, namespace, body, subresource="status")
        except KubernetesError as error:
            if error.status in (404, 409):
                raise StatusOutdated(str(error)) from error
            raise
        if self._based_on.get(stored.model) != before:  # forgotten, or read again, before the answer was here
            return
        self._based_on[stored.model] = _base(written)
        self._written_at[stored.model] = self._clock()
        self._resources.put(written)

    def _note(self, model: str, events: Sequence[Event], now: datetime) -> None:
        item = self._resources.objects.get(keys.split_model_id(model)[1])
        log = self._audit.setdefault(model, deque(maxlen=_REMEMBERED))
        for event in events:
            log.append(AuditEntry(stamp(now), model, event.reason, event.message))
            if item is not None:
                self._events.tell(reference(item), event, now)

    def _stored(self, item: Object) -> StoredModel:
        """A model as its object tells it, which is from now on what the next write is based on."""
        meta, raw = item["metadata"], item.get("status") or {}
        model = keys.model_id(meta["namespace"], meta["name"])
        self._based_on[model] = _base(item)
        try:
            status = msgspec.convert(_without_nulls(raw), Status)
        except msgspec.ValidationError as error:
            logger.error("status unreadable, starting from none", extra={"model": model, "error": str(error)})
            status = Status()
        if status.routing is None:
            status = msgspec.structs.replace(status, routing=self._past.get(model))
        accepted = _accepted(status.accepted_spec)
        resource = None
        if accepted is not None:
            names = {"name": meta["name"], "namespace": meta["namespace"]}
            head = {"apiVersion": SERVED_MODEL.api_version, "kind": SERVED_MODEL.kind, "metadata": names}
            resource = {**head, "spec": accepted["spec"]}
        return StoredModel(
            model,
            str(meta.get("creationTimestamp") or ""),
            int(accepted["generation"]) if accepted else 0,
            resource,
            msgspec.structs.replace(status, accepted_spec=""),
            removed=False,
        )

    def _forget(self, model: str) -> None:
        for kept in (self._based_on, self._written_at, self._waiting, self._untold, self._audit):
            kept.pop(model, None)


def _base(item: Object) -> _Base:
    return _Base(item["metadata"]["uid"], item.get("status") or {})


def is_news(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether two statuses differ in more than their texts."""
    return bool(_substance(before) != _substance(after))


def is_leaving(item: Object) -> bool:
    return bool(item["metadata"].get("deletionTimestamp"))


def reference(item: Object) -> Object:
    """How an Event names an object."""
    meta = item["metadata"]
    head = {"apiVersion": SERVED_MODEL.api_version, "kind": SERVED_MODEL.kind}
    return {**head, "name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"]}


def _plain(stored: StoredModel) -> Object:
    """The status as the API server keeps it: without nulls, and with the spec that is in force."""
    accepted = ""
    if stored.resource is not None:
        told = {"generation": stored.generation, "spec": stored.resource["spec"]}
        accepted = msgspec.json.encode(_without_nulls(told)).decode()
    status = msgspec.structs.replace(stored.status, accepted_spec=accepted)
    plain: Object = _without_nulls(msgspec.to_builtins(status))
    return plain


def _accepted(text: str) -> Object | None:
    try:
        told = msgspec.json.decode(text) if text else None
    except msgspec.DecodeError:
        return None
    return told if isinstance(told, dict) and "spec" in told and "generation" in told else None


def _with_spec(fresh: StoredModel, newer: StoredModel) -> StoredModel:
    return StoredModel(
        fresh.model, fresh.created_at, newer.generation, newer.resource, fresh.status, removed=fresh.removed
    )


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _substance(value: Any) -> Any:
    """A status without its texts; an empty list is as good as none, which is what the API server makes of it."""
    if isinstance(value, Mapping):
        found = {key: _substance(item) for key, item in value.items() if key not in _TEXTS}
        return {key: item for key, item in found.items() if item not in (None, [])}
    return [_substance(item) for item in value] if isinstance(value, list) else value
