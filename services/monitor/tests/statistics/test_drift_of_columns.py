"""All statistics of all columns at once: against loops over raw rows, alone or beside others, whole or in parts."""

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from kingmaker_monitor.stats import drift, merging
from kingmaker_monitor.stats.drift import Measures
from kingmaker_monitor.stats.layout import Categorical, Layout, Numeric

TASTES = (["a"] * 60) + (["b"] * 30) + (["c"] * 6) + (["d"] * 3) + [None] * 2


def numbers_of(found: Measures) -> dict[str, Any]:
    """Every array of the measures by a name."""
    flat = {}
    for one in fields(found):
        value = getattr(found, one.name)
        for name, part in value._asdict().items() if hasattr(value, "_asdict") else [("", value)]:
            flat[f"{one.name}.{name}"] = part
    return flat


def test_every_statistic_of_a_number_equals_a_loop_over_the_rows(rows: Any) -> None:
    dice = np.random.default_rng(1)
    training = [*dice.normal(0, 1, 3000).tolist(), *[math.nan] * 30]
    live = [*dice.normal(0.4, 1.5, 900).tolist(), *[math.nan] * 100]
    column = rows.number(training, 40)
    layout = Layout([column])
    found = {
        name: part[0]
        for name, part in numbers_of(drift.measure(layout, layout.block([rows.count(column, live)]))).items()
    }

    values, trained = [x for x in live if not math.isnan(x)], [x for x in training if not math.isnan(x)]
    assert (found["n."], found["reference_n."]) == (1000, 3030)
    assert found["missing."] == pytest.approx(0.1)
    assert found["reference_missing."] == pytest.approx(30 / 3030)
    outside = sum(1 for x in values if x < min(trained) or x > max(trained))
    assert outside > 0
    assert found["out_of_range."] == pytest.approx(outside / 1000)
    assert np.isnan(found["new."])
    assert np.isnan(found["classes_moved."])

    # ten bins of 300 training rows each, and missing values
    cuts = sorted(trained)[299:-1:300]
    p, q = ([*_binned(side, cuts), miss] for side, miss in ((trained, 30), (values, 100)))
    _check_shares(found, p, q)

    exact = scipy_stats.ks_2samp(trained, values).statistic
    assert exact - 1 / 40 <= found["ks.statistic"] <= exact + 1e-12
    deviation = float(np.std(trained))
    inside = np.clip(values, min(trained), max(trained))
    assert found["wasserstein."] == pytest.approx(
        scipy_stats.wasserstein_distance(trained, inside) / deviation, rel=0.1
    )
    assert found["mean_shift."] == pytest.approx((np.mean(inside) - np.mean(trained)) / deviation, abs=0.05)


def test_statistics_of_discrete_numbers_are_exact(rows: Any) -> None:
    dice = np.random.default_rng(2)
    training, live = dice.poisson(2, 800).astype(float).tolist(), dice.poisson(2.6, 700).astype(float).tolist()
    column = rows.number(training, 0, discrete=True)
    layout = Layout([column])
    found = drift.measure(layout, layout.block([rows.count(column, live)]))
    top, deviation = max(training), float(np.std(training))
    clipped = [min(x, top) for x in live]
    assert found.ks.statistic[0] == pytest.approx(scipy_stats.ks_2samp(training, clipped).statistic)
    assert found.wasserstein[0] == pytest.approx(scipy_stats.wasserstein_distance(training, clipped) / deviation)
    assert found.mean_shift[0] == pytest.approx((np.mean(clipped) - np.mean(training)) / deviation)


def test_every_statistic_of_a_category_equals_a_loop_over_the_rows(rows: Any) -> None:
    column, names = rows.category(TASTES * 20, named=4)
    live = ["a"] * 500 + ["b"] * 420 + ["c"] * 52 + ["d"] * 8 + ["e"] * 15 + [None] * 5
    layout = Layout([column])
    counts = rows.count_names(names, {"a", "b", "c", "d"}, live)
    found = {name: part[0] for name, part in numbers_of(drift.measure(layout, layout.block([counts]))).items()}
    trained, seen = Counter(TASTES * 20), Counter(live)
    keys = ["a", "b", "c", "d", "e", None]
    _check_shares(found, [trained[key] for key in keys], [seen[key] for key in keys])
    assert found["new."] == pytest.approx(15 / 1000)
    assert found["missing."] == pytest.approx(5 / 1000)
    assert all(np.isnan(found[name]) for name in ("ks.statistic", "wasserstein.", "mean_shift.", "out_of_range."))
    # a: 60/99 -> 500/995 falls by 17 %, b rises by 39 %, e is new; d fell by 73 % and c by 14 %, which may be chance
    assert found["classes_moved."] == 4


