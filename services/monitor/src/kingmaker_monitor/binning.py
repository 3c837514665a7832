"""A profile made ready for counting: the columns of an event's feature block and the frozen bins of each.

Bins come from training and never move: bins cut from the live rows would hide every drift. Behind the
profile's own bins a numeric column has three extras (missing, below the training minimum, above the
maximum), a categorical one two (new, missing). "__score" is the score as one more numeric column.

Numbers are counted by sorting them and looking the edges up in them: numpy sorts float32 with vector
instructions, which takes a third of the time that looking every number up among 200 edges takes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kingmaker_contracts import rare_categories
from kingmaker_contracts.profile import CategoricalReference, NumericReference, Profile, Score, width_of
from kingmaker_contracts.rare_categories import RareNames
from kingmaker_contracts.wire import BadRecord
from kingmaker_monitor.stats import layout as laying
from kingmaker_monitor.stats.layout import Layout

SCORE: Final = "__score"
"""Name of the score's array. A feature of that name would share it; publishing knows no such feature."""
_SORTED_ROWS: Final = 4096
"""Sorted at once: so much of a column fits the processor's first cache, and 20,000 rows take three quarters of the time
that sorting them all together takes."""
MAX_COLUMNS: Final = 200_000
"""A picture of 224 by 224 by 3 has 150,528."""
GRID: Final = np.linspace(0.0, 1.0, 1001)
"""Cut points of the AUC histograms, beside the profile's own score edges."""


@dataclass(slots=True, frozen=True)
class Numeric:
    """A numeric column. reference: shape (bins,), then missing is a slot of its own in counts; mean, std: of training,
    None when it had no number; cuts: what `count` looks up, made of the rest."""

    edges: NDArray[np.float64]
    reference: NDArray[np.int64]
    missing: int
    minimum: float
    maximum: float
    mean: float | None = None
    std: float | None = None
    discrete: bool = False
    cuts: NDArray[np.float32] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        # live values travel as float32: the training minimum itself, rounded, is not below the minimum
        with np.errstate(over="ignore"):
            low = _below(min(self.minimum, float(np.float32(self.minimum))))
            high = _floor(max(self.maximum, float(np.float32(self.maximum))))
        cuts = np.array([*map(_floor, self.edges.tolist()), low, high, np.inf], np.float32)
        object.__setattr__(self, "cuts", cuts)

    @property
    def bins(self) -> int:
        return len(self.reference)

    @property
    def size(self) -> int:
        return self.bins + 3

    def count(self, values: NDArray[np.float32]) -> NDArray[np.int64]:
        """Counts of shape (bins + 3,): the bins, missing, below the minimum, above the maximum."""
        return self.count_sorted(np.sort(values))

    def count_sorted(self, ordered: NDArray[np.float32]) -> NDArray[np.int64]:
        """The same, of rising numbers with NaN behind them all."""
        return self.count_parts([ordered])

    def count_parts(self, parts: Sequence[NDArray[np.float32]]) -> NDArray[np.int64]:
        """The same, of numbers in parts, each of which rises."""
        up_to = np.searchsorted(parts[0], self.cuts, side="right")
        for part in parts[1:]:
            up_to += np.searchsorted(part, self.cuts, side="right")
        bins, present = self.bins, up_to[-1]
        counts = np.empty(self.size, np.int64)
        counts[: bins - 1] = up_to[: bins - 1]
        counts[bins - 1] = present
        counts[1:bins] -= up_to[: bins - 1]
        counts[bins] = sum(map(len, parts)) - present
        counts[bins + 1] = up_to[-3]
        counts[bins + 2] = present - up_to[-2]
        return counts

    def is_cut_like(self, other: "Column") -> bool:
        """Whether counts of both columns may be compared bin by bin."""
        return isinstance(other, Numeric) and np.array_equal(self.edges, other.edges)


