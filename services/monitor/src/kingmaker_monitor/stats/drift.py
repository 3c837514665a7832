"""Every drift statistic of many columns in one call.

Which sees what: PSI, KL, Jensen-Shannon, Hellinger and chi-square look at merged bins (ten of a number, a category each
its own) with missing values as one more, so that a column that goes missing is drift. Kolmogorov-Smirnov, Wasserstein
and the mean's shift look at the fine bins of the values that are there, and only at numbers.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kingmaker_monitor.stats import divergence, psi, rates, shares, two_sample
from kingmaker_monitor.stats.layout import Layout

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(slots=True, frozen=True, eq=False)
class Measures:
    """Arrays of shape (..., columns); NaN where a number does not exist (no rows, or not for such a column).

    n, reference_n: rows, with missing ones.
    psi: value, corrected, noise. kl: KL(reference || live), nats; PSI less it is the other direction.
    jensen_shannon: distance, base 2, 0 to 1. hellinger: 0 to 1. largest_difference: of a share, 0 to 1.
    chi_square: of the contingency table. ks: distance and p-value. wasserstein, mean_shift: in standard deviations of
    training; the latter signed. missing, reference_missing, out_of_range, new: shares of rows, out_of_range and new
    by training, which has none. classes_moved: how many categories' shares moved by more than 10 % of themselves.
    """

    n: Counts
    reference_n: Counts
    psi: psi.Psi
    kl: Floats
    jensen_shannon: Floats
    hellinger: Floats
    largest_difference: Floats
    chi_square: two_sample.Test
    ks: two_sample.Test
    wasserstein: Floats
    mean_shift: Floats
    missing: Floats
    reference_missing: Floats
    out_of_range: Floats
    new: Floats
    classes_moved: Floats


def measure(layout: Layout, live: Counts, reference: Counts | None = None) -> Measures:
    """Live rows against a reference: the training rows unless another block is given (the champion's, say).

    live, reference: shape (..., columns, slots), as `layout.block` makes them, stacked at will (windows, variants);
    their leading axes must broadcast.
    """
    if reference is None:
        reference = layout.reference
    shape = np.broadcast_shapes(live.shape, reference.shape)[:-1]
    merged_reference, merged = layout.merged(reference), layout.merged(live)
    p, q = shares.smoothed(merged_reference, merged)
    plain_p, plain_q = shares.plain(merged_reference), shares.plain(merged)
    n, m = merged.sum(axis=-1), merged_reference.sum(axis=-1)
    numbers = _numbers(layout, reference, live)
    return Measures(
        n=np.broadcast_to(n, shape),
        reference_n=np.broadcast_to(m, shape),
        psi=psi.of_counts(merged_reference, merged),
        kl=divergence.relative_entropy(p, q),
        jensen_shannon=divergence.jensen_shannon(plain_p, plain_q),
        hellinger=divergence.hellinger(plain_p, plain_q),
        largest_difference=divergence.largest_difference(plain_p, plain_q),
        chi_square=two_sample.chi_square(merged_reference, merged),
        ks=numbers.ks,
        wasserstein=numbers.wasserstein,
        mean_shift=numbers.mean_shift,
        missing=np.broadcast_to(rates.share(layout.missing(live), n), shape),
        reference_missing=np.broadcast_to(rates.share(layout.missing(reference), m), shape),
        out_of_range=np.broadcast_to(_where(layout.is_numeric, rates.share(layout.out_of_range(live), n)), shape),
        new=np.broadcast_to(_where(layout.tells_new, rates.share(layout.new(live), n)), shape),
        classes_moved=_classes_moved(layout, merged_reference, merged),
    )


@dataclass(slots=True, frozen=True)
class _Numbers:
    ks: two_sample.Test
    wasserstein: Floats
    mean_shift: Floats


def _numbers(layout: Layout, reference: Counts, live: Counts) -> _Numbers:
    is_numeric, std = layout.is_numeric, layout.std
    fine_reference, fine = layout.fine(reference), layout.fine(live)
    ks = two_sample.kolmogorov_smirnov(fine_reference, fine)
    area = two_sample.wasserstein(fine_reference, fine, layout.width, layout.gap)
    shift = rates.mean(fine, layout.low, layout.width) - rates.mean(fine_reference, layout.low, layout.width)
    return _Numbers(
        two_sample.Test(_where(is_numeric, ks.statistic), _where(is_numeric, ks.p_value)),
        _where(is_numeric, area / std),
        _where(is_numeric, shift / std),
    )


def _classes_moved(layout: Layout, reference: Counts, live: Counts) -> Floats:
    """Missing values are no class, so the last merged bin stays out."""
    found = rates.classes(reference[..., :-1], live[..., :-1])
    count = np.where(np.isfinite(found.change).any(axis=-1), found.has_moved.sum(axis=-1), np.nan)
    return _where(~layout.is_numeric, count)


def _where(wanted: NDArray[np.bool_], values: Floats) -> Floats:
    return np.where(wanted, values, np.nan)
