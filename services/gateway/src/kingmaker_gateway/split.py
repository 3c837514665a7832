"""Which variant answers a request, and why: a pure function of the record, the caller's key and the rules.

The order of the rules is part of the API: an override is obeyed first; then the bucket decides; a
challenger that lacks an input of the request is passed over for the champion, and so is one that is
not available. The assignment is reported beside the choice, because a passed-over challenger's rows
still count as assigned to it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from kingmaker_contracts import buckets
from kingmaker_contracts.labels import Reason
from kingmaker_contracts.routing import RoutingRecord

CHAMPION: Final = 0


class Choice(NamedTuple):
    """variant: index of who answers; assigned: index of who the split meant; both into Table.variants."""

    variant: int
    assigned: int
    reason: Reason


@dataclass(slots=True, frozen=True)
class Table:
    """One record, ready to look up. variants: names, champion first; owner: variant index of each bucket;
    is_split: some bucket is a challenger's; by_weight, by_key: the choice of each variant that simply answers."""

    variants: tuple[str, ...]
    owner: bytes
    salt: str
    is_split: bool
    by_weight: tuple[Choice, ...] = field(init=False)
    by_key: tuple[Choice, ...] = field(init=False)
    owners: Callable[[Sequence[bytes]], list[int]] = field(init=False)

    def __post_init__(self) -> None:
        indexes = range(len(self.variants))
        object.__setattr__(self, "by_weight", tuple(Choice(i, i, "weight") for i in indexes))
        object.__setattr__(self, "by_key", tuple(Choice(i, i, "sticky") for i in indexes))
        object.__setattr__(self, "owners", buckets.owners(self.salt, self.owner))

    def assigned(self, names: Sequence[bytes]) -> list[int]:
        """Who the split means to answer, for each name: a caller's key, or a prediction id's text."""
        if not self.is_split:
            return [CHAMPION] * len(names)
        return self.owners(names)


def build(record: RoutingRecord) -> Table:
    """The lookup of a record: 10,000 bytes, one a bucket, so that a request costs one hash and one index."""
    challengers = [variant.name for variant in record.variants if variant.role == "challenger"]
    variants = (record.champion.name, *challengers)
    owner = bytearray(buckets.COUNT)
    for name, ranges in buckets.parse(record.ranges).items():
        index = variants.index(name)
        for first, last in ranges:
            owner[first : last + 1] = bytes((index,)) * (last + 1 - first)
    return Table(variants, bytes(owner), record.sticky.salt, any(owner))


def choose(  # noqa: PLR0917 - by position, for it is asked for every request
    table: Table,
    assigned: int,
    is_keyed: bool,
    override: int | None,
    eligible: Sequence[bool],
    available: Callable[[int, float], bool],
    now: float,
) -> Choice:
    """Who answers.

    assigned: see Table.assigned; is_keyed: by the caller's key; override: index of the variant that was asked for;
    eligible[i]: the request has every input of variant i; available(i, now): variant i takes traffic.
    Neither is asked about the champion: it answers whatever nobody else may.
    """
    if override is not None:
        return Choice(override, override, "override")
    if assigned != CHAMPION:
        if not eligible[assigned]:
            return Choice(CHAMPION, assigned, "ineligible")
        if not available(assigned, now):
            return Choice(CHAMPION, assigned, "fallback")
    return table.by_key[assigned] if is_keyed else table.by_weight[assigned]


def is_mirrored(salt: str, variant: str, percent: int, prediction_id: bytes) -> bool:
    """Whether a copy of this request goes to a shadow. Independent of the split and of the other shadows."""
    if percent in (0, 100):
        return percent == 100
    return buckets.salted(f"{salt}/mirror/{variant}")(prediction_id) < percent * buckets.PER_PERCENT
