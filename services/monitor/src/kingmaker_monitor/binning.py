"""A profile made ready for counting: the columns of an event's feature block and the frozen bins of each.

Bins come from training and never move: bins cut from the live rows would hide every drift. Behind the
profile's own bins a numeric column has three extras (missing, below the training minimum, above the
maximum), a categorical one two (unseen, missing). "__score" is the score as one more numeric column.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kingmaker_contracts.profile import CategoricalReference, NumericReference, Profile, Score

SCORE: Final = "__score"
"""Name of the score's array. A feature of that name would share it; publishing knows no such feature."""
GRID: Final = np.linspace(0.0, 1.0, 1001)
"""Cut points of the AUC histograms, beside the profile's own score edges."""


@dataclass(slots=True, frozen=True)
class Numeric:
    """A numeric column. reference: shape (bins,), then missing is a slot of its own in counts."""

    edges: NDArray[np.float64]
    reference: NDArray[np.int64]
    missing: int
    minimum: float
    maximum: float

    @property
    def bins(self) -> int:
        return len(self.reference)

    @property
    def size(self) -> int:
        return self.bins + 3

    def count(self, values: NDArray[np.float32]) -> NDArray[np.int64]:
        """Counts of shape (bins + 3,): the bins, missing, below the minimum, above the maximum."""
        numbers = values[~np.isnan(values)].astype(np.float64)
        counts = np.zeros(self.size, np.int64)
        counts[: self.bins] = np.bincount(np.searchsorted(self.edges, numbers, side="left"), minlength=self.bins)
        counts[self.bins] = len(values) - len(numbers)
        counts[self.bins + 1] = np.count_nonzero(numbers < self.minimum)
        counts[self.bins + 2] = np.count_nonzero(numbers > self.maximum)
        return counts


@dataclass(slots=True, frozen=True)
class Categorical:
    """A categorical column. reference: shape (categories + 1,), the last is the rarer training categories."""

    reference: NDArray[np.int64]
    missing: int

    @property
    def bins(self) -> int:
        return len(self.reference)

    @property
    def size(self) -> int:
        return self.bins + 1

    def count(self, values: NDArray[np.float32]) -> NDArray[np.int64]:
        """Counts of shape (categories + 2,): the categories, unseen, missing."""
        codes = values[~np.isnan(values)]
        counts = np.zeros(self.size, np.int64)
        unseen = self.bins - 1
        counts[: self.bins] = np.bincount(np.clip(codes, 0, unseen).astype(np.intp), minlength=self.bins)
        counts[self.bins] = len(values) - len(codes)
        return counts


Column = Numeric | Categorical


@dataclass(slots=True, frozen=True)
class Binning:
    """columns: name and bins in the order of the feature block, None for a column without a reference;
    score: its column, if the profile has one; score_meaning: the profile's; auc_edges: rising cut points."""

    columns: list[tuple[str, Column | None]]
    score: Numeric | None
    score_meaning: Score | None
    auc_edges: NDArray[np.float64]

    @property
    def width(self) -> int:
        return len(self.columns)

    def count_scores(self, scores: NDArray[np.float64]) -> NDArray[np.int64]:
        """AUC histogram of shape (auc_edges + 1,)."""
        bins = len(self.auc_edges) + 1
        return np.bincount(np.searchsorted(self.auc_edges, scores, side="left"), minlength=bins).astype(np.int64)


def of_profile(profile: Profile) -> Binning:
    """The bins of a profile. A block input of n numbers makes n columns, named `input[0]` to `input[n-1]`."""
    reference = profile.reference
    columns: list[tuple[str, Column | None]] = []
    for feature in profile.inputs:
        width = math.prod(max(size, 1) for size in feature.shape[1:])
        for name in [feature.name] if width == 1 else [f"{feature.name}[{i}]" for i in range(width)]:
            column: Column | None = None
            if reference is not None and name in reference.numeric:
                column = _numeric(reference.numeric[name])
            elif reference is not None and name in reference.categorical:
                column = _categorical(reference.categorical[name])
            columns.append((name, column))
    score = _numeric(reference.score) if reference is not None and reference.score is not None else None
    auc_edges = GRID if score is None else np.union1d(GRID, score.edges)
    return Binning(columns, score, profile.score, auc_edges)


def _numeric(reference: NumericReference) -> Numeric:
    return Numeric(
        edges=np.asarray(reference.edges, np.float64),
        reference=np.asarray(reference.counts, np.int64),
        missing=reference.missing,
        minimum=-np.inf if reference.minimum is None else _float32_below(reference.minimum),
        maximum=np.inf if reference.maximum is None else _float32_above(reference.maximum),
    )


def _categorical(reference: CategoricalReference) -> Categorical:
    return Categorical(np.asarray([*reference.counts, reference.other], np.int64), reference.missing)


def _float32_below(value: float) -> float:
    """Live values travel as float32: the training minimum itself, rounded down, is not below the minimum."""
    return min(value, float(np.float32(value)))


def _float32_above(value: float) -> float:
    return max(value, float(np.float32(value)))
