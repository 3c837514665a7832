"""Errors of a regression in log buckets: MAE and RMSE within 1 % at any size, and counts that can be taken back.

Sums of squares would be exact at first. But a wrong label is subtracted when it is corrected, and a pane when it leaves
its window: after one typing error of 1e15, what is left of a sum of floats is noise for ever. Counts are not.
Errors are kept in units of the scores' deviation in training, so that the buckets suit every target.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

GAMMA: Final = 1.02
SMALLEST: Final = 1e-6
"""Deviations; an error below counts as none."""
SIDE: Final = 1397
"""Buckets of one sign, up to a million deviations; larger errors count as that."""
BUCKETS: Final = 2 * SIDE + 1
"""Errors below 0 from the largest, none, errors above 0 to the largest."""
# the value whose relative distance to both ends of a bucket is the same
_ABOVE: Final = SMALLEST * np.power(GAMMA, np.arange(SIDE)) * 2 / (1 + GAMMA)
VALUES: Final[NDArray[np.float64]] = np.concatenate([-_ABOVE[::-1], [0.0], _ABOVE])
"""What an error of each bucket is taken for, in deviations."""


def histogram(error: NDArray[Any], deviation: float | None) -> NDArray[np.int64]:
    """Counts of shape (BUCKETS,). error: prediction less truth, finite; deviation: None or 0 when nobody knows it."""
    with np.errstate(divide="ignore", over="ignore"):
        size = np.abs(error.astype(np.float64)) / scale(deviation)
        steps = np.ceil(np.log(size / SMALLEST) / np.log(GAMMA) - 1e-9)
    at = np.clip(steps, 0, SIDE - 1).astype(np.intp) + 1
    at = np.where(size < SMALLEST, 0, at)
    return np.bincount(SIDE + np.where(error < 0, -at, at), minlength=BUCKETS).astype(np.int64)


def scale(deviation: float | None) -> float:
    """What errors are measured in."""
    return deviation if deviation else 1.0


def mean_absolute(counts: NDArray[np.int64], deviation: float | None) -> float | None:
    """Mean absolute error in the target's unit, None without rows."""
    return _mean(counts, np.abs(VALUES), scale(deviation))


def root_mean_square(counts: NDArray[np.int64], deviation: float | None) -> float | None:
    square = _mean(counts, np.square(VALUES), 1.0)
    return None if square is None else float(np.sqrt(square)) * scale(deviation)


def mean(counts: NDArray[np.int64], deviation: float | None) -> float | None:
    """Mean error, within 1 % of the mean absolute one: above 0 the model says too much."""
    return _mean(counts, VALUES, scale(deviation))


def _mean(counts: NDArray[np.int64], values: NDArray[np.float64], unit: float) -> float | None:
    n = int(counts.sum())
    return float(counts @ values) / n * unit if n else None