@dataclass(slots=True, frozen=True)
class Categorical:
    """A categorical column. names: the codes' categories; reference: shape (categories + 1,), the last is the rarer
    training categories; rare: which those are, and then the code behind the names stands for them. A profile that has
    such and does not know them cannot tell them from new ones: what it does not name is `other` then."""

    names: tuple[str, ...]
    reference: NDArray[np.int64]
    missing: int
    rare: RareNames | None = None

    @property
    def bins(self) -> int:
        return len(self.reference)

    @property
    def size(self) -> int:
        return self.bins + 2

    @property
    def tells_new(self) -> bool:
        """Whether a new category can be told from a rare one."""
        return self.rare is not None or not self.reference[-1]

    @property
    def unnamed(self) -> tuple[int, int]:
        """The slots of a code just behind the names, and of those behind it."""
        other, new = self.bins - 1, self.bins
        if self.rare is not None:
            return other, new
        return (new, new) if self.tells_new else (other, other)

    def slots(self, codes: NDArray[np.float32]) -> NDArray[np.intp]:
        """The slot of each row among the categories, other, new, missing. Same shape."""
        names = self.bins - 1
        of_code = np.array([*range(names), *self.unnamed, self.size - 1], np.intp)
        at = np.where(np.isnan(codes), names + 2, np.clip(codes, 0, names + 1))
        return of_code[at.astype(np.intp)]

    def count(self, codes: NDArray[np.float32]) -> NDArray[np.int64]:
        """Counts of shape (categories + 3,): the categories, other, new, missing."""
        return np.bincount(self.slots(codes), minlength=self.size).astype(np.int64)

    def slot_of(self, name: str) -> int:
        """Of a category by its name."""
        if name in self.names:
            return self.names.index(name)
        return self.unnamed[0] if self.rare is None or name in self.rare else self.unnamed[1]

    def is_cut_like(self, other: "Column") -> bool:
        """Whether counts of both columns may be compared slot by slot."""
        return (
            isinstance(other, Categorical)
            and self.names == other.names
            and bool(self.reference[-1]) == bool(other.reference[-1])
            and self.rare == other.rare
        )


Column = Numeric | Categorical


@dataclass(slots=True, frozen=True)
class Binning:
    """columns: name and bins in the order of the feature block, None for a column without a reference;
    score: its column, if the profile has one; score_meaning: the profile's; auc_edges: rising cut points;
    importance: by feature, as published; faults: where the profile contradicts itself, for people.
    layout, score_layout: the columns that have a reference, and the score, as the statistics want them."""

    columns: list[tuple[str, Column | None]]
    score: Numeric | None
    score_meaning: Score | None
    auc_edges: NDArray[np.float64]
    importance: dict[str, float] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    layout: Layout = field(init=False, compare=False)
    score_layout: Layout | None = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layout", Layout([_laid_out(column) for _, column in self.known]))
        score = None if self.score is None else Layout([_laid_out(self.score)])
        object.__setattr__(self, "score_layout", score)

    @property
    def known(self) -> list[tuple[str, Column]]:
        """Columns that have a reference."""
        return [(name, column) for name, column in self.columns if column is not None]

    @property
    def new_unknown(self) -> list[str]:
        """Columns whose new categories cannot be told from rare ones."""
        return [name for name, column in self.known if isinstance(column, Categorical) and not column.tells_new]

    @property
    def width(self) -> int:
        return len(self.columns)

    def column(self, name: str) -> Column | None:
        return next((column for known, column in self.columns if known == name), None)

    def count(
        self, features: NDArray[np.float32], also: Mapping[str, list[tuple[str, Numeric]]]
    ) -> dict[str, NDArray[np.int64]]:
        """Counts by column of a block of shape (width, rows).

        also: by column, the names and bins of further counts of the same numbers.
        """
        numbers = [i for i, (_, column) in enumerate(self.columns) if isinstance(column, Numeric)]
        block = features[numbers]
        parts = [block[:, at : at + _SORTED_ROWS] for at in range(0, max(1, block.shape[1]), _SORTED_ROWS)]
        for part in parts:
            part.sort(axis=1)
        row = dict(zip(numbers, range(len(numbers)), strict=True))
        found: dict[str, NDArray[np.int64]] = {}
        for i, (name, column) in enumerate(self.columns):
            if isinstance(column, Numeric):
                ordered = [part[row[i]] for part in parts]
                found[name] = column.count_parts(ordered)
                found |= {other: bins.count_parts(ordered) for other, bins in also.get(name, ())}
            elif column is not None:
                found[name] = column.count(features[i])
        return found

    def count_scores(self, scores: NDArray[np.float64]) -> NDArray[np.int64]:
        """AUC histogram of shape (auc_edges + 1,)."""
        bins = len(self.auc_edges) + 1
        return np.bincount(np.searchsorted(self.auc_edges, scores, side="left"), minlength=bins).astype(np.int64)