def _binned(rows: Sequence[float], cuts: Sequence[float]) -> list[int]:
    ends = [-math.inf, *cuts, math.inf]
    return [sum(1 for x in rows if low < x <= high) for low, high in itertools.pairwise(ends)]


def _check_shares(found: dict[str, Any], p: list[int], q: list[int]) -> None:
    """p, q: rows by merged bin."""
    m, n, bins = sum(p), sum(q), len(p)
    smooth = [((a + 0.5) / (m + bins / 2), (b + 0.5) / (n + bins / 2)) for a, b in zip(p, q, strict=True)]
    plain = [(a / m, b / n) for a, b in zip(p, q, strict=True)]
    value = sum((b - a) * math.log(b / a) for a, b in smooth)
    assert found["psi.value"] == pytest.approx(value)
    assert found["psi.corrected"] == pytest.approx(max(0.0, value - (bins - 1) * (1 / m + 1 / n)))
    assert found["psi.noise"] == pytest.approx((1 / m + 1 / n) * scipy_stats.chi2.ppf(0.95, bins - 1))
    assert found["kl."] == pytest.approx(sum(a * math.log(a / b) for a, b in smooth))
    assert found["hellinger."] == pytest.approx(math.sqrt(1 - sum(math.sqrt(a * b) for a, b in plain)))
    assert found["largest_difference."] == pytest.approx(max(abs(a - b) for a, b in plain))
    halves = sum(x * math.log2(x / ((a + b) / 2)) / 2 for a, b in plain for x in (a, b) if x)
    assert found["jensen_shannon."] == pytest.approx(math.sqrt(halves))
    expected = scipy_stats.chi2_contingency([p, q], correction=False)
    assert found["chi_square.statistic"] == pytest.approx(expected.statistic)
    assert found["chi_square.p_value"] == pytest.approx(expected.pvalue)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Numeric | Categorical], list[list[np.ndarray]]]:
    """Some columns of many widths, and counts of a few batches of live rows."""
    dice = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    columns: list[Numeric | Categorical] = []
    for is_number, size in draw(st.lists(st.tuples(st.booleans(), st.integers(1, 40)), min_size=1, max_size=5)):
        reference = dice.integers(0, 200, size + 3)
        if is_number:
            edges = np.sort(dice.normal(0, 1, size - 1))
            low, high = (edges[0] - 1, edges[-1] + 1) if size > 1 else (0.0, 1.0)
            columns.append(Numeric(edges, reference, low, high, 1.0, bool(dice.integers(2))))
        else:
            columns.append(Categorical(reference))
    batches = draw(st.integers(1, 3))
    return columns, [
        [dice.integers(0, dice.integers(1, 90), len(c.reference)) for c in columns] for _ in range(batches)
    ]


def same(one: Measures, other: Measures, index: Any = ()) -> None:
    for (name, a), b in zip(numbers_of(one).items(), numbers_of(other).values(), strict=True):
        np.testing.assert_allclose(a[index], b, rtol=1e-9, atol=1e-12, err_msg=name)


@given(tables())
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_a_column_has_the_same_numbers_alone_as_beside_others(table: Any) -> None:
    columns, batches = table
    layout = Layout(columns)
    together = drift.measure(layout, np.stack([layout.block(batch) for batch in batches]))
    for i, column in enumerate(columns):
        alone = Layout([column])
        for j, batch in enumerate(batches):
            same(together, drift.measure(alone, alone.block([batch[i]])), (j, slice(i, i + 1)))


@given(tables())
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_sums_of_batches_are_the_counts_of_all_their_rows(table: Any) -> None:
    columns, batches = table
    layout = Layout(columns)
    parts = sum(layout.block(batch) for batch in batches)
    whole = layout.block([np.sum([batch[i] for batch in batches], axis=0) for i in range(len(columns))])
    same(drift.measure(layout, np.asarray(parts)), drift.measure(layout, whole))
    assert (layout.merged(whole).sum(axis=-1) == layout.fine(whole).sum(axis=-1) + layout.missing(whole)).all()
    assert layout.merged(whole).shape[-1] <= max(merging.BINS, *(len(c.reference) for c in columns)) + 1


@given(tables())
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_the_reference_against_itself_has_not_drifted(table: Any) -> None:
    columns, _ = table
    layout = Layout(columns)
    found = drift.measure(layout, layout.reference)
    for numbers in (found.psi.value, found.kl, found.jensen_shannon, found.hellinger, found.ks.statistic):
        assert np.nan_to_num(numbers) == pytest.approx(0, abs=1e-9)
    for numbers in (found.wasserstein, found.mean_shift, found.chi_square.statistic, found.classes_moved):
        assert np.nan_to_num(numbers) == pytest.approx(0, abs=1e-9)


