"""What is served right now: for each model one immutable state, replaced whole when routing changes.

A request takes the state once and keeps it to its end, so it never sees half of a change. Variants that
stay the same from record to record keep their connections, their breaker and what was learnt of them.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kingmaker_contracts import keys
from kingmaker_contracts.profile import Profile
from kingmaker_contracts.routing import RoutedVariant, RoutingRecord
from kingmaker_gateway import answerers, answers, batch, signature, split
from kingmaker_gateway.answerers import Answerer
from kingmaker_gateway.batch import Batch, Vocabulary
from kingmaker_gateway.breaker import Breaker
from kingmaker_gateway.envelope import Run
from kingmaker_gateway.errors import UpstreamError
from kingmaker_gateway.metrics import Metrics, VariantMetrics
from kingmaker_gateway.settings import Settings
from kingmaker_gateway.shadow import Shadow
from kingmaker_gateway.signature import Signature
from kingmaker_gateway.split import Table
from kingmaker_gateway.upstream import OnFrame, Upstream

logger = logging.getLogger(__name__)

_DISCOVERY_S = (0.1, 2.0)
_PATIENCE_S = 10.0
"""How long a record waits for its new champion to be reachable from here, while the old one is."""
_MOST_FITS = 64


class Fits(NamedTuple):
    """by_variant: champion first; bits: as contracts.events has it, bit i for variants[i + 1]; eligible: whether a
    variant may be given the request as far as its inputs go: one that is not understood yet is unavailable, which is
    not the same as not fitting."""

    by_variant: list[bool]
    bits: int
    eligible: list[bool]


class Head(NamedTuple):
    """routed: who answered and why; json: the same, of an answer that is JSON as a whole."""

    routed: tuple[tuple[bytes, bytes], ...]
    json: tuple[tuple[bytes, bytes], ...]


class LiveVariant:
    """One variant's connections and health, for as long as its identity (name, version, package) stays."""

    def __init__(self, routed: RoutedVariant, upstream: Upstream, breaker: Breaker, counts: VariantMetrics) -> None:
        self.routed = routed
        self.upstream = upstream
        self.breaker = breaker
        self.counts = counts
        self.profile: Profile | None = None
        self.signature: Signature | None = None
        self.shadow: Shadow | None = None
        self.discovery: asyncio.Task[None] | None = None

    def learn(self, profile: Profile) -> None:
        """A profile's word counts more than the model server's."""
        if profile is not self.profile:
            self.profile = profile
            self.signature = signature.from_profile(profile)


class Heir(NamedTuple):
    """A champion that is to be, since when it is waited for, and whether it was started for that."""

    live: LiveVariant
    since: float
    is_new: bool


