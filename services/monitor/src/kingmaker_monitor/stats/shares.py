"""Counts as shares, with or without half a row added to each bin.

Half a row on both sides (Jeffreys' prior of a multinomial): an empty bin then costs a bounded amount that shrinks
as rows come in, and two sides that swap places have the same distance. A fixed epsilon makes one empty bin
dominate a small sample. Bins that are empty on both sides are none and get a share of 0.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

PSEUDO_COUNT: Final = 0.5

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


def check(reference: Counts, live: Counts) -> None:
    """Raises ValueError when the two were not cut with the same bins."""
    if reference.shape[-1] != live.shape[-1]:
        raise ValueError(f"reference has {reference.shape[-1]} bins, live {live.shape[-1]}")


def used(reference: Counts, live: Counts) -> NDArray[np.bool_]:
    """Bins with a row on either side."""
    check(reference, live)
    return (reference + live) > 0


def plain(counts: Counts) -> Floats:
    """Shares of shape (..., bins) that sum to 1; NaN without rows."""
    total = counts.sum(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        shares: Floats = counts / total
    return shares


def smoothed(reference: Counts, live: Counts) -> tuple[Floats, Floats]:
    """Shares of both, each above 0 in used bins and 0 in others; NaN where a side has no rows. Shape (..., bins)."""
    is_used = used(reference, live)
    return _smoothed(reference, is_used), _smoothed(live, is_used)


def _smoothed(counts: Counts, is_used: NDArray[np.bool_]) -> Floats:
    total = counts.sum(axis=-1, keepdims=True).astype(np.float64)
    total[total == 0] = np.nan
    bins = is_used.sum(axis=-1, keepdims=True)
    shares: Floats = np.where(is_used, counts + PSEUDO_COUNT, 0.0) / (total + PSEUDO_COUNT * bins)
    return shares
