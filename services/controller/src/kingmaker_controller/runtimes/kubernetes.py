"""Variants as Deployments: what is wanted is applied in the background, what is seen comes from copies of the cluster.

What differs from what is wanted is applied when a copy of the cluster shows it, and every ten minutes everything is
compared again, for a report that got lost. Nothing here decides: a variant that is not wanted any more has drained.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Final

from kingmaker_contracts import keys
from kingmaker_controller.errors import FetchFailed, KubernetesError
from kingmaker_controller.kube.api import Api, Kind, Object
from kingmaker_controller.queue import WorkQueue
from kingmaker_controller.rollout.facts import Identity, Observed, WantedVariant
from kingmaker_controller.runtimes import manifests, pods
from kingmaker_controller.runtimes.applying import Applier
from kingmaker_controller.runtimes.children import Children, model_of
from kingmaker_controller.runtimes.manifests import Owner
from kingmaker_controller.runtimes.packages import Packages
from kingmaker_controller.runtimes.pins import Pins
from kingmaker_controller.runtimes.podspec import Pin, Template
from kingmaker_controller.runtimes.registry import Registry

logger = logging.getLogger(__name__)

AT_ONCE: Final = 8
COMPARE_S: Final = 600.0
_DOUBTFUL: Final = frozenset({"ShaMismatch", "ServerEnded"})
"""Of pods that were given a wrong sha256: first the fetch step says so; once the tag is right, only the server does."""


class KubernetesRuntime:
    """deployments: the copy of the cluster's, by name, as `applying.slim` leaves them; owner_of: the ServedModel behind
    `namespace/name`, None when it is gone; has_monitors: whether the cluster knows ServiceMonitors; on_change: there
    is something to observe. Changes of the copies are told with `note_deployment`, `note_pod` and `note_child`.
    """

    def __init__(
        self,
        api: Api,
        registry: Registry,
        packages: Packages,
        template: Template,
        deployments: Mapping[str, Object],
        *,
        owner_of: Callable[[str], Owner | None],
        has_monitors: Callable[[], bool],
        on_change: Callable[[], None],
    ) -> None:
        self._packages, self._deployments = packages, deployments
        self._owner_of, self._has_monitors, self._on_change = owner_of, has_monitors, on_change
        self._children = Children()
        self._applier = Applier(api, template, deployments, self._children)
        self._pins = Pins(registry, self._do)
        self._names: dict[str, set[str]] = {}
        self._pods: dict[str, dict[str, Object]] = {}
        self._wanted: dict[str, tuple[WantedVariant, ...]] = {}
        self._failures: dict[tuple[str, Identity], tuple[str, str]] = {}
        self._changed: set[str] = set()
        self._todo = WorkQueue()
        self._wake = asyncio.Event()
        self._compared = time.monotonic()

    # what the cluster says

    def note_deployment(self, name: str, item: Object | None) -> None:
        """A Deployment is new, another than before, or gone."""
        model = model_of(item) if item else next((m for m, own in self._names.items() if name in own), "")
        if item is None:
            self._applier.forget(name)
            self._names.get(model, set()).discard(name)
            if not self._names.get(model):
                self._names.pop(model, None)
        elif model:
            self._names.setdefault(model, set()).add(name)
        if model:
            self._report(model)
            self._do(model)

    def note_child(self, kind: Kind, name: str, item: Object | None) -> None:
        """A Service, autoscaler and so on is new, another than before, or gone."""
        model = self._children.note(kind, name, item)
        if model:
            self._do(model)

    def note_pod(self, name: str, item: Object | None) -> None:
        """A pod is new, another than before, or gone."""
        if item is not None:
            mark = (item["metadata"].get("labels") or {}).get(manifests.ID_LABEL, "")
            self._pods.setdefault(mark, {})[name] = item
        else:
            mark = next((mark for mark, own in self._pods.items() if name in own), "")
            self._pods.get(mark, {}).pop(name, None)
            if not self._pods.get(mark):
                self._pods.pop(mark, None)
        deployment = self._deployments.get(mark)
        if deployment is not None:
            self._report(model_of(deployment))

    # Runtime

    def apply(self, model: str, wanted: Sequence[WantedVariant]) -> None:
        if self._wanted.get(model) != tuple(wanted):
            self._wanted[model] = tuple(wanted)
            self._do(model)

    def observe(self, model: str, pinned: Set[Identity]) -> dict[Identity, Observed]:
        found: dict[Identity, Observed] = {}
        for deployment in self._own(model):
            identity = manifests.identity_of(deployment)
            found[identity] = self._seen(model, identity, deployment, pinned)
        for variant in self._wanted.get(model, ()):
            if variant.identity not in found and not variant.draining and variant.replicas:
                failure = self._failures.get((model, variant.identity))
                found[variant.identity] = (
                    Observed("Failed", message=f"{failure[0]}: {failure[1]}", reason=failure[0])
                    if failure
                    else Observed("Fetching")
                )
        return found

    def changed(self) -> set[str]:
        changed, self._changed = self._changed, set()
        return changed

    def profile(self, model: str, sha256: str) -> bytes | None:
        at_hand = self._packages.profile(model, sha256)
        if at_hand is None:
            for variant in self._wanted.get(model, ()):
                ready = self._look(model, variant.identity)
                if variant.profile == sha256 and ready is not None and ready.ready:
                    self._packages.want_profile(model, ready.ready[0], sha256, lambda: self._report(model))
        return at_hand

    async def close(self) -> None:
        """Pods outlive the controller; only what it was asking for ends."""
        await self._pins.close()
        await self._packages.close()

    async def run(self) -> None:
        """Carry out what is wanted until cancelled."""
        had_monitors = self._has_monitors()
        while True:
            now = time.monotonic()
            if now - self._compared >= COMPARE_S or had_monitors != self._has_monitors():
                self._compared, had_monitors = now, self._has_monitors()
                for model in self._wanted:
                    self._todo.sweep(model, now)
            slots = asyncio.Semaphore(AT_ONCE)
            await asyncio.gather(*(self._guarded(model, slots) for model in self._todo.take(now)))
            try:
                async with asyncio.timeout(self._todo.wait_s(time.monotonic(), 5.0)):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    # carrying out

    async def _guarded(self, model: str, slots: asyncio.Semaphore) -> None:
        async with slots:
            try:
                await self._carry_out(model)
            except KubernetesError as error:
                logger.warning("not carried out", extra={"model": model, "error": str(error)})
                self._todo.failed(model, time.monotonic())
            except Exception:
                logger.exception("carrying out failed", extra={"model": model})
                self._todo.failed(model, time.monotonic())
            else:
                self._todo.succeeded(model)

    async def _carry_out(self, model: str) -> None:
        wanted = self._wanted.get(model)
        if wanted is None:  # nothing was decided yet: what runs, runs on
            return
        owner = self._owner_of(model)
        faults: list[KubernetesError] = []
        if owner is not None:
            for variant in wanted:
                faults += await self._carry_out_variant(owner, variant)
            if self._has_monitors():
                try:
                    await self._applier.monitor(owner)
                except KubernetesError as error:  # who measures is no reason to keep anybody from serving
                    faults.append(error)
        names = {manifests.name_of(model, variant.identity) for variant in wanted}
        staying = {d["metadata"]["name"] for d in self._own(model) if not d["metadata"].get("deletionTimestamp")}
        await self._applier.remove(model, names, staying)
        self._tidy(model, self._wanted.get(model, ()) if wanted else ())  # one made again starts from nothing
        if not wanted and not self._wanted.get(model):  # a model of that name may have come since
            self._wanted.pop(model, None)
        if faults:
            raise faults[0]

    async def _carry_out_variant(self, owner: Owner, variant: WantedVariant) -> list[KubernetesError]:
        """One variant; what the cluster refused."""
        key = (owner.model, variant.identity)
        existing = self._deployments.get(manifests.name_of(*key))
        if existing is None and (variant.draining or not variant.replicas):
            return []
        try:
            if variant.draining or (variant.asked is None and existing is not None):  # its pods run on as they are
                await self._applier.surroundings(owner, variant)
            else:
                pin = self._pin_of(key, variant, existing)
                if pin is None:
                    return []  # told when there is an answer
                await self._applier.variant(owner, variant, pin)
        except FetchFailed as error:
            self._fail(key, error.reason, str(error))
            return []
        except KubernetesError as error:
            if error.status:  # an API server that is away says nothing about the variant
                reason = "QuotaExceeded" if "exceeded quota" in error.message else f"Refused{error.reason}"
                self._fail(key, reason, error.message)
            return [error]
        if self._failures.pop(key, None) is not None:
            self._report(owner.model)
        return []

    def _pin_of(self, key: tuple[str, Identity], variant: WantedVariant, existing: Object | None) -> Pin | None:
        """The version its pods fetch: what its Deployment says, else the status, else the registry; None while that
        was not heard. Until it ran for the first time the registry may correct itself. Raises FetchFailed."""
        if existing is not None:
            held = manifests.pin_of(existing)
            return held if variant.version else self._pins.corrected(key, held)
        if variant.version:
            return Pin(variant.version, variant.sha256)
        found = self._pins.of(key)
        if isinstance(found, FetchFailed):
            raise found
        return found

    # looking

    def _seen(self, model: str, identity: Identity, deployment: Object, pinned: Set[Identity]) -> Observed:
        seen = pods.look(deployment, list(self._pods.get(deployment["metadata"]["name"], {}).values()))
        endpoints = (manifests.endpoint_of(model, identity),)
        failure = self._failures.get((model, identity))
        if seen.phase != "Ready" and failure is not None:
            return Observed("Failed", "", "", None, endpoints, f"{failure[0]}: {failure[1]}", failure[0], seen.restarts)
        message = f"{seen.reason}: {seen.message}" if seen.reason else seen.message
        if identity in pinned:  # the status knows what was fetched
            inputs = self._inputs(model, identity, seen)
            return Observed(seen.phase, "", "", None, endpoints, message, seen.reason, seen.restarts, inputs)
        if seen.phase == "Ready":
            self._pins.trust((model, identity))
        elif seen.reason in _DOUBTFUL:
            self._pins.doubt((model, identity), manifests.pin_of(deployment))
        package = self._packages.of(model, identity)
        if seen.phase == "Ready" and package is None:
            self._ask_for_package(model, identity, seen)
            return Observed("Starting", endpoints=endpoints, restarts=seen.restarts)
        if package is None or seen.phase != "Ready":
            return Observed(seen.phase, "", "", None, endpoints, message, seen.reason, seen.restarts)
        about = (package.version, package.sha256, package.profile_sha256)
        return Observed(seen.phase, *about, endpoints, message, seen.reason, seen.restarts, package.inputs)

    def _inputs(self, model: str, identity: Identity, seen: pods.Seen) -> Mapping[str, str]:
        """What a pinned variant takes, if nothing but its server says so: asked once a leader."""
        package = self._packages.of(model, identity)
        if package is not None:
            return package.inputs
        has_none = any(v.identity == identity and v.profile is None for v in self._wanted.get(model, ()))
        if has_none and seen.ready:
            self._ask_for_package(model, identity, seen)
        return {}

    def _ask_for_package(self, model: str, identity: Identity, seen: pods.Seen) -> None:
        name = keys.split_model_id(model)[1]
        self._packages.want(model, identity, seen.ready[0], name, lambda: self._report(model))

    def _look(self, model: str, identity: Identity) -> pods.Seen | None:
        name = manifests.name_of(model, identity)
        deployment = self._deployments.get(name)
        return None if deployment is None else pods.look(deployment, list(self._pods.get(name, {}).values()))

    def _own(self, model: str) -> list[Object]:
        return [self._deployments[name] for name in sorted(self._names.get(model, ()))]

    # between the two

    def _report(self, model: str) -> None:
        self._changed.add(model)
        self._on_change()

    def _do(self, model: str) -> None:
        self._todo.add(model, time.monotonic())
        self._wake.set()

    def _fail(self, key: tuple[str, Identity], reason: str, message: str) -> None:
        if self._failures.get(key) != (reason, message):
            self._failures[key] = (reason, message)
            logger.warning("variant cannot run", extra={"model": key[0], "variant": key[1].name, "reason": reason})
            self._report(key[0])

    def _tidy(self, model: str, wanted: Sequence[WantedVariant]) -> None:
        identities = {variant.identity for variant in wanted}
        for key in [key for key in self._failures if key[0] == model and key[1] not in identities]:
            del self._failures[key]
        self._pins.tidy(model, identities)
        self._packages.tidy(model, identities, {variant.profile for variant in wanted if variant.profile})
