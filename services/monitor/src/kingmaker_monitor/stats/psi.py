"""Population stability index of binned counts, with the noise a small sample makes.

PSI without drift is about (1/n + 1/m) chi-square with bins - 1 degrees of freedom (Yurdakul 2018), so a
fixed threshold alone calls every small sample drifted.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

from kingmaker_monitor.stats import divergence, shares

NOISE: Final = 0.95

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


class Psi(NamedTuple):
    """Shape (...,) each. value: PSI in nats; corrected: less its expectation without drift, at least 0; noise: what
    value stays under with 95 % probability without drift."""

    value: Floats
    corrected: Floats
    noise: Floats


def of_shares(reference: Floats, live: Floats) -> Floats:
    """PSI in nats: sum of (q - p) ln(q / p), which is both relative entropies together. Shape (...,).

    reference, live: shape (..., bins); bins with a share of 0 on both sides are left out, on one side make infinity.
    """
    return divergence.relative_entropy(reference, live) + divergence.relative_entropy(live, reference)


def of_counts(reference: Counts, live: Counts) -> Psi:
    """PSI of histograms over the same bins, half a row added to each; NaN where a side is empty, 0 for a single bin.

    reference, live: shape (..., bins), rows. Bins that are empty on both sides are left out.
    """
    p, q = shares.smoothed(reference, live)
    value = of_shares(p, q)
    unit = per_degree(reference, live)
    degrees = degrees_of(reference, live)
    noise = np.where(degrees > 0, unit * chdtri(np.maximum(degrees, 1), 1 - NOISE), 0.0 * unit)
    return Psi(value, np.maximum(0.0, value - degrees * unit), noise)


def degrees_of(reference: Counts, live: Counts) -> NDArray[np.int64]:
    """Used bins less one, at least 0. Shape (...,)."""
    found: NDArray[np.int64] = np.maximum(shares.used(reference, live).sum(axis=-1) - 1, 0)
    return found


def per_degree(reference: Counts, live: Counts) -> Floats:
    """1/n + 1/m: what each degree of freedom adds to PSI without drift; NaN where a side is empty. Shape (...,)."""
    m, n = (counts.sum(axis=-1).astype(np.float64) for counts in (reference, live))
    with np.errstate(divide="ignore", invalid="ignore"):
        unit: Floats = np.where((m > 0) & (n > 0), 1 / n + 1 / m, np.nan)
    return unit
