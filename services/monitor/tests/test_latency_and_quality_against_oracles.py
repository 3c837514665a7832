"""Latency and quality against hand-computed values, another library, or brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss, mean_absolute_error, roc_auc_score, root_mean_squared_error

from kingmaker_monitor.stats import errors, latency, quality


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


@pytest.mark.parametrize("unit", [1e-9, 1.0, 40.0, 1e7])
def test_errors_of_a_regression_are_within_one_percent_of_sklearn(unit: float) -> None:
    dice = np.random.default_rng(8)
    truth = dice.normal(3, 1, 4000) * unit
    guess = truth + dice.standard_t(3, 4000) * unit * 0.2 + 0.05 * unit
    counts = errors.histogram(guess - truth, float(truth.std()))
    found = errors.mean_absolute(counts, float(truth.std()))
    assert found is not None
    assert found == pytest.approx(mean_absolute_error(truth, guess), rel=0.01)
    rmse = errors.root_mean_square(counts, float(truth.std()))
    assert rmse == pytest.approx(root_mean_squared_error(truth, guess), rel=0.01)
    assert errors.mean(counts, float(truth.std())) == pytest.approx((guess - truth).mean(), abs=0.01 * found)


@given(st.lists(st.floats(-1e5, 1e5), max_size=30), st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_what_is_taken_back_leaves_no_trace_in_errors(kept: list[float], wrong: list[float]) -> None:
    counts = errors.histogram(np.array([*kept, *wrong]), 1.0) - errors.histogram(np.array(wrong), 1.0)
    np.testing.assert_array_equal(counts, errors.histogram(np.array(kept), 1.0))
    found = errors.mean_absolute(counts, 1.0)
    exact = sum(map(abs, kept)) / len(kept) if kept else None
    assert found == (None if exact is None else pytest.approx(exact, rel=0.01, abs=errors.SMALLEST))


def test_errors_beyond_every_bucket_count_in_the_last() -> None:
    counts = errors.histogram(np.array([1e300, -1e300, 0.0]), 2.0)
    assert counts[[0, errors.SIDE, -1]].tolist() == [1, 1, 1]
    assert errors.mean(counts, 2.0) == 0.0
    assert 1e6 <= errors.VALUES[-1] < 1.1e6
    found = errors.root_mean_square(counts, None)
    assert found is not None and np.isfinite(found)


@given(st.lists(st.integers(1, 2**32 - 1), min_size=1, max_size=300), st.sampled_from([0.5, 0.95, 0.99]))
def test_latency_quantiles_are_within_one_percent(latencies: list[int], q: float) -> None:
    counts = latency.histogram(np.array(latencies, "<u4"))
    exact = sorted(latencies)[max(1, int(np.ceil(q * len(latencies)))) - 1] / 1000
    assert latency.quantile_ms(counts, q) == pytest.approx(exact, rel=0.0101)


def test_latency_without_rows_is_none() -> None:
    assert latency.quantile_ms(latency.histogram(np.array([], "<u4")), 0.5) is None
