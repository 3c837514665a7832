"""The columns of a profile laid side by side in one padded block, so that numpy looks at all of them at once.

Fifty columns one by one cost more in calls than in arithmetic. Padding is bins that hold no row on
either side, and every statistic here leaves such bins out, so a padded column has the numbers of an unpadded one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kingmaker_monitor.stats import merging

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

EXTRAS: Final = 3
"""Slots behind the bins of a numeric column: missing, below the reference's minimum, above its maximum; behind the
named categories of a categorical one: other (rare in training), new (never in training), missing."""


@dataclass(slots=True, frozen=True, eq=False)
class Numeric:
    """A column of numbers. Bin i holds edges[i-1] < x <= edges[i], the outer bins are open.

    edges: shape (bins - 1,), rising; reference: shape (bins + 3,), training rows with the extras;
    minimum, maximum, std: of the training rows, NaN when there were none; discrete: each bin holds one value.
    """

    edges: Floats
    reference: Counts
    minimum: float
    maximum: float
    std: float
    discrete: bool = False

    def __post_init__(self) -> None:
        if len(self.reference) != len(self.edges) + 1 + EXTRAS:
            raise ValueError(f"{len(self.edges)} edges make {len(self.edges) + 4} counts, found {len(self.reference)}")


@dataclass(slots=True, frozen=True, eq=False)
class Categorical:
    """A column of categories. reference: shape (categories + 3,), training rows with the extras; knows_rare: whether
    new ones were counted apart from those that were rare in training."""

    reference: Counts
    knows_rare: bool = False

    def __post_init__(self) -> None:
        if len(self.reference) < EXTRAS:
            raise ValueError(f"a categorical column has at least {EXTRAS} counts, found {len(self.reference)}")


Column = Numeric | Categorical


class Layout:
    """What is fixed about some columns. Built once a profile.

    A block has shape (columns, slots): `bins` padded bins (a categorical column's categories, other and new), then
    missing, below and above. reference: the block of the training rows; is_numeric, tells_new: shape (columns,).
    low, width, gap: shape (columns, bins), where the values of a numeric bin lie: evenly over `width` from `low`,
    and `gap` is what lies between the end of a bin and the next. std: shape (columns,), NaN where it is no use.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = tuple(columns)
        self.bins = max((_bins(column) for column in self.columns), default=1)
        self.is_numeric = np.array([isinstance(column, Numeric) for column in self.columns], np.bool_)
        self.tells_new = np.array([_tells_new(column) for column in self.columns], np.bool_)
        self._places = [_places(column, self.bins) for column in self.columns]
        self.reference = self.block([column.reference for column in self.columns])
        shape = (len(self.columns), self.bins)
        self.low, self.width, self.gap = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        self.std = np.full(len(self.columns), np.nan)
        for i, column in enumerate(self.columns):
            if isinstance(column, Numeric):
                bins = _bins(column)
                self.low[i, :bins], self.width[i, :bins], self.gap[i, :bins] = _geometry(column)
                self.std[i] = column.std if column.std > 0 else np.nan
        plans = [_plan(column) for column in self.columns]
        self._new_at = np.array([_bins(column) - 1 for column in self.columns], np.intp)
        self._bounds = merging.bounds(plans, self.bins)

    @property
    def slots(self) -> int:
        return self.bins + EXTRAS

    def block(self, vectors: Sequence[Counts]) -> Counts:
        """Counts of every column, as ingest keeps them, as one block. Shape (columns, slots).

        vectors: in the order of the columns, each as long as the column's `reference`.
        Raises ValueError when one is not.
        """
        if len(vectors) != len(self.columns):
            raise ValueError(f"{len(self.columns)} columns but {len(vectors)} vectors of counts")
        block = np.zeros((len(self.columns), self.slots), np.int64)
        for row, places, vector in zip(block, self._places, vectors, strict=True):
            if vector.shape != places.shape:
                raise ValueError(f"a column of {len(places)} counts got {vector.shape}")
            row[places] = vector
        return block

    def places(self, column: int) -> NDArray[np.intp]:
        """Which slots the counts of a column go to. Shape (counts of the column,)."""
        return self._places[column]

    def fine(self, block: Counts) -> Counts:
        """The bins without the extras. Shape (..., columns, bins)."""
        return block[..., : self.bins]

    def missing(self, block: Counts) -> Counts:
        return block[..., self.bins]

    def out_of_range(self, block: Counts) -> Counts:
        """Rows below or above what training saw; 0 for categories."""
        found: Counts = block[..., self.bins + 1] + block[..., self.bins + 2]
        return found

    def new(self, block: Counts) -> Counts:
        """Rows of categories that training never saw. Means something where `tells_new`."""
        found: Counts = np.take_along_axis(block, np.broadcast_to(self._new_at, block.shape[:-1])[..., None], axis=-1)[
            ..., 0
        ]
        return found

    def merged(self, block: Counts) -> Counts:
        """At most ten bins a number, a category each its own, and missing values as one more.

        Shape (..., columns, merged).
        """
        merged = merging.merge_all(self.fine(block), self._bounds)
        return np.concatenate([merged, self.missing(block)[..., None]], axis=-1)


def _bins(column: Column) -> int:
    """Bins of a column without what is not a value of its own: extras of numbers, missing of categories."""
    return len(column.reference) - (EXTRAS if isinstance(column, Numeric) else 1)


def _tells_new(column: Column) -> bool:
    return isinstance(column, Categorical) and (column.knows_rare or column.reference[-EXTRAS] == 0)


def _places(column: Column, padded: int) -> NDArray[np.intp]:
    bins = _bins(column)
    return np.concatenate([np.arange(bins), padded + np.arange(len(column.reference) - bins)])


def _plan(column: Column) -> NDArray[np.intp]:
    bins = _bins(column)
    if isinstance(column, Numeric):
        return merging.plan(column.reference[:bins])
    return np.arange(bins)


def _geometry(column: Numeric) -> tuple[Floats, Floats, Floats]:
    """low, width and gap of each bin. The outer bins end at the training minimum and maximum, for nobody knows how far
    beyond them a row lies: what drifts out of range is seen by its share, not by its distance."""
    bins = len(column.edges) + 1
    inner = column.edges
    first = column.minimum if np.isfinite(column.minimum) else (inner[0] if len(inner) else 0.0)
    last = column.maximum if np.isfinite(column.maximum) else (inner[-1] if len(inner) else 0.0)
    ends = np.append(inner, max(last, inner[-1]) if len(inner) else last)
    if column.discrete:
        return ends, np.zeros(bins), np.append(np.diff(ends), 0.0)
    low = np.append(min(first, ends[0]), inner)
    return low, ends - low, np.zeros(bins)
