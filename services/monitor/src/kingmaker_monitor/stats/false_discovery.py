"""Many tests at once: which of them still mean something (Benjamini and Hochberg 1995).

Fifty columns at 5 % each make two or three false alarms every look. Bonferroni would prevent them as well and see less
of what is there.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def adjusted(p_values: Floats) -> Floats:
    """p-values such that rejecting those up to q keeps the expected share of wrong rejections at q. Same shape.

    p_values: shape (..., tests); a test that was not made is NaN, counts for none, and stays NaN.
    """
    if p_values.shape[-1] == 0:
        return p_values.copy()
    order = np.argsort(p_values, axis=-1)  # NaN goes last
    ranked = np.take_along_axis(p_values, order, axis=-1)
    tests = np.isfinite(p_values).sum(axis=-1, keepdims=True)
    ranked = ranked * tests / np.arange(1, p_values.shape[-1] + 1)
    smallest = np.fmin.accumulate(ranked[..., ::-1], axis=-1)[..., ::-1]
    found = np.empty_like(p_values)
    np.put_along_axis(found, order, smallest, axis=-1)
    return np.where(np.isnan(p_values), np.nan, found)
