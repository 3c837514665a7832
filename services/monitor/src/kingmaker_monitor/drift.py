"""Columns of a profile and what was counted of them, as evidence of drift. The statistics are `stats.drift` and
`stats.verdict`; this file knows the profile's bins on one side and the contract's words on the other."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kingmaker_contracts.evidence import DriftVerdict, FeatureDrift
from kingmaker_monitor.binning import Column, Numeric
from kingmaker_monitor.stats import drift, layout
from kingmaker_monitor.stats.verdict import Level, levels

NO_DATA: Final = FeatureDrift(verdict="NoData", n=0)
VERDICTS: Final[dict[int, DriftVerdict]] = {
    Level.NO_DATA: "NoData",
    Level.STABLE: "Stable",
    Level.WARNING: "Warning",
    Level.DRIFTED: "Drifted",
}


def of_columns(
    columns: Sequence[tuple[str, Column | None]], counts: Mapping[str, NDArray[np.int64]]
) -> dict[str, FeatureDrift]:
    """Drift of each column against training. counts: by name, as `column.count` gives them.

    All columns of a look belong into one call: significance is corrected for their number.
    """
    known = {name: column for name, column in columns if column is not None}
    plan = layout.Layout([_column(column) for column in known.values()])
    block = plan.block([_vector(column, counts[name]) for name, column in known.items()])
    found = drift.measure(plan, block)
    verdicts = levels(found)
    judged = {name: _evidence(found, verdicts, i) for i, name in enumerate(known)}
    return {name: judged.get(name, NO_DATA) for name, _ in columns}


def of_column(column: Column, counts: NDArray[np.int64]) -> FeatureDrift:
    """Drift of a column that stands for itself, such as the score."""
    return of_columns([("", column)], {"": counts})[""]


def _evidence(found: drift.Measures, verdicts: NDArray[np.int8], i: int) -> FeatureDrift:
    n = int(found.n[i])
    if n == 0:
        return NO_DATA
    return FeatureDrift(
        verdict=VERDICTS[int(verdicts[i])],
        n=n,
        psi=_number(found.psi.value[i]),
        psi_corrected=_number(found.psi.corrected[i]),
        noise=_number(found.psi.noise[i]),
        ks=_number(found.ks.statistic[i]),
        missing=_number(found.missing[i]),
    )


def _number(value: np.float64) -> float | None:
    """A number that does not exist is null in evidence, never NaN."""
    return float(value) if np.isfinite(value) else None


def _column(column: Column) -> layout.Column:
    if isinstance(column, Numeric):
        return layout.Numeric(
            edges=column.edges,
            reference=np.append(column.reference, [column.missing, 0, 0]),
            minimum=column.minimum,
            maximum=column.maximum,
            std=np.nan,
        )
    return layout.Categorical(np.append(column.reference, [0, column.missing]))


def _vector(column: Column, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ingest counts rare and new categories together; they are new when training had no rare ones."""
    if isinstance(column, Numeric):
        return counts
    unseen = counts[column.bins - 1]
    pair = [unseen, 0] if column.reference[-1] else [0, unseen]
    return np.concatenate([counts[: column.bins - 1], pair, counts[column.bins :]])
