"""Population stability index of binned counts, with the noise a small sample makes.

PSI without drift is about (1/n + 1/m) chi-square with bins - 1 degrees of freedom (Yurdakul 2018), so a
fixed threshold alone calls every small sample drifted. Each bin gets half a row on both sides (Jeffreys):
an empty bin then costs a bounded amount and the result does not depend on an epsilon.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

BINS: Final = 10
"""Merged bins. More bins see finer changes and need more rows: the noise grows with bins - 1."""
PSEUDO_COUNT: Final = 0.5


class Psi(NamedTuple):
    """value: PSI in nats; corrected: less its expectation without drift, at least 0; noise: what value stays
    under with 95 % probability without drift."""

    value: float
    corrected: float
    noise: float


def of_shares(reference: NDArray[np.float64], live: NDArray[np.float64]) -> float:
    """PSI of two distributions, in nats.

    reference, live: shape (bins,), shares above 0 that sum to 1.
    Raises ValueError when the two were not cut with the same bins.
    """
    if reference.shape != live.shape:
        raise ValueError(f"reference has {reference.shape} bins, live {live.shape}")
    return float(((live - reference) * np.log(live / reference)).sum())


def of_counts(reference: NDArray[np.int64], live: NDArray[np.int64]) -> Psi | None:
    """PSI of two histograms over the same bins; None when a side is empty or there is a single bin.

    reference, live: shape (bins,), rows. Bins that are empty on both sides are left out.
    """
    if reference.shape != live.shape:
        raise ValueError(f"reference has {reference.shape} bins, live {live.shape}")
    used = (reference + live) > 0
    reference, live = reference[used], live[used]
    m, n = int(reference.sum()), int(live.sum())
    bins = len(reference)
    if m == 0 or n == 0:
        return None
    if bins < 2:
        return Psi(0.0, 0.0, 0.0)
    p = (reference.astype(np.float64) + PSEUDO_COUNT) / (m + PSEUDO_COUNT * bins)
    q = (live.astype(np.float64) + PSEUDO_COUNT) / (n + PSEUDO_COUNT * bins)
    value = of_shares(p, q)
    unit = 1 / n + 1 / m
    return Psi(value, max(0.0, value - (bins - 1) * unit), unit * _chi_square_95(bins - 1))


def merge_plan(reference: NDArray[np.int64], bins: int = BINS) -> NDArray[np.intp]:
    """Which of at most `bins` merged bins each fine bin belongs to, by quantiles of the reference.

    A fine bin goes where the middle of its mass lies, so neighbours stay neighbours and one heavy value
    keeps a bin of its own. reference: shape (fine bins,), rows. Returns shape (fine bins,), values rising from 0.
    """
    total = reference.sum()
    if total == 0:
        return np.zeros(len(reference), np.intp)
    middle = (np.cumsum(reference) - reference / 2) / total
    groups = np.minimum((middle * bins).astype(np.intp), bins - 1)
    return np.unique(groups, return_inverse=True)[1]


def merge(counts: NDArray[np.int64], plan: NDArray[np.intp]) -> NDArray[np.int64]:
    """Fine counts summed into the bins of a plan. Exact: merging commutes with adding histograms."""
    merged = np.zeros(int(plan.max()) + 1 if len(plan) else 0, np.int64)
    np.add.at(merged, plan, counts)
    return merged


def _chi_square_95(degrees: int) -> float:
    """95 % point. From scipy.special: importing scipy.stats costs a monitor a second at every start."""
    return float(chdtri(degrees, 0.05))
