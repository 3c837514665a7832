"""How far two distributions over the same bins lie apart. p: reference, q: live; natural logarithms unless said.

All take shares of shape (..., bins) that sum to 1 and return shape (...,). NaN in, NaN out.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import rel_entr

Floats = NDArray[np.float64]


def relative_entropy(p: Floats, q: Floats) -> Floats:
    """Kullback-Leibler divergence KL(p || q) = sum p ln(p / q), nats; infinity where q lacks what p has."""
    found: Floats = rel_entr(p, q).sum(axis=-1)
    return found


def jensen_shannon(p: Floats, q: Floats) -> Floats:
    """Jensen-Shannon distance with logarithms of base 2: 0 for equal distributions, 1 for disjoint ones.

    The square root, so a metric. scipy's default base e gives this times sqrt(ln 2).
    """
    middle = (p + q) / 2
    nats = (relative_entropy(p, middle) + relative_entropy(q, middle)) / 2
    found: Floats = np.sqrt(np.clip(nats / np.log(2), 0.0, 1.0))
    return found


def hellinger(p: Floats, q: Floats) -> Floats:
    """Hellinger distance, 0 to 1."""
    # the difference of roots, for 1 - sum sqrt(pq) loses every digit when p and q are close
    found: Floats = np.sqrt(np.square(np.sqrt(p) - np.sqrt(q)).sum(axis=-1) / 2)
    return found


def largest_difference(p: Floats, q: Floats) -> Floats:
    """The largest difference of a share (L-infinity), 0 to 1."""
    found: Floats = np.abs(p - q).max(axis=-1)
    return found
