"""One record in force: what may be asked of which variant, worked out when the record comes and not for each request.

Immutable but for what it remembers of requests that are alike. A request takes the state once and keeps it to its end,
so it never sees half of a change.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kingmaker_contracts import keys
from kingmaker_contracts.routing import RoutingRecord
from kingmaker_gateway import answerers, answers, batch, split
from kingmaker_gateway.answerers import Answerer
from kingmaker_gateway.batch import Batch, Vocabulary
from kingmaker_gateway.signature import Signature
from kingmaker_gateway.split import Table
from kingmaker_gateway.variants import LiveVariant

logger = logging.getLogger(__name__)

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


@dataclass(slots=True, frozen=True, eq=False)
class State:
    """One record in force. Tuples are by variant, champion first.

    signatures: None where nothing is known yet, or where it contradicts an earlier one's; vocabularies: what a request
    to that target may say; mirrors: (index, percent) of the shadows; sticky_header: in lower case; deadline_s: the
    model's own; is_sticky: callers may have a key; fits_whole: of a request that has every input some variant takes,
    and no missing value; fits, heads: what was worked out for one request and holds for those like it, see `fits_of`,
    `head_of`.
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
    fits_whole: Fits
    fits: dict[tuple[str, ...], Fits] = field(default_factory=dict)
    heads: dict[tuple[int, str], Head] = field(default_factory=dict)

    @property
    def is_ready(self) -> bool:
        """Routing is known, because this exists; and so is what the champion takes."""
        return self.signatures[split.CHAMPION] is not None

    def fits_of(self, batch: Batch) -> Fits:
        """Which variants have all their inputs in a batch, and may have its missing values."""
        if batch.is_whole:  # as most are
            return self.fits_whole
        if batch.nulls:
            return _fits(self.signatures, batch)
        names = tuple(batch.names)
        known = self.fits.get(names)
        if known is None:
            known = _fits(self.signatures, batch)
            if len(self.fits) < _MOST_FITS:
                self.fits[names] = known
        return known

    def head_of(self, variant: int, reason: str) -> Head:
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


def state_of(record: RoutingRecord, live_variants: Iterable[LiveVariant]) -> State:
    """live_variants: the record's, in any order, with what is known of them now."""
    table = split.build(record)
    by_name = {live.routed.name: live for live in live_variants}
    variants = tuple(by_name[name] for name in table.variants)
    champion = variants[split.CHAMPION].signature
    signatures = _agreed(record.name, variants)
    sticky = record.sticky.name if record.sticky.source == "Feature" else None
    known = [s for s in signatures if s is not None]
    return State(
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
        fits_whole=fits_from([signature is not None for signature in signatures], signatures),
        is_sticky=record.sticky.source in ("Header", "Feature"),
    )


def fits_from(by_variant: list[bool], signatures: tuple[Signature | None, ...]) -> Fits:
    bits = sum(1 << i for i, fits in enumerate(by_variant[1:9]) if fits)
    eligible = [fits or signature is None for fits, signature in zip(by_variant, signatures, strict=True)]
    return Fits(by_variant, bits, eligible)


def _fits(signatures: tuple[Signature | None, ...], batch: Batch) -> Fits:
    return fits_from([signature is not None and batch.fits(signature) for signature in signatures], signatures)


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
        withheld=answerers.withheld_of(live.profile, record.sensitive),
        withholds_key=record.sticky.source == "Feature" and record.sticky.name in record.sensitive,
    )


def _header_value(text: str) -> bytes:
    """A name from a record, whatever it holds, on one line."""
    return "".join(c if c.isprintable() else "?" for c in text).encode("latin-1", "replace")
