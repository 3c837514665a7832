"""Columns made of raw rows, and their counts as ingest keeps them."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from kingmaker_monitor.stats.layout import Categorical, Numeric

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


class Rows:
    """Raw training rows of one column, its frozen bins, and any rows counted in them one by one."""

    def number(self, training: Sequence[float], bins: int, *, discrete: bool = False) -> Numeric:
        """NaN is missing. discrete: an edge at each distinct value but the last."""
        present = np.array([x for x in training if not np.isnan(x)])
        distinct = np.unique(present)
        cut = distinct if discrete else np.quantile(present, np.arange(1, bins) / bins, method="inverted_cdf")
        edges = np.unique(cut[cut < distinct[-1]])
        empty = Numeric(edges, np.zeros(len(edges) + 4, np.int64), present.min(), present.max(), 1.0, discrete)
        counts = self.count(empty, training)
        return Numeric(edges, counts, present.min(), present.max(), float(present.std()), discrete)

    def count(self, column: Numeric, rows: Sequence[float]) -> Counts:
        counts = [0] * len(column.reference)
        bins = len(column.edges) + 1
        for x in rows:
            if np.isnan(x):
                counts[bins] += 1
                continue
            counts[sum(1 for edge in column.edges if edge < x)] += 1
            counts[bins + 1] += x < column.minimum
            counts[bins + 2] += x > column.maximum
        return np.array(counts)

    def category(self, training: Sequence[str | None], named: int) -> tuple[Categorical, list[str]]:
        """The commonest are named, the others are rare."""
        known = sorted({x for x in training if x is not None}, key=lambda x: (-list(training).count(x), x))
        names = known[:named]
        return Categorical(self.count_names(names, set(known), training)), names

    def count_names(self, names: list[str], known: set[str], rows: Sequence[str | None]) -> Counts:
        counts = dict.fromkeys([*names, "__other", "__new", "__missing"], 0)
        for x in rows:
            slot = "__missing" if x is None else x if x in names else "__other" if x in known else "__new"
            counts[slot] += 1
        return np.array(list(counts.values()))


@pytest.fixture
def rows() -> Rows:
    return Rows()