@dataclass(slots=True, frozen=True)
class State:
    """One record in force. Tuples are by variant, champion first.

    signatures: None where nothing is known yet, or where it contradicts an earlier one's; vocabularies: what a request
    to that target may say; mirrors: (index, percent) of the shadows; sticky_header: in lower case; deadline_s: the
    model's own; is_sticky: callers may have a key; known_inputs: how many inputs some variant takes; fits_whole: of a
    request that has them all and no missing value; fits, heads: what was worked out for one request and holds for those
    like it, see `fits_of`, `head_of`.
    """

    record: RoutingRecord
    table: Table
    variants: tuple[LiveVariant, ...]
    signatures: tuple[Signature | None, ...]
    answerers: tuple[Answerer, ...]
    vocabularies: tuple[Vocabulary | None, ...]
    mirrors: tuple[tuple[int, int], ...]
    sticky_header: bytes | None
    deadline_s: float
    is_sticky: bool
    known_inputs: int
    fits_whole: "Fits"
    fits: dict[tuple[str, ...], "Fits"] = field(default_factory=dict)
    heads: dict[tuple[int, str], "Head"] = field(default_factory=dict)

    @property
    def is_ready(self) -> bool:
        """Routing is known, because this exists; and so is what the champion takes."""
        return self.signatures[split.CHAMPION] is not None

    def fits_of(self, batch: Batch) -> "Fits":
        """Which variants have all their inputs in a batch, and may have its missing values."""
        if batch.nulls:
            return _fits(self.signatures, batch)
        if batch.columns is not None and len(batch.columns) == self.known_inputs:
            return self.fits_whole
        names = tuple(batch.columns or batch.names)
        known = self.fits.get(names)
        if known is None:
            known = _fits(self.signatures, batch)
            if len(self.fits) < _MOST_FITS:
                self.fits[names] = known
        return known

    def head_of(self, variant: int, reason: str) -> "Head":
        """The headers that say who answered and why."""
        known = self.heads.get((variant, reason))
        if known is None:
            by = self.answerers[variant]
            routed = (
                (b"x-variant", _header_value(by.variant)),
                (b"x-model-version", _header_value(by.version)),
                (b"x-route-reason", reason.encode()),
            )
            known = self.heads[variant, reason] = Head(routed, (*routed, answers.JSON))
        return known

    def takes_requests(self, index: int) -> bool:
        """Whether a variant is loaded, understood and reachable as far as this gateway knows."""
        return self.signatures[index] is not None and self.variants[index].upstream.is_up

    def takes_traffic(self, index: int, now: float) -> bool:
        """The same of requests that the split sends, which a sick challenger does not get."""
        return self.takes_requests(index) and self.variants[index].breaker.would_admit(now)


class LiveModel:
    """One served model. state is replaced, the rest stays."""

    def __init__(self, name: str, state: State, metrics: Metrics) -> None:
        self.name = name
        self.state = state
        self.in_flight = 0
        self.unrouted = metrics.variant(name, "")
        metrics.in_flight.labels(name).set_function(lambda: self.in_flight)
        metrics.ready.labels(name).set_function(lambda: self.state.takes_requests(split.CHAMPION))


