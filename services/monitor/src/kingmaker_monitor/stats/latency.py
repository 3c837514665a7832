"""Latency quantiles from a log-bucket histogram: 1 % relative error at any size, and sums merge exactly.

Bucket i holds GAMMA^(i-1) < microseconds <= GAMMA^i (the DDSketch rule); bucket 0 holds 0 and 1.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

GAMMA: Final = 1.02
BUCKETS: Final = 1122
"""Enough for every 32-bit count of microseconds (71 minutes)."""


def bucket_of(microseconds: NDArray[Any]) -> NDArray[np.intp]:
    """The bucket of each latency. Same shape."""
    log: NDArray[np.float64] = np.log(np.maximum(microseconds, 1).astype(np.float64)) / np.log(GAMMA)
    return np.minimum(np.ceil(log - 1e-9).astype(np.intp), BUCKETS - 1)


def histogram(microseconds: NDArray[Any]) -> NDArray[np.int64]:
    """Counts of shape (BUCKETS,)."""
    return np.bincount(bucket_of(microseconds), minlength=BUCKETS).astype(np.int64)


def quantile_ms(counts: NDArray[np.int64], q: float) -> float | None:
    """The q-quantile in milliseconds, within 1 % of the smallest latency that at least a share q does not exceed.

    counts: shape (BUCKETS,). None without rows.
    """
    total = int(counts.sum())
    if total == 0:
        return None
    rank = max(1, int(np.ceil(q * total)))
    bucket = int(np.searchsorted(np.cumsum(counts), rank))
    middle = 2 * GAMMA**bucket / (1 + GAMMA) if bucket else 1.0
    return middle / 1000
