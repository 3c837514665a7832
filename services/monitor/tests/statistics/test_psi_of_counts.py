"""PSI of counts: half a row a bin, the noise of small samples, and merging fine bins into ten."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from kingmaker_monitor.stats import merging, psi

P = np.full(10, 0.1)


def test_each_bin_gets_half_a_row() -> None:
    found = psi.of_counts(np.array([500, 300, 200]), np.array([120, 50, 30]))
    p = np.array([500.5, 300.5, 200.5]) / 1001.5
    q = np.array([120.5, 50.5, 30.5]) / 201.5
    assert found.value == pytest.approx(float(((q - p) * np.log(q / p)).sum()))
    assert found.corrected == pytest.approx(max(0.0, float(found.value) - 2 * (1 / 200 + 1 / 1000)))


@pytest.mark.parametrize(("n", "noise"), [(100, 0.171), (200, 0.086), (500, 0.036), (1000, 0.019), (10_000, 0.0034)])
def test_noise_is_the_published_95_percent_point(n: int, noise: float) -> None:
    found = psi.of_counts(np.full(10, 1000), np.full(10, n // 10))
    assert found.noise == pytest.approx(noise, abs=6e-4)
    assert found.noise == pytest.approx((1 / n + 1 / 10_000) * scipy_stats.chi2.ppf(0.95, 9), rel=1e-9)


@pytest.mark.parametrize(("n", "mean"), [(200, 0.046), (500, 0.019), (1000, 0.010), (10_000, 0.0018)])
def test_without_drift_psi_has_the_published_mean_and_the_corrected_value_hardly_any(n: int, mean: float) -> None:
    dice = np.random.default_rng(n)
    found = psi.of_counts(dice.multinomial(10_000, P, 3000), dice.multinomial(n, P, 3000))
    assert found.value.mean() == pytest.approx(mean, rel=0.05)
    assert (found.value - 9 * (1 / n + 1e-4)).mean() == pytest.approx(0, abs=0.05 * mean)
    assert (found.corrected >= 0).all()


@pytest.mark.parametrize(("m", "n"), [(100_000, 2000), (1000, 1000), (10_000, 500)])
def test_noise_is_exceeded_by_about_one_undrifted_sample_in_twenty(m: int, n: int) -> None:
    dice = np.random.default_rng(5)
    found = psi.of_counts(dice.multinomial(m, P, 4000), dice.multinomial(n, P, 4000))
    assert 0.04 < (found.value > found.noise).mean() < 0.06


def test_swapped_sides_have_the_same_psi() -> None:
    a, b = np.array([40, 30, 0, 7]), np.array([10, 80, 5, 0])
    assert psi.of_counts(a, b).value == pytest.approx(psi.of_counts(b, a).value)


def test_an_empty_bin_costs_a_bounded_amount() -> None:
    found = psi.of_counts(np.array([1000, 1000]), np.array([1000, 0]))
    assert found.value == pytest.approx(0.5 * np.log(1000 / 0.5), rel=0.1)
    assert np.isfinite(psi.of_counts(np.array([0, 10**9]), np.array([10**9, 0])).value)


def test_an_empty_side_has_no_psi_and_one_bin_no_drift() -> None:
    assert all(np.isnan(number) for number in psi.of_counts(np.array([1, 2]), np.array([0, 0])))
    assert all(np.isnan(number) for number in psi.of_counts(np.array([0, 0]), np.array([1, 2])))
    assert [float(number) for number in psi.of_counts(np.array([7]), np.array([3]))] == [0.0, 0.0, 0.0]


def test_other_bins_are_refused() -> None:
    with pytest.raises(ValueError, match="bins"):
        psi.of_counts(np.array([1, 2]), np.array([1, 2, 3]))


@given(st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_bins_empty_on_both_sides_change_nothing(empty: int, seed: int) -> None:
    dice = np.random.default_rng(seed)
    a, b = dice.multinomial(50, P, 3), dice.multinomial(20, P, 3)
    padded = [np.concatenate([side, np.zeros((3, empty), np.int64)], axis=-1) for side in (a, b)]
    for number, same in zip(psi.of_counts(a, b), psi.of_counts(*padded), strict=True):
        np.testing.assert_allclose(number, same, rtol=1e-12)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=200), st.data())
def test_merging_keeps_order_and_rows_and_at_most_ten_bins(counts: list[int], data: st.DataObject) -> None:
    reference = np.array(counts)
    plan = merging.plan(reference)
    live = np.array(data.draw(st.lists(st.integers(0, 50), min_size=len(counts), max_size=len(counts))))
    assert (np.diff(plan) >= 0).all()
    assert set(np.diff(plan).tolist()) <= {0, 1}
    assert plan.max() < merging.BINS
    padded = np.append(live, np.zeros(5, np.int64))
    merged = merging.merge_all(padded[None, :], merging.bounds([plan], len(padded)))[0]
    assert merged.tolist() == [int(live[plan == group].sum()) for group in range(plan.max() + 1)]


def test_quantile_bins_merge_into_ten_equal_ones() -> None:
    plan = merging.plan(np.full(100, 7))
    assert np.bincount(plan).tolist() == [10] * 10


def test_a_heavy_value_keeps_a_bin_of_its_own() -> None:
    reference = np.array([5, 5, 5, 85, *[1] * 20])
    plan = merging.plan(reference)
    assert (plan == plan[3]).sum() == 1


def test_a_column_of_no_rows_merges_into_one_bin() -> None:
    assert merging.plan(np.zeros(4, np.int64)).tolist() == [0, 0, 0, 0]
