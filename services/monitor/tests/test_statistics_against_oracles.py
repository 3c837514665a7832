"""Every statistic against hand-computed values, another library, or brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from kingmaker_monitor.stats import latency, psi, quality, two_sample

P = np.full(10, 0.1)
Q = np.array([0.05, 0.05, 0.08, 0.1, 0.1, 0.12, 0.12, 0.13, 0.125, 0.125])


def test_psi_of_shares_is_the_reference_value() -> None:
    assert psi.of_shares(P, Q) == pytest.approx(0.1000985569, abs=1e-10)


def test_psi_is_the_sum_of_both_relative_entropies() -> None:
    assert psi.of_shares(P, Q) == pytest.approx(scipy_stats.entropy(P, Q) + scipy_stats.entropy(Q, P), rel=1e-12)


def test_psi_of_counts_gives_each_bin_half_a_row() -> None:
    found = psi.of_counts(np.array([500, 300, 200]), np.array([120, 50, 30]))
    p = np.array([500.5, 300.5, 200.5]) / 1001.5
    q = np.array([120.5, 50.5, 30.5]) / 201.5
    assert found is not None
    assert found.value == pytest.approx(float(((q - p) * np.log(q / p)).sum()))
    assert found.corrected == pytest.approx(max(0.0, found.value - 2 * (1 / 200 + 1 / 1000)))


@pytest.mark.parametrize(("n", "noise"), [(100, 0.171), (200, 0.086), (500, 0.036), (1000, 0.019), (10_000, 0.0034)])
def test_noise_is_the_published_95_percent_point(n: int, noise: float) -> None:
    found = psi.of_counts(np.full(10, 1000), np.full(10, n // 10))
    assert found is not None
    assert found.noise == pytest.approx(noise, abs=6e-4)
    assert found.noise == pytest.approx((1 / n + 1 / 10_000) * scipy_stats.chi2.ppf(0.95, 9), rel=1e-9)


def test_noise_is_exceeded_by_about_one_undrifted_sample_in_twenty() -> None:
    dice = np.random.default_rng(5)
    reference = dice.multinomial(100_000, P)
    drawn = [psi.of_counts(reference, dice.multinomial(2000, P)) for _ in range(2000)]
    exceeded = np.mean([found is not None and found.value > found.noise for found in drawn])
    assert 0.03 < exceeded < 0.07


def test_an_empty_side_has_no_psi_and_other_bins_are_refused() -> None:
    assert psi.of_counts(np.array([1, 2]), np.array([0, 0])) is None
    with pytest.raises(ValueError, match="bins"):
        psi.of_counts(np.array([1, 2]), np.array([1, 2, 3]))


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=200), st.data())
def test_merging_keeps_order_and_rows_and_at_most_ten_bins(counts: list[int], data: st.DataObject) -> None:
    reference = np.array(counts)
    plan = psi.merge_plan(reference)
    live = np.array(data.draw(st.lists(st.integers(0, 50), min_size=len(counts), max_size=len(counts))))
    assert (np.diff(plan) >= 0).all()
    assert set(np.diff(plan).tolist()) <= {0, 1}
    assert plan.max() < psi.BINS
    assert psi.merge(live, plan).sum() == live.sum()


def test_quantile_bins_merge_into_ten_equal_ones() -> None:
    assert psi.merge(np.full(100, 7), psi.merge_plan(np.full(100, 7))).tolist() == [70] * 10


def test_ks_equals_scipy_when_every_value_has_a_bin() -> None:
    dice = np.random.default_rng(2)
    a, b = dice.integers(0, 50, 700), dice.integers(5, 60, 400)
    binned = two_sample.kolmogorov_smirnov(np.bincount(a, minlength=60), np.bincount(b, minlength=60))
    assert binned == pytest.approx(scipy_stats.ks_2samp(a, b).statistic, abs=1e-12)


def test_binned_ks_is_below_the_exact_distance_by_at_most_the_largest_bin() -> None:
    dice = np.random.default_rng(3)
    a, b = dice.normal(0, 1, 20_000), dice.normal(0.05, 1.02, 5_000)
    edges = np.quantile(a, np.linspace(0, 1, 101)[1:-1])
    counts = [np.bincount(np.searchsorted(edges, x), minlength=100) for x in (a, b)]
    exact = scipy_stats.ks_2samp(a, b).statistic
    found = two_sample.kolmogorov_smirnov(*counts)
    assert found is not None
    assert exact - 0.013 <= found <= exact


def test_ks_without_rows_is_no_number() -> None:
    assert two_sample.kolmogorov_smirnov(np.array([0, 0]), np.array([1, 2])) is None


@given(st.lists(st.tuples(st.integers(0, 7), st.booleans()), min_size=1, max_size=60))
def test_auc_counts_ties_half_as_brute_force_does(rows: list[tuple[int, bool]]) -> None:
    positives = np.bincount([score for score, truth in rows if truth], minlength=8)
    negatives = np.bincount([score for score, truth in rows if not truth], minlength=8)
    p = [score for score, truth in rows if truth]
    n = [score for score, truth in rows if not truth]
    wins = [(a > b) + (a == b) / 2 for a in p for b in n]
    expected = sum(wins) / len(wins) if wins else None
    assert quality.auc(positives, negatives) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("shape", [(1, 5), (0.5, 0.5), (1, 200)])
def test_auc_of_a_fine_histogram_is_within_0_002_of_sklearn(shape: tuple[float, float]) -> None:
    dice = np.random.default_rng(4)
    score = dice.beta(*shape, 20_000)
    truth = dice.random(20_000) < score
    edges = np.union1d(np.linspace(0, 1, 1001), np.quantile(dice.beta(*shape, 5_000), np.linspace(0, 1, 101)[1:-1]))
    bins = np.searchsorted(edges, score)
    found = quality.auc(
        np.bincount(bins[truth], minlength=len(edges) + 1), np.bincount(bins[~truth], minlength=len(edges) + 1)
    )
    assert found == pytest.approx(roc_auc_score(truth, score), abs=0.002)


def test_losses_equal_sklearn() -> None:
    dice = np.random.default_rng(6)
    score, truth = dice.random(500), dice.random(500) < 0.4
    assert quality.log_losses(score, truth).mean() == pytest.approx(log_loss(truth, score), rel=1e-12)
    assert quality.brier_losses(score, truth).mean() == pytest.approx(brier_score_loss(truth, score), rel=1e-12)


def test_a_confident_mistake_costs_a_bounded_loss() -> None:
    assert quality.log_losses(np.array([0.0]), np.array([True]))[0] == pytest.approx(-np.log(1e-7))


def test_nothing_to_average_is_none() -> None:
    assert quality.mean(0.0, 0) is None


@given(st.lists(st.integers(1, 2**32 - 1), min_size=1, max_size=300), st.sampled_from([0.5, 0.95, 0.99]))
def test_latency_quantiles_are_within_one_percent(latencies: list[int], q: float) -> None:
    counts = latency.histogram(np.array(latencies, "<u4"))
    exact = sorted(latencies)[max(1, int(np.ceil(q * len(latencies)))) - 1] / 1000
    assert latency.quantile_ms(counts, q) == pytest.approx(exact, rel=0.0101)


def test_latency_without_rows_is_none() -> None:
    assert latency.quantile_ms(latency.histogram(np.array([], "<u4")), 0.5) is None
