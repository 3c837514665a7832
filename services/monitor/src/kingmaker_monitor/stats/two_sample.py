"""Two samples from one distribution? Answers from binned counts of both.

The Kolmogorov-Smirnov distance is taken at the bin edges, so it is at most the true distance and below it
by no more than the mass of the largest bin: keep the bins fine.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, kolmogorov

from kingmaker_monitor.stats import shares

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


class Test(NamedTuple):
    """A statistic and the chance of one as large without drift. Shape (...,) each."""

    statistic: Floats
    p_value: Floats


def kolmogorov_smirnov(reference: Counts, live: Counts) -> Test:
    """Largest difference of the two cumulative shares, 0 to 1; NaN where a side is empty.

    reference, live: shape (..., bins), rows in ascending bins. The p-value is Kolmogorov's limit with Stephens'
    correction (1970); values that share a bin make it too large, never too small.
    Raises ValueError when the two were not cut with the same bins.
    """
    shares.check(reference, live)
    distance = np.abs(np.cumsum(shares.plain(reference) - shares.plain(live), axis=-1)).max(axis=-1)
    m, n = (counts.sum(axis=-1).astype(np.float64) for counts in (reference, live))
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(m * n / (m + n))
        return Test(distance, kolmogorov(distance * (root + 0.12 + 0.11 / root)))


def chi_square(reference: Counts, live: Counts) -> Test:
    """Pearson's chi-square of the 2 x bins contingency table, without Yates' correction; NaN where a side is empty.

    The reference is a sample too: taking its shares for the truth (a one-sample test) forgets half of the noise.
    reference, live: shape (..., bins), rows; bins that are empty on both sides are left out; a single bin has p = 1.
    """
    is_used = shares.used(reference, live)
    both = np.where(is_used, reference + live, 1)
    m, n = (counts.sum(axis=-1, keepdims=True).astype(np.float64) for counts in (reference, live))
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = np.sqrt(n / m) * reference - np.sqrt(m / n) * live
    statistic = (np.square(difference) / both).sum(axis=-1)
    degrees = is_used.sum(axis=-1) - 1
    p_value = np.where(degrees > 0, chdtrc(np.maximum(degrees, 1), statistic), 1.0)
    return Test(statistic, np.where(np.isnan(statistic), np.nan, p_value))


def wasserstein(reference: Counts, live: Counts, width: Floats, gap: Floats) -> Floats:
    """Area between the two distribution functions, in the column's unit; NaN where a side is empty. Shape (...,).

    width, gap: shape (..., bins) as `layout.Layout` has them: rows lie evenly over a bin's width, none in the gap to
    the next. Off by no more than the widths weighted with both shares; values beyond the outer bins count as at
    their end.
    """
    shares.check(reference, live)
    above = np.cumsum(shares.plain(reference) - shares.plain(live), axis=-1)
    before = np.concatenate([np.zeros_like(above[..., :1]), above[..., :-1]], axis=-1)
    a, b = np.abs(before), np.abs(above)
    crosses = before * above < 0
    within = np.where(crosses, (a * a + b * b) / (2 * np.where(crosses, a + b, 1.0)), (a + b) / 2)
    area: Floats = (width * within + gap * b).sum(axis=-1)
    return area
