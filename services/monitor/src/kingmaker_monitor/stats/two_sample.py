"""Two-sample distances from binned counts.

The Kolmogorov-Smirnov distance is taken at the bin edges, so it is at most the true distance and below it
by no more than the mass of the largest bin: keep the bins fine.
"""

import numpy as np
from numpy.typing import NDArray


def kolmogorov_smirnov(reference: NDArray[np.int64], live: NDArray[np.int64]) -> float | None:
    """Largest difference of the two cumulative shares, 0 to 1; None when a side is empty.

    reference, live: shape (bins,), rows in ascending bins.
    Raises ValueError when the two were not cut with the same bins.
    """
    if reference.shape != live.shape:
        raise ValueError(f"reference has {reference.shape} bins, live {live.shape}")
    m, n = reference.sum(), live.sum()
    if m == 0 or n == 0:
        return None
    return float(np.abs(np.cumsum(reference) / m - np.cumsum(live) / n).max())
