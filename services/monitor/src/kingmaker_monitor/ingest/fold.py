"""Batches of predictions into counts, with numpy and never row by row.

Who gets a row counted: `assigned`, `fallbacks` and `ineligible` belong to the variant the split meant, all
else to the variant that answered. An override was not the split's doing and is assigned to nobody.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kingmaker_contracts.events import BadEnvelope, EventBatch
from kingmaker_contracts.labels import ASSIGNED_BY_SPLIT, REASONS
from kingmaker_monitor import segments
from kingmaker_monitor.aggregates import AS, ROWS, Aggregate, as_name, new_rows
from kingmaker_monitor.binning import SCORE, Binning, Categorical, Numeric
from kingmaker_monitor.stats import latency

SHADOW: Final = REASONS.index("shadow")
_FALLBACK: Final = REASONS.index("fallback")
_INELIGIBLE: Final = REASONS.index("ineligible")
_OVERRIDE: Final = REASONS.index("override")
FAIR: Final = np.array([reason in ASSIGNED_BY_SPLIT for reason in REASONS])
"""By reason code: whether the row may be compared with others."""
FAILED: Final = 500
"""A status from here on is an error of the variant: such a row is no prediction."""


@dataclass(slots=True)
class Rows:
    """Rows of one or more batches with the same header: answering variant, variants in order, schema, and which
    features, or columns of blocks, are withheld."""

    variants: list[str]
    columns: dict[str, NDArray[Any]]
    features: NDArray[np.float32]
    withheld: frozenset[str] = frozenset()

    def of(self, chosen: NDArray[np.bool_]) -> "Rows":
        """Some of the rows."""
        columns = {name: column[chosen] for name, column in self.columns.items()}
        return Rows(self.variants, columns, self.features[:, chosen], self.withheld)

    @property
    def shadow(self) -> NDArray[np.bool_]:
        return np.asarray(self.columns["reason"] == SHADOW)

    @property
    def failed(self) -> NDArray[np.bool_]:
        return np.asarray(self.columns["status"] >= FAILED)


@dataclass(slots=True)
class Also:
    """A champion's live rows in the bins of its challengers, where those cut a column otherwise: only so can a
    challenger be held against concurrent champion traffic, bin by bin.

    columns: by feature, the arrays to count beside its own; scores: likewise.
    """

    columns: dict[str, list[tuple[str, Numeric]]] = field(default_factory=dict)
    scores: list[tuple[str, Numeric]] = field(default_factory=list)


def also_for(champion: Binning, challengers: dict[str, Binning]) -> Also:
    """challengers: their profiles by sha256."""
    found = Also()
    for schema, challenger in challengers.items():
        for name, column in challenger.columns:
            own = champion.column(name)
            if isinstance(column, Numeric) and isinstance(own, Numeric) and not own.is_cut_like(column):
                found.columns.setdefault(name, []).append((as_name(schema, name), column))
        if champion.score and challenger.score and not champion.score.is_cut_like(challenger.score):
            found.scores.append((as_name(schema, SCORE), challenger.score))
    return found


def check(batch: EventBatch) -> None:
    """Refuse what would read outside an array later. Raises BadEnvelope."""
    reasons, assigned = batch.columns["reason"], batch.columns["assigned"]
    if int(reasons.max()) >= len(REASONS):
        raise BadEnvelope(f"reason {int(reasons.max())}, expected below {len(REASONS)}")
    if int(assigned.max()) >= len(batch.variants):
        raise BadEnvelope(f"a row is assigned to variant {int(assigned.max())} of {len(batch.variants)}")
    if batch.seq < 1 or batch.sent < 0 or batch.dropped < 0:
        raise BadEnvelope(f"seq {batch.seq}, sent {batch.sent}, dropped {batch.dropped}: none may be below its start")
    if not 0 <= batch.t0 < 1 << 48:
        raise BadEnvelope(f"t0 {batch.t0} is no time in unix milliseconds")


def without_rare(rows: Rows, binning: Binning | None, told: Sequence[str]) -> Rows:
    """Rows of a gateway that does not know the rare categories its profile keeps: all that is not named counts as rare,
    for its codes would be read as new. told: features whose rare categories it did know."""
    if binning is None or not fits(rows, binning):
        return rows
    most = {i: column.bins - 1 for i, (name, column) in enumerate(binning.columns)
            if isinstance(column, Categorical) and column.rare is not None and name not in told}  # fmt: skip
    if not most:
        return rows
    features = rows.features.copy()
    for i, code in most.items():
        np.minimum(features[i], code, out=features[i])
    return Rows(rows.variants, rows.columns, features, rows.withheld)


def join(batches: list[EventBatch]) -> Rows:
    """Batches with the same header as one."""
    first = batches[0]
    withheld = frozenset(first.withheld)
    if len(batches) == 1:
        return Rows(first.variants, first.columns, first.features, withheld)
    columns = {name: np.concatenate([batch.columns[name] for batch in batches]) for name in first.columns}
    return Rows(first.variants, columns, np.concatenate([batch.features for batch in batches], axis=1), withheld)


def of_answering(rows: Rows, binning: Binning | None, also: Also | None = None) -> Aggregate:
    """What the variant that answered gets. binning: None when its profile is not known; also: see `Also`."""
    result = Aggregate()
    shadow, failed = rows.shadow, rows.failed
    live = ~shadow
    counts = new_rows()
    counts[ROWS.index("answered")] = np.count_nonzero(live)
    counts[ROWS.index("errors")] = np.count_nonzero(live & failed)
    counts[ROWS.index("shadowed")] = np.count_nonzero(shadow)
    counts[ROWS.index("shadow_errors")] = np.count_nonzero(shadow & failed)
    if not (fits(rows, binning) or _is_bare(rows, binning)):
        counts[ROWS.index("unprofiled")] = len(shadow)
    result.add("rows", counts)
    for kind, chosen in (("live", live), ("shadow", shadow)):
        if not chosen.any():
            continue
        took = rows.columns["latency"][chosen]
        result.add(f"latency.{kind}", latency.histogram(took[took > 0]))  # 0: no server was reached
        if binning is not None and fits(rows, binning):
            features = rows.features if chosen.all() else rows.features[:, chosen]
            _features(result, kind, features, binning, also, rows.withheld)
        _scores(result, kind, rows.columns["score"][chosen & ~failed], binning, also)
        _classes(result, kind, rows.columns["label"][chosen & ~failed], binning)
    return result


def fits(rows: Rows, binning: Binning | None) -> bool:
    """Whether the profile describes these features."""
    return binning is not None and rows.features.shape[0] == binning.width and binning.width > 0


def of_segments(rows: Rows, binning: Binning, features: Sequence[str]) -> list[list[tuple[str, NDArray[np.bool_]]]]:
    """By feature, its segments that occur and which rows are theirs. A feature that cannot segment (see
    `segments.fault`) is left out."""
    found = []
    for i, (name, _) in enumerate(binning.columns):
        if name in features and not _is_withheld(name, rows.withheld) and segments.fault(binning, name) is None:
            found.append(segments.split(binning, name, rows.features[i]))
    return found


def _is_withheld(column: str, withheld: Set[str]) -> bool:
    """Whether it, or the block it is of, is named."""
    return bool(withheld) and (column in withheld or (column.endswith("]") and column.rpartition("[")[0] in withheld))


def of_assigned(rows: Rows) -> dict[str, Aggregate]:
    """What the variants get that the split meant, by name."""
    reason, assigned = rows.columns["reason"], rows.columns["assigned"]
    meant = (reason != SHADOW) & (reason != _OVERRIDE)
    size = len(rows.variants)
    table = np.zeros((size, len(ROWS)), np.int64)
    table[:, ROWS.index("assigned")] = np.bincount(assigned[meant], minlength=size)
    table[:, ROWS.index("fallbacks")] = np.bincount(assigned[reason == _FALLBACK], minlength=size)
    table[:, ROWS.index("ineligible")] = np.bincount(assigned[reason == _INELIGIBLE], minlength=size)
    return {name: Aggregate({"rows": table[i]}) for i, name in enumerate(rows.variants) if table[i].any()}


def _is_bare(rows: Rows, binning: Binning | None) -> bool:
    """Whether these came without features, as copies that failed do, and not with some the profile does not know."""
    return binning is not None and not len(rows.features)


def _features(  # noqa: PLR0917 - once a batch
    result: Aggregate,
    kind: str,
    features: NDArray[np.float32],
    binning: Binning,
    also: Also | None,
    withheld: frozenset[str],
) -> None:
    extra = also.columns if also is not None and kind == "live" else {}
    if withheld:  # nobody knows their values, which is not the same as that they had none
        extra = {name: bins for name, bins in extra.items() if not _is_withheld(name, withheld)}
    for name, counts in binning.count(features, extra).items():
        if _is_withheld(name, withheld):
            continue
        result.add(name if name.startswith(AS) else f"{kind}/{name}", counts)


def _scores(
    result: Aggregate, kind: str, scores: NDArray[np.float32], binning: Binning | None, also: Also | None
) -> None:
    known = scores[np.isfinite(scores)]
    if not len(known):
        return
    result.add(f"score.{kind}", np.array([known.sum(dtype=np.float64), len(known)]))
    if binning is None or binning.score is None:
        return
    known.sort()
    result.add(f"{kind}/{SCORE}", binning.score.count_sorted(known))
    if also is not None and kind == "live":
        for name, column in also.scores:
            result.add(name, column.count_sorted(known))


def _classes(result: Aggregate, kind: str, codes: NDArray[np.uint8], binning: Binning | None) -> None:
    """Rows by predicted class; the last count is of those that name none."""
    labels = len(binning.score_meaning.labels) if binning is not None and binning.score_meaning else 0
    if labels and len(codes):
        counted = np.bincount(np.minimum(codes, labels), minlength=labels + 1).astype(np.int64)
        result.add(f"classes.{kind}", counted)