def test_new_categories_are_not_told_from_rare_ones_and_drift_all_the_same(rows: Any) -> None:
    column, names = rows.category(TASTES * 20, named=3)
    layout = Layout([column])
    unnamed = rows.count_names(names, {"a", "b", "c", "d"}, ["a"] * 600 + ["b"] * 300 + ["c"] * 60 + ["d"] * 400)
    found = drift.measure(layout, layout.block([unnamed]))
    assert np.isnan(found.new[0])
    assert found.psi.corrected[0] > 0.25


def test_the_champion_is_a_reference_like_training(rows: Any) -> None:
    dice = np.random.default_rng(4)
    column = rows.number(dice.normal(0, 1, 2000).tolist(), 50)
    layout = Layout([column])
    champion = layout.block([rows.count(column, dice.normal(1, 1, 1500).tolist())])
    challenger = layout.block([rows.count(column, dice.normal(1, 1, 1500).tolist())])
    assert drift.measure(layout, challenger).psi.value[0] > 0.5
    beside = drift.measure(layout, challenger, champion)
    assert (beside.reference_n[0], beside.psi.value[0] < 0.05) == (1500, True)
    assert beside.psi.value[0] == pytest.approx(drift.measure(layout, champion, challenger).psi.value[0])


@given(tables())
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_one_reference_for_many_windows_is_the_same_as_one_each(table: Any) -> None:
    columns, batches = table
    layout = Layout(columns)
    live = np.stack([layout.block(batch) for batch in batches])
    same(drift.measure(layout, live, live[0]), drift.measure(layout, live, np.broadcast_to(live[0], live.shape)))
    turned = drift.measure(layout, live[0], live)
    assert {numbers.shape for numbers in numbers_of(turned).values()} == {live.shape[:-1]}


def test_no_rows_are_no_numbers(rows: Any) -> None:
    column = rows.number([1.0, 2.0, 3.0], 3)
    layout = Layout([column, Categorical(np.array([5, 1, 0, 0]))])
    found = numbers_of(drift.measure(layout, np.zeros_like(layout.reference)))
    for name, numbers in found.items():
        if name not in ("n.", "reference_n.", "reference_missing."):
            assert np.isnan(numbers).all(), name


def test_a_constant_column_has_no_deviation_to_measure_in_and_no_psi() -> None:
    layout = Layout([Numeric(np.array([]), np.array([100, 0, 0, 0]), 7.0, 7.0, 0.0, discrete=True)])
    found = drift.measure(layout, layout.block([np.array([90, 0, 0, 10])]))
    assert np.isnan(found.wasserstein[0])
    assert (found.psi.value[0], found.out_of_range[0], found.chi_square.p_value[0]) == (
        0.0,
        pytest.approx(10 / 90),
        1.0,
    )


def test_a_reference_of_no_numbers_has_no_statistics_but_missing() -> None:
    layout = Layout([Numeric(np.array([]), np.array([0, 50, 0, 0]), -np.inf, np.inf, math.nan)])
    found = drift.measure(layout, layout.block([np.array([10, 30, 0, 0])]))
    assert found.missing[0] == 0.75
    assert found.psi.value[0] > 0.1
    assert np.isnan(found.ks.statistic[0])


def test_a_range_that_contradicts_its_edges_makes_no_negative_distance() -> None:
    layout = Layout([Numeric(np.array([0.0, 1.0]), np.array([50, 50, 50, 0, 0, 0]), 0.5, 0.7, 1.0)])
    found = drift.measure(layout, layout.block([np.array([150, 0, 0, 0, 0, 0])]))
    assert (layout.width >= 0).all()
    assert found.wasserstein[0] == pytest.approx(0.5)


def test_counts_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match="edges make"):
        Numeric(np.array([1.0]), np.zeros(4, np.int64), 0.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="at least"):
        Categorical(np.zeros(2, np.int64))
    layout = Layout([Categorical(np.zeros(5, np.int64))])
    with pytest.raises(ValueError, match="of 5 counts"):
        layout.block([np.zeros(6, np.int64)])
    with pytest.raises(ValueError, match="1 columns"):
        layout.block([])


def test_a_profile_without_columns_is_no_fault() -> None:
    layout = Layout([])
    assert drift.measure(layout, layout.block([])).psi.value.shape == (0,)