def of_profile(profile: Profile) -> Binning:
    """The bins of a profile. A block input of n numbers makes n columns, named `input[0]` to `input[n-1]`.

    Raises BadRecord when that makes more columns than MAX_COLUMNS.
    """
    reference = profile.reference
    columns: list[tuple[str, Column | None]] = []
    for feature in profile.inputs:
        width = width_of(feature)
        if len(columns) + width > MAX_COLUMNS:
            raise BadRecord(
                f"Profile: input {feature.name} of shape {feature.shape} makes more than {MAX_COLUMNS} columns"
            )
        for name in [feature.name] if width == 1 else [f"{feature.name}[{i}]" for i in range(width)]:
            column: Column | None = None
            if reference is not None and feature.kind == "numeric" and name in reference.numeric:
                column = _numeric(reference.numeric[name])
            elif reference is not None and feature.kind == "categorical" and name in reference.categorical:
                column = _categorical(reference.categorical[name])
            columns.append((name, column))
    score = _numeric(reference.score) if reference is not None and reference.score is not None else None
    auc_edges = GRID if score is None else np.union1d(GRID, score.edges)
    return Binning(columns, score, profile.score, auc_edges, dict(profile.importance), _faults(profile, columns))


def _faults(profile: Profile, columns: list[tuple[str, Column | None]]) -> tuple[str, ...]:
    """A profile that does not fit its model's inputs: such columns are left out, and named."""
    if profile.reference is None:
        return ("it has no reference: no drift against training",)
    inputs = {name for name, _ in columns}
    stray = sorted({*profile.reference.numeric, *profile.reference.categorical} - inputs)
    bare = [name for name, column in columns if column is None]
    said = [f"it describes {', '.join(stray)}, which the model does not take"] if stray else []
    return (*said, *([f"it has no reference of its kind for {', '.join(bare)}"] if bare else []))


def _numeric(reference: NumericReference) -> Numeric:
    return Numeric(
        edges=np.asarray(reference.edges, np.float64),
        reference=np.asarray(reference.counts, np.int64),
        missing=reference.missing,
        minimum=-np.inf if reference.minimum is None else reference.minimum,
        maximum=np.inf if reference.maximum is None else reference.maximum,
        mean=reference.mean,
        std=reference.std,
        discrete=reference.discrete,
    )


def _categorical(reference: CategoricalReference) -> Categorical:
    counts = np.asarray([*reference.counts, reference.other], np.int64)
    rare = rare_categories.read(reference.rare) if reference.other else None
    return Categorical(tuple(reference.categories), counts, reference.missing, rare)


def _laid_out(column: Column) -> laying.Column:
    if isinstance(column, Numeric):
        return laying.Numeric(
            edges=column.edges,
            reference=np.append(column.reference, [column.missing, 0, 0]),
            minimum=column.minimum,
            maximum=column.maximum,
            std=np.nan if column.std is None else column.std,
            discrete=column.discrete,
        )
    return laying.Categorical(np.append(column.reference, [0, column.missing]), knows_rare=column.rare is not None)


def _floor(value: float) -> np.float32:
    """The largest float32 that is not above the value: for float32 x, x <= value and x <= floor say the same."""
    with np.errstate(over="ignore"):
        near = np.float32(value)
    return near if float(near) <= value else np.nextafter(near, np.float32(-np.inf))


def _below(value: float) -> np.float32:
    """The largest float32 below the value."""
    near = _floor(value)
    return np.nextafter(near, np.float32(-np.inf)) if float(near) == value else near