class Models:
    """All of them, and the owner of everything they started. on_frame: told of each frame a variant answered;
    record: told of what shadows answered."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        dice: random.Random,
        *,
        on_frame: OnFrame,
        record: Callable[[Run], None],
    ) -> None:
        self._settings = settings
        self._on_frame = on_frame
        self._record = record
        self._metrics = metrics
        self._dice = dice
        self._models: dict[str, LiveModel] = {}
        self._variants: dict[str, dict[tuple[str, ...], LiveVariant]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._heirs: dict[str, Heir] = {}
        self.routing = object()
        """Another one after each change, for those who remember something of a model."""

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
        identity = _identity(record.champion)
        if model is None or not model.state.takes_requests(split.CHAMPION):
            return False
        if _identity(model.state.record.champion) == identity:
            return False
        now = asyncio.get_running_loop().time()
        heir = self._heirs.get(record.name)
        if heir is None or _identity(heir.live.routed) != identity:
            self._dismiss_heir(record.name)
            known = self._variants.get(record.name, {}).get(identity)
            live = known or self._start(record.name, record.champion)
            heir = self._heirs[record.name] = Heir(live, now, is_new=known is None)
        live = heir.live
        if record.champion.profile in profiles:
            live.learn(profiles[record.champion.profile])
        elif live.signature is None and live.discovery is None:
            live.discovery = asyncio.create_task(self._discover(record.name, live), name=f"discover {live.routed.name}")
        return not (live.upstream.is_up and live.signature is not None) and now - heir.since < _PATIENCE_S

    def adopt(self, record: RoutingRecord, profiles: dict[str, Profile]) -> None:
        """Put a record in force."""
        old = self._variants.get(record.name, {})
        new: dict[tuple[str, ...], LiveVariant] = {}
        for routed in record.variants:
            identity = _identity(routed)
            live = old.get(identity) or self._heir(record.name, identity) or self._start(record.name, routed)
            live.routed = routed
            live.upstream.use(routed.endpoints)
            if routed.profile in profiles:
                live.learn(profiles[routed.profile])
            self._set_shadow(live)
            new[identity] = live
        self._variants[record.name] = new
        self._dismiss_heir(record.name)
        self._assemble(record)
        for gone in set(old) - set(new):
            self._retire(old[gone])
        for name in {live.routed.name for live in old.values()} - {live.routed.name for live in new.values()}:
            self._metrics.forget(record.name, name)
        for live in new.values():
            if live.signature is None and live.discovery is None:
                live.discovery = asyncio.create_task(
                    self._discover(record.name, live), name=f"discover {live.routed.name}"
                )

    async def close(self) -> None:
        """Stop copies and connections now."""
        live = [variant for variants in self._variants.values() for variant in variants.values()]
        live += [heir.live for heir in self._heirs.values() if heir.is_new]
        tasks = [variant.discovery for variant in live if variant.discovery]
        for task in tasks:
            task.cancel()
        shadows = [variant.shadow.close() for variant in live if variant.shadow]
        await asyncio.gather(*tasks, *self._closing, *shadows, return_exceptions=True)
        await asyncio.gather(*(variant.upstream.close() for variant in live))

    def _heir(self, model: str, identity: tuple[str, ...]) -> LiveVariant | None:
        """The champion that was prepared for this moment."""
        heir = self._heirs.get(model)
        if heir is None or not heir.is_new or _identity(heir.live.routed) != identity:
            return None
        del self._heirs[model]
        return heir.live

    def _dismiss_heir(self, model: str) -> None:
        heir = self._heirs.pop(model, None)
        if heir is not None and heir.is_new:
            self._retire(heir.live)

    def _start(self, model: str, routed: RoutedVariant) -> LiveVariant:
        counts = self._metrics.variant(model, routed.name)
        breaker = Breaker(self._settings.breaker)
        counts.breaker_state.set_function(lambda: breaker.state)
        upstream = Upstream(routed.model_name, routed.endpoints, self._settings.upstream, self._dice, self._on_frame)
        return LiveVariant(routed, upstream, breaker, counts)

    def _shadow(self, live: LiveVariant) -> Shadow:
        """Over connections of its own."""
        settings, routed = self._settings, live.routed
        own = settings.upstream.model_copy(update={"connections": settings.shadow.connections})
        upstream = Upstream(routed.model_name, routed.endpoints, own, self._dice, _nothing)
        return Shadow(upstream, settings.shadow, live.counts, self._record)

    def _set_shadow(self, live: LiveVariant) -> None:
        wanted = live.routed.role == "challenger" and live.routed.mirror > 0
        if wanted and live.shadow is None:
            live.shadow = self._shadow(live)
        elif wanted and live.shadow is not None:
            live.shadow.upstream.use(live.routed.endpoints)
        elif live.shadow is not None:
            self._close_later(live.shadow)
            live.shadow = None

    def _retire(self, live: LiveVariant) -> None:
        live.upstream.retire()
        if live.discovery is not None:
            live.discovery.cancel()
        if live.shadow is not None:
            self._close_later(live.shadow)

    def _close_later(self, shadow: Shadow) -> None:
        task = asyncio.create_task(shadow.close(), name="close shadow")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _assemble(self, record: RoutingRecord) -> None:
        table = split.build(record)
        by_name = {live.routed.name: live for live in self._variants[record.name].values()}
        variants = tuple(by_name[name] for name in table.variants)
        champion = variants[split.CHAMPION].signature
        signatures = _agreed(record.name, variants)
        sticky = record.sticky.name if record.sticky.source == "Feature" else None
        known = [s for s in signatures if s is not None]
        state = State(
            record=record,
            table=table,
            variants=variants,
            signatures=signatures,
            answerers=tuple(_answerer(record, live, table) for live in variants),
            vocabularies=tuple(
                None if target is None or champion is None else batch.vocabulary(target, champion, known, sticky)
                for target in signatures
            ),
            mirrors=tuple((i, v.routed.mirror) for i, v in enumerate(variants) if v.shadow is not None),
            sticky_header=(record.sticky.name or "").lower().encode("latin-1", "replace")
            if record.sticky.source == "Header"
            else None,
            deadline_s=record.limits.deadline_ms / 1000,
            known_inputs=len({name for signature in known for name in signature.inputs}),
            fits_whole=fits_from([signature is not None for signature in signatures], signatures),
            is_sticky=record.sticky.source in ("Header", "Feature"),
        )
        self.routing = object()
        model = self._models.get(record.name)
        if model is None:
            self._models[record.name] = LiveModel(record.name, state, self._metrics)
        else:
            model.state = state

    async def _discover(self, model: str, live: LiveVariant) -> None:
        """Ask the model server what it takes until it says so, or until a profile does."""
        loop = asyncio.get_running_loop()
        pause, longest = _DISCOVERY_S
        while live.profile is None:
            try:
                found = signature.from_metadata(await live.upstream.metadata(loop.time() + 1.0))
                live.signature = live.signature or found  # a profile may have come meanwhile
                break
            except (UpstreamError, ValueError) as error:
                if pause < longest:
                    logger.info("no signature yet", extra={"variant": live.routed.name, "reason": str(error)})
                await asyncio.sleep(pause)
                pause = min(longest, pause * 2)
        logger.info("signature known", extra={"model": model, "variant": live.routed.name})
        self._assemble(self._models[model].state.record)


def _identity(routed: RoutedVariant) -> tuple[str, ...]:
    """What makes a variant another one, with connections of its own."""
    return routed.name, routed.version, routed.model_name, routed.profile or ""


def _header_value(text: str) -> bytes:
    """A name from a record, whatever it holds, on one line."""
    return "".join(c if c.isprintable() else "?" for c in text).encode("latin-1", "replace")


def _nothing(*_: object) -> None:
    """What a shadow's frames lead to."""


