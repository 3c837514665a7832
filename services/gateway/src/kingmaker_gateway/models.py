"""Which models are served right now: for each the state in force, replaced whole when routing changes.

Variants that stay the same from record to record keep their connections, their breaker and what was learnt of them;
a champion that is to be is prepared before the old one lets go.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import NamedTuple

from kingmaker_contracts.profile import Profile
from kingmaker_contracts.routing import RoutingRecord
from kingmaker_gateway import split
from kingmaker_gateway.coalescer import Deliver
from kingmaker_gateway.metrics import Metrics
from kingmaker_gateway.runs import Run
from kingmaker_gateway.settings import Settings
from kingmaker_gateway.state import State, state_of
from kingmaker_gateway.variants import Identity, LiveVariant, Wires, identity_of

logger = logging.getLogger(__name__)

_PATIENCE_S = 10.0
"""How long a record waits for its new champion to be reachable from here, while the old one is."""


class Heir(NamedTuple):
    """A champion that is to be, since when it is waited for, and whether it was started for that."""

    live: LiveVariant
    since: float
    is_new: bool


class LiveModel:
    """One served model. state is replaced, the rest stays."""

    def __init__(self, name: str, state: State, metrics: Metrics) -> None:
        self.name = name
        self.state = state
        self.in_flight = 0
        self.unrouted = metrics.variant(name, "")
        metrics.in_flight.labels(name).set_function(lambda: self.in_flight)
        metrics.ready.labels(name).set_function(lambda: self.state.takes_requests(split.CHAMPION))

    def take_places(self, wanted: int) -> int:
        """How many more requests may be in flight now, which then are."""
        room = self.state.record.limits.max_in_flight - self.in_flight
        taken = wanted if wanted <= room else max(0, room)  # a lowered limit leaves less than none
        self.in_flight += taken
        return taken


class Models:
    """All of them, and the owner of everything they started. deliver: what to do with the answers of a variant;
    record: told of what shadows answered."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        dice: random.Random,
        *,
        deliver: Deliver,
        record: Callable[[Run], None],
    ) -> None:
        self._metrics = metrics
        self._wires = Wires(settings, metrics, dice, deliver=deliver, record=record)
        self._models: dict[str, LiveModel] = {}
        self._variants: dict[str, dict[Identity, LiveVariant]] = {}
        self._heirs: dict[str, Heir] = {}
        self._watchers: list[Callable[[], None]] = []

    def watch(self, changed: Callable[[], None]) -> None:
        """changed: called after each change of routing, for those who remember something of a model."""
        self._watchers.append(changed)

    @property
    def names(self) -> list[str]:
        return sorted(self._models)

    @property
    def is_ready(self) -> bool:
        return any(model.state.is_ready for model in self._models.values())

    def get(self, name: str) -> LiveModel | None:
        return self._models.get(name)

    def awaits(self, record: RoutingRecord, profiles: dict[str, Profile]) -> bool:
        """Whether a record should be put in force a little later: its champion is new, and cannot be asked from here
        yet (a Service's name may resolve late), while the old champion can."""
        model = self._models.get(record.name)
        identity = identity_of(record.champion)
        if model is None or not model.state.takes_requests(split.CHAMPION):
            return False
        if identity_of(model.state.record.champion) == identity:
            return False
        now = asyncio.get_running_loop().time()
        heir = self._heirs.get(record.name)
        if heir is None or identity_of(heir.live.routed) != identity:
            self._dismiss_heir(record.name)
            known = self._variants.get(record.name, {}).get(identity)
            live = known or self._wires.connect(record.name, record.champion)
            heir = self._heirs[record.name] = Heir(live, now, is_new=known is None)
        live = heir.live
        live.upstream.use(record.champion.endpoints)  # it may have moved since it was last heard of
        if record.champion.profile in profiles:
            live.learn(profiles[record.champion.profile])
        else:
            self._start_discovery(record.name, live)
        return not (live.upstream.is_up and live.signature is not None) and now - heir.since < _PATIENCE_S

    def adopt(self, record: RoutingRecord, profiles: dict[str, Profile]) -> None:
        """Put a record in force."""
        old = self._variants.get(record.name, {})
        new: dict[Identity, LiveVariant] = {}
        for routed in record.variants:
            identity = identity_of(routed)
            live = old.get(identity) or self._heir(record.name, identity) or self._wires.connect(record.name, routed)
            self._wires.follow(live, routed)
            if routed.profile in profiles:
                live.learn(profiles[routed.profile])
            new[identity] = live
        self._variants[record.name] = new
        self._dismiss_heir(record.name)
        self._assemble(record)
        for gone in set(old) - set(new):
            self._wires.retire(old[gone])
        for name in {live.routed.name for live in old.values()} - {live.routed.name for live in new.values()}:
            self._metrics.forget(record.name, name)
        for live in new.values():
            self._start_discovery(record.name, live)

    def withdraw(self, name: str) -> None:
        """Serve a model no longer. What is on its way still gets its answer."""
        self._dismiss_heir(name)
        for live in self._variants.pop(name).values():
            self._wires.retire(live)
            self._metrics.forget(name, live.routed.name)
        del self._models[name]
        self._metrics.forget_model(name)
        for changed in self._watchers:
            changed()

    async def close(self) -> None:
        """Stop copies and connections now."""
        live = [variant for variants in self._variants.values() for variant in variants.values()]
        live += [heir.live for heir in self._heirs.values() if heir.is_new]
        await self._wires.close(live)

    def _heir(self, model: str, identity: Identity) -> LiveVariant | None:
        """The champion that was prepared for this moment."""
        heir = self._heirs.get(model)
        if heir is None or not heir.is_new or identity_of(heir.live.routed) != identity:
            return None
        del self._heirs[model]
        return heir.live

    def _dismiss_heir(self, model: str) -> None:
        heir = self._heirs.pop(model, None)
        if heir is not None and heir.is_new:
            self._wires.retire(heir.live)
            name = heir.live.routed.name
            if name not in {live.routed.name for live in self._variants[model].values()}:
                self._metrics.forget(model, name)

    def _assemble(self, record: RoutingRecord) -> None:
        state = state_of(record, self._variants[record.name].values())
        model = self._models.get(record.name)
        if model is None:
            self._models[record.name] = LiveModel(record.name, state, self._metrics)
        else:
            model.state = state
        for changed in self._watchers:
            changed()

    def _start_discovery(self, model: str, live: LiveVariant) -> None:
        """Of a variant without a profile."""
        if live.signature is None and live.discovery is None:
            live.discovery = asyncio.create_task(self._discover(model, live), name=f"discover {live.routed.name}")

    async def _discover(self, model: str, live: LiveVariant) -> None:
        await live.discover()
        logger.info("signature known", extra={"model": model, "variant": live.routed.name})
        self._assemble(self._models[model].state.record)
