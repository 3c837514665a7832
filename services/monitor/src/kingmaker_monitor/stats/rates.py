"""Plain shares that people ask for first: values that are missing, out of range, new, and classes that moved."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from kingmaker_monitor.stats import false_discovery, shares

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]

MOVED: Final = 0.1
"""A class has moved when its share is this part of itself larger or smaller than in the reference."""
FALSE_DISCOVERY: Final = 0.01


class Classes(NamedTuple):
    """Shape (..., classes) each. reference, live: shares; change: live / reference - 1, infinity for a class that is
    new; p_value: adjusted over the classes; has_moved: by more than 10 % of itself, and not by chance."""

    reference: Floats
    live: Floats
    change: Floats
    p_value: Floats
    has_moved: NDArray[np.bool_]


def share(part: Counts, whole: Counts) -> Floats:
    """part / whole; NaN without rows. Same shape."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = part / whole
    return found


def classes(reference: Counts, live: Counts, by: float = MOVED, q: float = FALSE_DISCOVERY) -> Classes:
    """Which classes have another share of the rows than before.

    10 % of itself, not ten points: a class of 2 % that doubles matters, and chance is kept out by a test of two
    proportions with false discoveries held at q over the classes. reference, live: shape (..., classes), rows.
    """
    shares.check(reference, live)
    p, q_live = shares.plain(reference), shares.plain(live)
    m, n = (counts.sum(axis=-1, keepdims=True).astype(np.float64) for counts in (reference, live))
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.where((p == 0) & (q_live == 0), 0.0, q_live / p - 1)
        pooled = (reference + live) / (m + n)
        z = (q_live - p) / np.sqrt(pooled * (1 - pooled) * (1 / m + 1 / n))
        chance = np.where(pooled > 0, 2 * ndtr(-np.abs(z)), np.nan)
    # all rows in one class: there is nothing to test
    adjusted = false_discovery.adjusted(np.where(np.isfinite(z), chance, np.nan))
    with np.errstate(invalid="ignore"):
        return Classes(p, q_live, change, adjusted, (np.abs(change) > by) & (adjusted <= q))


def mean(counts: Counts, low: Floats, width: Floats) -> Floats:
    """Mean of binned values, each taken at the middle of its bin; NaN without rows. Shape (...,).

    low, width: shape (..., bins), the bins' beginnings and widths.
    """
    found: Floats = (shares.plain(counts) * (low + width / 2)).sum(axis=-1)
    return found