def _fits(signatures: tuple[Signature | None, ...], batch: Batch) -> Fits:
    return fits_from([signature is not None and batch.fits(signature) for signature in signatures], signatures)


def fits_from(by_variant: list[bool], signatures: tuple[Signature | None, ...]) -> Fits:
    bits = sum(1 << i for i, fits in enumerate(by_variant[1:9]) if fits)
    eligible = [fits or signature is None for fits, signature in zip(by_variant, signatures, strict=True)]
    return Fits(by_variant, bits, eligible)


def _agreed(model: str, variants: Sequence[LiveVariant]) -> tuple[Signature | None, ...]:
    """The variants' signatures, None when one is unknown or does not go together with the champion's, or with those
    before it: a request is read once, so an input has one type for all who get it."""
    agreed: list[Signature | None] = []
    for live in variants:
        mine = live.signature
        conflicts = [text for other in agreed if mine and other for text in mine.conflicts(other)]
        if conflicts and not live.counts.mismatched:
            logger.warning(
                "signature mismatch, the variant gets no traffic",
                extra={"model": model, "variant": live.routed.name, "conflicts": "; ".join(conflicts)},
            )
        live.counts.set_mismatch(bool(conflicts))
        agreed.append(None if conflicts else mine)
    return tuple(agreed)


def _answerer(record: RoutingRecord, live: LiveVariant, table: Table) -> Answerer:
    known, labels = answerers.codes_of(live.profile)
    return Answerer(
        model=keys.model_id(record.namespace, record.name),
        revision=record.revision,
        epoch=record.epoch,
        rollout=record.rollout_id,
        variant=live.routed.name,
        version=live.routed.version,
        role=live.routed.role,
        variants=table.variants,
        schema=(live.routed.profile or "") if live.profile else "",
        profile=live.profile,
        known_codes=known,
        label_codes=labels,
    )
