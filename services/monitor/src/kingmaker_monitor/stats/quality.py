"""Quality of a binary score from counts that add up over batches, and are exact but for the binning of AUC.

Log loss clips a probability to [1e-7, 1 - 1e-7]: one confident mistake then costs 16 nats and not infinity.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

CLIP: Final = 1e-7


def auc(positives: NDArray[np.int64], negatives: NDArray[np.int64]) -> float | None:
    """Chance that a positive scores above a negative, ties half; None unless both classes are there.

    positives, negatives: shape (bins,), rows by score in ascending bins. Scores in one bin count as ties,
    so the error is at most half the chance that a positive and a negative share a bin.
    """
    p, n = int(positives.sum()), int(negatives.sum())
    if p == 0 or n == 0:
        return None
    below = np.cumsum(negatives) - negatives
    return float((positives * (below + negatives / 2)).sum() / (p * n))


def log_losses(score: NDArray[np.float64], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Log loss of each row in nats. score: probability of the positive class, 0 to 1; same shape as truth."""
    p = np.clip(score, CLIP, 1 - CLIP)
    return -np.log(np.where(truth, p, 1 - p))


def brier_losses(score: NDArray[np.float64], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Squared error of each row's probability. Same shape as score."""
    return np.square(score - truth)


def mean(total: float, n: int) -> float | None:
    """total / n, and None rather than 0 when there is nothing to average."""
    return total / n if n else None
