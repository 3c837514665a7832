"""Rows by the values of a declared feature of few values: a drift of one airport hides in the sum over all.

A segment's name is `feature=value`. The commonest MAX_SEGMENTS training values have segments of their own, the
others share `(other)`; what training never saw is `(new)`, nothing at all `(missing)`. So the number of segments is
bounded by the profile and never by what clients send.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from kingmaker_monitor.binning import Binning, Categorical, Column, Numeric

MAX_SEGMENTS: Final = 20
OTHER: Final = "(other)"
NEW: Final = "(new)"
MISSING: Final = "(missing)"


def fault(binning: Binning, feature: str) -> str | None:
    """Why rows cannot be segmented by this feature, None when they can."""
    column = binning.column(feature)
    if column is None:
        return f"segment {feature} is no feature with a reference in its profile"
    if isinstance(column, Numeric) and not column.discrete:
        return f"segment {feature} is a number with many values; a category or at most 20 distinct numbers can segment"
    return None


def split(binning: Binning, feature: str, values: NDArray[np.float32]) -> list[tuple[str, NDArray[np.bool_]]]:
    """Segments that occur, with their rows. values: the feature's, shape (rows,). Call it only without a fault."""
    column = binning.column(feature)
    assert column is not None  # noqa: S101 - that is a fault
    slots, names = _slots(column, values)
    return [(f"{feature}={names[slot]}", slots == slot) for slot in np.unique(slots).tolist()]


def _slots(column: Column, values: NDArray[np.float32]) -> tuple[NDArray[np.intp], list[str]]:
    """Each row's position in the names of the segments."""
    if isinstance(column, Categorical):
        known = [*column.names, OTHER, NEW]
        of_code = np.arange(len(known))
        weight = column.reference[:-1]
        codes = column.slots(values)
    else:
        points = np.array([*column.edges, column.maximum]).astype(np.float32)
        known = [*(f"{point:g}" for point in points.tolist()), NEW]
        of_code = np.arange(len(known))
        weight = column.reference
        at = np.minimum(np.searchsorted(points, values), len(points) - 1)
        codes = np.where(points[at] == values, at, len(points))
        codes = np.where(np.isnan(values), len(known), codes)
    names = [*known, MISSING]
    of_code = np.append(of_code, len(known))
    if len(weight) > MAX_SEGMENTS:
        names.append(OTHER)
        rare = np.argsort(-weight, kind="stable")[MAX_SEGMENTS:]
        of_code[rare] = len(names) - 1 if OTHER not in known else known.index(OTHER)
    return of_code[codes], names


def share_in_training(binning: Binning, feature: str, value: str) -> float | None:
    """A segment's share of the training rows; None for a feature without a reference."""
    column = binning.column(feature)
    if column is None or fault(binning, feature) is not None:
        return None
    values, weights = _training(column)
    slots, names = _slots(column, values)
    total = float(weights.sum())
    if not total or value not in names:
        return 0.0 if total else None
    return float(weights[slots == names.index(value)].sum()) / total


def _training(column: Column) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Training as if it were rows: each bin's value, and how many there were of it."""
    weights = np.append(column.reference, column.missing)
    if isinstance(column, Categorical):
        return np.append(np.arange(column.bins), np.nan).astype(np.float32), weights
    return np.array([*column.edges, column.maximum, np.nan]).astype(np.float32), weights
