"""Drift tables: a variant's columns in several windows at once, held against training or against the champion.

All windows of a variant are one call of the statistics. A verdict on the last hour takes two of the last three
hours, which are windows like the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kingmaker_contracts.evidence import DriftVerdict
from kingmaker_contracts.report import ClassShare, ColumnDrift, DriftTable
from kingmaker_monitor.aggregates import Aggregate, as_name
from kingmaker_monitor.binning import SCORE, Binning, Categorical, Column, Numeric
from kingmaker_monitor.drift import VERDICTS
from kingmaker_monitor.evidence import both
from kingmaker_monitor.stats import drift, rates, verdict
from kingmaker_monitor.stats.layout import Layout

Counts = NDArray[np.int64]
NO_COLUMN = ColumnDrift(verdict="NoData", now="NoData", n=0, reference_n=0)
_SEVERITY: tuple[DriftVerdict, ...] = ("NoData", "Stable", "Warning", "Drifted")


@dataclass(slots=True, frozen=True)
class Rows:
    """Counts of one variant in one window, and the bins they were counted with."""

    counted: Aggregate
    binning: Binning
    schema: str


def against_training(windows: Sequence[Rows], hours: Sequence[int] = ()) -> list[DriftTable]:
    """A table a window. hours: positions of three hours, oldest first; the newest gets the verdict of all three."""
    return _tables(windows, None, hours)


def against_champion(windows: Sequence[Rows], champion: Sequence[Rows], hours: Sequence[int] = ()) -> list[DriftTable]:
    """The same against the champion's rows of the same windows, in the challenger's bins."""
    return _tables(windows, champion, hours)


def _tables(windows: Sequence[Rows], champion: Sequence[Rows] | None, hours: Sequence[int]) -> list[DriftTable]:
    binning = windows[0].binning
    names = [name for name, _ in binning.known]
    live = np.stack([_features(rows) for rows in windows])
    reference = (
        None if champion is None else np.stack([_as_features(c, w) for c, w in zip(champion, windows, strict=True)])
    )
    found = drift.measure(binning.layout, live, reference)
    now = verdict.levels(found)
    final = _persisted(now, hours)
    importance = np.array([binning.importance.get(name, np.nan) for name in names])
    known = np.isfinite(importance)
    total = verdict.summary(final, found.psi.corrected, importance if known.any() else None)
    columns = _columns(found, final, now)
    predictions = _predictions(windows, champion, hours)
    tables = []
    for i, rows in enumerate(windows):
        table = dict(zip(names, columns[i], strict=True))
        verdicts = [column.verdict for column in columns[i]] + [predictions[i].verdict]
        tables.append(
            DriftTable(
                verdict=max(verdicts, key=_SEVERITY.index),
                judged=int(total.judged[i]),
                drifted=int(total.drifted[i]),
                warned=int(total.warned[i]),
                drifted_share=_number(float(total.drifted_share[i])),
                headline=_number(float(total.headline[i])),
                columns={name: table.get(name, NO_COLUMN) for name, _ in binning.columns},
                prediction=predictions[i],
                classes=None if champion is None else _classes(rows, champion[i]),
            )
        )
    return tables


def _predictions(windows: Sequence[Rows], champion: Sequence[Rows] | None, hours: Sequence[int]) -> list[ColumnDrift]:
    layout = windows[0].binning.score_layout
    if layout is None:
        return [NO_COLUMN] * len(windows)
    live = np.stack([_score(rows, layout) for rows in windows])
    reference = None
    if champion is not None:
        reference = np.stack([_as_score(c, w, layout) for c, w in zip(champion, windows, strict=True)])
    found = drift.measure(layout, live, reference)
    now = verdict.levels(found)
    return [row[0] for row in _columns(found, _persisted(now, hours), now)]


def _persisted(levels: NDArray[np.int8], hours: Sequence[int]) -> NDArray[np.int8]:
    if not hours:
        return levels
    final = levels.copy()
    final[hours[-1]] = verdict.persisted(levels[list(hours)])
    return final


def _features(rows: Rows) -> Counts:
    return rows.binning.layout.block([both(rows.counted, name, column.size) for name, column in rows.binning.known])


def _score(rows: Rows, layout: Layout) -> Counts:
    score = rows.binning.score
    return layout.block([both(rows.counted, SCORE, score.size if score is not None else 0)])


def _as_features(champion: Rows, challenger: Rows) -> Counts:
    """The champion's rows in the challenger's bins. A column the champion does not have has no rows there."""
    vectors = [
        _in_bins_of(champion, champion.binning.column(name), challenger.schema, name, column)
        for name, column in challenger.binning.known
    ]
    return challenger.binning.layout.block(vectors)


def _as_score(champion: Rows, challenger: Rows, layout: Layout) -> Counts:
    column = challenger.binning.score
    if column is None:
        return layout.block([])
    return layout.block([_in_bins_of(champion, champion.binning.score, challenger.schema, SCORE, column)])


def _in_bins_of(champion: Rows, own: Column | None, schema: str, name: str, column: Column) -> Counts:
    if own is None:
        return np.zeros(column.size, np.int64)
    if own.is_cut_like(column):
        return both(champion.counted, name, column.size)
    if isinstance(own, Categorical) and isinstance(column, Categorical):
        return _renamed(both(champion.counted, name, own.size), own, column)
    if isinstance(own, Numeric) and isinstance(column, Numeric):
        return champion.counted.get(as_name(schema, name), column.size)
    return np.zeros(column.size, np.int64)


def _renamed(counts: Counts, own: Categorical, column: Categorical) -> Counts:
    """Categories by name. The champion's rare and new ones were counted without their names: they count as rare and
    new to the other profile too, as far as it tells these apart."""
    found = np.zeros(column.size, np.int64)
    targets = [*(column.slot_of(name) for name in own.names), *column.unnamed, column.size - 1]
    np.add.at(found, targets, counts)
    return found


def _classes(challenger: Rows, champion: Rows) -> dict[str, ClassShare] | None:
    """Predicted classes that both models know, by name."""
    live, reference = _by_class(challenger), _by_class(champion)
    names = [name for name in live if name in reference]
    if not names or not sum(live.values()) or not sum(reference.values()):
        return None
    found = rates.classes(
        np.array([reference[name] for name in names], np.int64), np.array([live[name] for name in names], np.int64)
    )
    return {
        name: ClassShare(
            share=float(found.live[i]),
            reference=float(found.reference[i]),
            change=_number(float(found.change[i])),
            moved=bool(found.has_moved[i]),
        )
        for i, name in enumerate(names)
    }


def _by_class(rows: Rows) -> dict[str, int]:
    labels = rows.binning.score_meaning.labels if rows.binning.score_meaning else []
    size = len(labels) + 1
    counts = rows.counted.get("classes.live", size) + rows.counted.get("classes.shadow", size)
    return dict(zip(labels, counts.tolist(), strict=False))


def _columns(found: drift.Measures, final: NDArray[np.int8], now: NDArray[np.int8]) -> list[list[ColumnDrift]]:
    """By window, then by column."""
    values = {
        "psi": found.psi.value,
        "psi_corrected": found.psi.corrected,
        "noise": found.psi.noise,
        "kl": found.kl,
        "jensen_shannon": found.jensen_shannon,
        "hellinger": found.hellinger,
        "largest_difference": found.largest_difference,
        "chi_square": found.chi_square.statistic,
        "chi_square_p": found.chi_square.p_value,
        "ks": found.ks.statistic,
        "ks_p": found.ks.p_value,
        "wasserstein": found.wasserstein,
        "mean_shift": found.mean_shift,
        "missing": found.missing,
        "reference_missing": found.reference_missing,
        "out_of_range": found.out_of_range,
        "new": found.new,
        "classes_moved": found.classes_moved,
    }
    stacked = np.stack([np.broadcast_to(value, final.shape) for value in values.values()], axis=-1).tolist()
    names = list(values)
    n, reference_n = found.n.tolist(), np.broadcast_to(found.reference_n, final.shape).tolist()
    verdicts, alone = final.tolist(), now.tolist()
    return [
        [
            NO_COLUMN
            if n[w][i] == 0 and reference_n[w][i] == 0
            else _column(verdicts[w][i], alone[w][i], n[w][i], reference_n[w][i], dict(zip(names, row, strict=True)))
            for i, row in enumerate(rows)
        ]
        for w, rows in enumerate(stacked)
    ]


def _column(final: int, now: int, n: int, reference_n: int, values: dict[str, float]) -> ColumnDrift:
    numbers = {name: _number(value) for name, value in values.items()}
    moved = numbers.pop("classes_moved")
    return ColumnDrift(
        verdict=VERDICTS[final],
        now=VERDICTS[now],
        n=n,
        reference_n=reference_n,
        classes_moved=None if moved is None else int(moved),
        **numbers,
    )


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None
