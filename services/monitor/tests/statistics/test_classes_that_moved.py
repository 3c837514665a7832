"""A class has moved when its share changed by more than a tenth of itself, and chance does not explain it."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from kingmaker_monitor.stats import rates


def test_a_class_moves_by_a_part_of_itself_and_not_by_points() -> None:
    found = rates.classes(np.array([98_000, 2_000]), np.array([96_000, 4_000]))
    assert found.has_moved.tolist() == [False, True]
    assert found.change.tolist() == pytest.approx([-2 / 98, 1.0])


@pytest.mark.parametrize(("share", "moved"), [(0.2, False), (0.2195, False), (0.2205, True), (0.1795, True)])
def test_ten_percent_is_the_line(share: float, moved: bool) -> None:
    live = round(1_000_000 * share)
    found = rates.classes(np.array([200_000, 800_000]), np.array([live, 1_000_000 - live]))
    assert found.has_moved[0] == moved


def test_few_rows_move_nothing() -> None:
    assert rates.classes(np.array([50, 50]), np.array([7, 3])).has_moved.tolist() == [False, False]


def test_the_chance_is_that_of_two_proportions() -> None:
    found = rates.classes(np.array([500, 500]), np.array([90, 60]))
    expected = scipy_stats.chi2_contingency([[500, 500], [90, 60]], correction=False).pvalue
    assert found.p_value.tolist() == pytest.approx([expected, expected])


def test_false_alarms_over_many_classes_are_rare() -> None:
    dice = np.random.default_rng(3)
    reference, live = (dice.multinomial(n, np.full(20, 0.05), 2000) for n in (10_000, 1_000))
    assert rates.classes(reference, live).has_moved.any(axis=-1).mean() < 0.02


def test_a_new_class_moved_infinitely_and_an_absent_one_not_at_all() -> None:
    found = rates.classes(np.array([1000, 0, 0]), np.array([900, 100, 0]))
    assert found.change.tolist()[1:] == [np.inf, 0.0]
    assert found.has_moved.tolist() == [False, True, False]


def test_no_rows_move_nothing() -> None:
    found = rates.classes(np.array([10, 20]), np.array([0, 0]))
    assert np.isnan(found.live).all()
    assert not found.has_moved.any()


def test_all_rows_in_one_class_on_both_sides_is_no_move() -> None:
    assert rates.classes(np.array([1000, 0]), np.array([700, 0])).has_moved.tolist() == [False, False]
