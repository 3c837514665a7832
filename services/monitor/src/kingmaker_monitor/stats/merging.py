"""Fine bins into few: which neighbours go together, decided by the reference and never by live rows.

Bins cut on the live rows would hold equal shares of them by construction and hide every drift.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

BINS: Final = 10
"""Merged bins. More bins see finer changes and need more rows: the noise grows with bins - 1."""


def plan(reference: NDArray[np.int64], bins: int = BINS) -> NDArray[np.intp]:
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


def bounds(plans: Sequence[NDArray[np.intp]], width: int) -> NDArray[np.intp]:
    """Where each merged bin ends, for columns whose fine bins are padded to `width`.

    Returns shape (columns, merged bins of the widest): the number of fine bins up to and with the merged one;
    `width` for merged bins a column does not have, which stay empty since padding is.
    """
    merged = max((int(plan[-1]) + 1 for plan in plans if len(plan)), default=1)
    found = np.full((len(plans), merged), width, np.intp)
    for row, plan_ in zip(found, plans, strict=True):
        if len(plan_):
            row[: plan_[-1] + 1] = np.searchsorted(plan_, np.arange(plan_[-1] + 1), side="right")
    return found


def merge_all(counts: NDArray[np.int64], ends: NDArray[np.intp]) -> NDArray[np.int64]:
    """Fine counts summed into merged bins. Exact: merging commutes with adding histograms.

    counts: shape (..., columns, fine bins); ends: from `bounds`. Returns shape (..., columns, merged bins).
    """
    up_to = np.concatenate([np.zeros((*counts.shape[:-1], 1), np.int64), np.cumsum(counts, axis=-1)], axis=-1)
    at = np.take_along_axis(up_to, np.broadcast_to(ends, (*counts.shape[:-1], ends.shape[-1])), axis=-1)
    return np.diff(at, axis=-1, prepend=0)
