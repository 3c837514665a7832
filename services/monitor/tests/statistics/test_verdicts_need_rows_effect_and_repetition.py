"""What it takes to call a column drifted, and when nobody can know."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kingmaker_monitor.stats import drift
from kingmaker_monitor.stats.drift import Measures
from kingmaker_monitor.stats.layout import Categorical, Layout
from kingmaker_monitor.stats.verdict import Level, Rules, levels, persisted, summary

NO, OK, WARN, BAD = Level.NO_DATA, Level.STABLE, Level.WARNING, Level.DRIFTED


def looked_at(*columns: tuple[list[int], list[int]]) -> Measures:
    """Columns of categories, each as (training rows, live rows) by category."""
    layout = Layout([Categorical(np.array([*reference, 0, 0, 0])) for reference, _ in columns])
    return drift.measure(layout, layout.block([np.array([*live, 0, 0, 0]) for _, live in columns]))


def one(reference: list[int], live: list[int], rules: Rules | None = None) -> Level:
    return Level(levels(looked_at((reference, live)), rules or Rules())[0])


@pytest.mark.parametrize(
    ("live", "expected"),
    [
        ([249, 250], NO),
        ([0, 499], NO),  # as drifted as can be, and still nobody can know
        ([250, 250], OK),
        ([0, 500], BAD),
        ([190, 310], OK),
        ([160, 340], WARN),
        ([120, 380], BAD),
    ],
)
def test_a_verdict_takes_five_hundred_rows_and_an_effect(live: list[int], expected: Level) -> None:
    assert one([5000, 5000], live) == expected


def test_few_reference_rows_are_no_data_too() -> None:
    assert one([250, 249], [0, 100_000]) == NO
    assert one([250, 250], [0, 100_000]) == BAD


def test_a_tiny_effect_of_a_huge_sample_is_significant_and_stable() -> None:
    found = looked_at(([500_000, 500_000], [520_000, 480_000]))
    assert found.chi_square.p_value[0] < 1e-100
    assert levels(found).tolist() == [OK]


def test_an_effect_that_noise_alone_makes_is_stable() -> None:
    dice = np.random.default_rng(1)
    reference = dice.multinomial(600, np.full(100, 0.01))
    found = looked_at((reference.tolist(), dice.multinomial(500, np.full(100, 0.01)).tolist()))
    assert found.psi.value[0] > 0.25
    assert levels(found).tolist() == [OK]


def test_psi_within_its_noise_is_stable_however_lenient_the_test_is() -> None:
    found = looked_at(([300, 200], [280, 220]))
    assert found.chi_square.p_value[0] < 0.25
    assert 0.001 < found.psi.corrected[0] < found.psi.value[0] < found.psi.noise[0]
    assert levels(found, Rules(warning=0.001, false_discovery=0.5)).tolist() == [OK]


def test_significance_is_corrected_for_the_number_of_columns() -> None:
    dice = np.random.default_rng(0)
    small = [300, 200], [250, 250]  # p = 0.0015
    rules = Rules(warning=0.005)
    assert levels(looked_at(small), rules).tolist() == [WARN]
    others = [(dice.multinomial(500, [0.5, 0.5]).tolist(), [250, 250]) for _ in range(20)]
    assert levels(looked_at(small, *others), rules)[0] == OK


def test_a_column_without_data_does_not_count_as_a_test() -> None:
    rules = Rules(warning=0.005)
    assert (
        levels(looked_at(([300, 200], [250, 250]), *[([300, 200], [2, 1])] * 20), rules).tolist() == [WARN] + [NO] * 20
    )


@pytest.mark.parametrize(
    "wrong",
    [{"min_rows": 199}, {"warning": 0.0}, {"warning": 0.3}, {"false_discovery": 0.0}, {"false_discovery": 1.0}],
)
def test_rules_that_need_no_data_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong)).split("_")[0]):
        Rules(**wrong)


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([BAD], WARN),
        ([OK, BAD], WARN),
        ([BAD, BAD], BAD),
        ([BAD, OK, BAD], BAD),
        ([BAD, BAD, OK], BAD),
        ([BAD, OK, OK], OK),
        ([OK, BAD, OK], OK),
        ([WARN, OK, OK], OK),
        ([OK, OK, WARN], WARN),
        ([WARN, WARN, OK], WARN),
        ([WARN, BAD, OK], WARN),
        ([NO, NO, BAD], WARN),
        ([BAD, NO, BAD], BAD),
        ([BAD, BAD, NO], NO),
        ([NO, NO, OK], OK),
        ([NO], NO),
        ([BAD, BAD, OK, OK, OK], OK),
    ],
)
def test_it_takes_two_windows_of_three(history: list[Level], expected: Level) -> None:
    assert Level(persisted(np.array(history, np.int8)[:, None])[0]) == expected


@given(st.lists(st.sampled_from(Level), min_size=1, max_size=3))
def test_one_window_alone_is_never_drift_and_no_data_is_never_stable(history: list[Level]) -> None:
    found = persisted(np.array(history, np.int8))
    assert (found == BAD) <= (history.count(BAD) >= 2)
    assert (found == NO) == (history[-1] == NO)


def test_each_column_has_its_own_history() -> None:
    history = np.array([[BAD, OK, OK], [BAD, BAD, OK], [OK, OK, BAD]], np.int8)
    assert persisted(history).tolist() == [BAD, OK, WARN]


def test_no_history_is_refused() -> None:
    with pytest.raises(ValueError, match="no window"):
        persisted(np.empty((0, 4), np.int8))


def test_the_summary_leaves_out_what_nobody_can_know() -> None:
    found = summary(np.array([BAD, OK, WARN, NO]), np.array([0.9, 0.0, 0.15, 5.0]))
    assert (int(found.judged), int(found.drifted), int(found.warned)) == (3, 1, 1)
    assert found.drifted_share == pytest.approx(1 / 3)
    assert found.headline == pytest.approx(0.35)


def test_the_headline_weighs_by_importance_and_a_useless_column_weighs_nothing() -> None:
    level, corrected = np.array([BAD, OK, OK]), np.array([9.0, 0.1, 0.4])
    assert summary(level, corrected, np.array([-0.1, 3.0, 1.0])).headline == pytest.approx(0.175)
    assert summary(level, corrected, np.array([np.nan, 3.0, 1.0])).headline == pytest.approx(0.175)
    assert summary(level, corrected, np.zeros(3)).headline == pytest.approx(9.5 / 3)


def test_without_data_there_is_no_share_and_no_headline() -> None:
    found = summary(np.full((2, 3), NO), np.full((2, 3), np.nan))
    assert np.isnan(found.drifted_share).all()
    assert np.isnan(found.headline).all()
    alone = summary(np.array([NO, OK]), np.array([np.nan, 0.1]), np.array([1.0, 0.0]))
    assert np.isnan(alone.headline)
