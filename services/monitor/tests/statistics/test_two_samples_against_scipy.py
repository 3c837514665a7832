"""Kolmogorov-Smirnov, chi-square, Wasserstein and false discoveries against scipy on the raw rows."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from kingmaker_monitor.stats import false_discovery, two_sample

ROWS = st.lists(st.integers(0, 19), min_size=1, max_size=80)


def test_ks_equals_scipy_when_every_value_has_a_bin() -> None:
    dice = np.random.default_rng(2)
    a, b = dice.integers(0, 50, 700), dice.integers(5, 60, 400)
    binned = two_sample.kolmogorov_smirnov(np.bincount(a, minlength=60), np.bincount(b, minlength=60))
    assert binned.statistic == pytest.approx(scipy_stats.ks_2samp(a, b, method="asymp").statistic, abs=1e-12)


@given(ROWS, ROWS)
def test_ks_of_any_rows_is_the_widest_gap_of_the_two_staircases(a: list[int], b: list[int]) -> None:
    found = two_sample.kolmogorov_smirnov(np.bincount(a, minlength=20), np.bincount(b, minlength=20))
    up_to = [[sum(1 for x in rows if x <= at) / len(rows) for at in range(20)] for rows in (a, b)]
    assert found.statistic == pytest.approx(max(abs(p - q) for p, q in zip(*up_to, strict=True)), abs=1e-12)


@pytest.mark.parametrize(("m", "n"), [(200, 200), (10_000, 500), (100_000, 100_000)])
@pytest.mark.parametrize("root", [0.5, 1.0, 1.36, 1.63, 2.0])
def test_the_p_value_of_ks_is_the_exact_one_within_a_tenth(m: int, n: int, root: float) -> None:
    effective = m * n / (m + n)
    step = round(root / np.sqrt(effective) * n)
    found = two_sample.kolmogorov_smirnov(np.array([0, m]), np.array([step, n - step]))
    exact = scipy_stats.kstwo.sf(step / n, round(effective))
    assert found.p_value == pytest.approx(exact, rel=0.1, abs=1e-4)


def test_binned_ks_is_below_the_exact_distance_by_at_most_the_largest_bin() -> None:
    dice = np.random.default_rng(3)
    a, b = dice.normal(0, 1, 20_000), dice.normal(0.05, 1.02, 5_000)
    edges = np.quantile(a, np.linspace(0, 1, 101)[1:-1])
    counts = [np.bincount(np.searchsorted(edges, x), minlength=100) for x in (a, b)]
    exact = scipy_stats.ks_2samp(a, b).statistic
    assert exact - 0.013 <= two_sample.kolmogorov_smirnov(*counts).statistic <= exact


def test_an_empty_side_has_neither_ks_nor_chi_square_nor_wasserstein() -> None:
    nothing, some, unit = np.array([0, 0]), np.array([1, 2]), np.ones(2)
    for a, b in ((nothing, some), (some, nothing)):
        assert np.isnan(two_sample.kolmogorov_smirnov(a, b)).all()
        assert np.isnan(two_sample.chi_square(a, b)).all()
        assert np.isnan(two_sample.wasserstein(a, b, unit, unit))


def test_chi_square_is_the_reference_value_and_not_that_of_one_sample() -> None:
    found = two_sample.chi_square(np.array([500, 300, 200]), np.array([120, 50, 30]))
    assert found.statistic == pytest.approx(6.8282909237, abs=1e-10)
    assert found.p_value == pytest.approx(0.0329045129, abs=1e-10)


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), min_size=1, max_size=30))
def test_chi_square_of_any_table_equals_scipy(rows: list[tuple[int, int]]) -> None:
    table = np.array(rows).T
    assume(table.sum(axis=1).all())
    found = two_sample.chi_square(*table)
    used = table[:, table.any(axis=0)]
    expected = scipy_stats.chi2_contingency(used, correction=False)
    assert found.statistic == pytest.approx(expected.statistic, rel=1e-9, abs=1e-9)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9, abs=1e-12)


@given(ROWS, ROWS, st.lists(st.floats(-1e3, 1e3), min_size=20, max_size=20, unique=True))
def test_wasserstein_of_discrete_values_equals_scipy(a: list[int], b: list[int], values: list[float]) -> None:
    at = np.sort(values)
    gap = np.append(np.diff(at), 0.0)
    ours, theirs = (np.bincount(side, minlength=20) for side in (a, b))
    found = two_sample.wasserstein(ours, theirs, np.zeros(20), gap)
    assert found == pytest.approx(scipy_stats.wasserstein_distance(at[a], at[b]), rel=1e-9, abs=1e-9)


@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.floats(-2, 2), st.floats(0.2, 3))
def test_wasserstein_of_bins_is_off_by_no_more_than_rows_move_within_them(
    seed: int, bins: int, shift: float, spread: float
) -> None:
    dice = np.random.default_rng(seed)
    a, b = dice.normal(0, 1, 500), dice.normal(shift, spread, 300)
    low, high = min(a.min(), b.min()), max(a.max(), b.max())
    edges = np.unique(np.quantile(a, np.linspace(0, 1, bins + 1)[1:-1]))
    width = np.diff(np.concatenate([[low], edges, [high]]))
    ours, theirs = (np.bincount(np.searchsorted(edges, side), minlength=len(width)) for side in (a, b))
    found = two_sample.wasserstein(ours, theirs, width, np.zeros(len(width)))
    slack = (width * (ours / 500 + theirs / 300)).sum()
    assert abs(found - scipy_stats.wasserstein_distance(a, b)) <= slack + 1e-9


def test_wasserstein_of_two_hundred_quantile_bins_is_within_three_percent() -> None:
    dice = np.random.default_rng(8)
    a, b = dice.normal(0, 1, 50_000), dice.normal(0.2, 1.05, 20_000)
    edges = np.quantile(a, np.linspace(0, 1, 201)[1:-1])
    width = np.diff(np.concatenate([[a.min()], edges, [a.max()]]))
    ours, theirs = (np.bincount(np.searchsorted(edges, side), minlength=200) for side in (a, b))
    found = two_sample.wasserstein(ours, theirs, width, np.zeros(200))
    assert found == pytest.approx(scipy_stats.wasserstein_distance(a, b), rel=0.03)


def test_wasserstein_of_evenly_filled_bins_is_the_area_between_the_lines() -> None:
    # uniform on [0, 1] against uniform on [0, 2]: integral of |x - x/2| over [0, 1] and of 1 - x/2 over [1, 2]
    assert two_sample.wasserstein(np.array([8, 0]), np.array([5, 5]), np.ones(2), np.zeros(2)) == pytest.approx(0.5)


def test_lines_that_cross_within_a_bin_do_not_cancel() -> None:
    # above by 1/2 before the middle bin, below by 1/2 behind it
    found = two_sample.wasserstein(np.array([1, 0, 1]), np.array([0, 2, 0]), np.array([0.0, 4.0, 0.0]), np.zeros(3))
    assert found == pytest.approx(1.0)


def test_false_discoveries_are_the_reference_values() -> None:
    found = false_discovery.adjusted(np.array([0.001, 0.008, 0.039, 0.041, 0.042, 0.06, 0.074, 0.205, 0.212, 0.216]))
    expected = [0.01, 0.04, 0.084, 0.084, 0.084, 0.1, 0.1057, 0.216, 0.216, 0.216]
    assert found.tolist() == pytest.approx(expected, abs=5e-5)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.data())
def test_false_discoveries_equal_scipy_and_skip_tests_not_made(p_values: list[float], data: st.DataObject) -> None:
    expected = scipy_stats.false_discovery_control(p_values)
    assert false_discovery.adjusted(np.array(p_values)) == pytest.approx(expected, rel=1e-12)
    with_gaps = list(p_values)
    for at in sorted(data.draw(st.lists(st.integers(0, len(p_values)), max_size=5))):
        with_gaps.insert(at, np.nan)
    found = false_discovery.adjusted(np.array(with_gaps))
    assert found[~np.isnan(with_gaps)] == pytest.approx(expected, rel=1e-12)
    assert np.isnan(found[np.isnan(with_gaps)]).all()


def test_rows_of_tests_are_adjusted_each_for_itself() -> None:
    table = np.random.default_rng(1).random((4, 3, 7))
    found = false_discovery.adjusted(table)
    for at in np.ndindex(4, 3):
        assert found[at] == pytest.approx(scipy_stats.false_discovery_control(table[at]))


def test_no_tests_stay_none() -> None:
    assert false_discovery.adjusted(np.empty((2, 0))).shape == (2, 0)
