"""Goals beside figures: reached, missed, not measured."""

import msgspec
import pytest

from benchmarks import goals, report
from benchmarks import results as kept
from benchmarks.figures import Figure, Ratio, Section
from benchmarks.goals import Goal
from benchmarks.results import Results
from benchmarks.sections import shadow

PLACE = "<!-- figures: goals -->\n<!-- end -->\n"


@pytest.mark.parametrize(("value", "is_reached"), [(24.99, False), (25.0, True), (30.0, True)])
def test_a_goal_from_below_is_reached_from_its_bound_on(value: float, is_reached: bool) -> None:
    assert Goal("", "", at_least=25).is_reached(value) is is_reached


@pytest.mark.parametrize(("value", "is_reached"), [(1.11, False), (1.1, True), (0.5, True)])
def test_a_goal_from_above_is_reached_up_to_its_bound(value: float, is_reached: bool) -> None:
    assert Goal("", "", at_most=1.1).is_reached(value) is is_reached


def test_the_page_tells_what_was_reached_what_not_and_what_nobody_measured(results: Results) -> None:
    missed = Ratio("e2e_vs_envoy_own_server", "gb25", "64 connections", Figure(3.1, 2.9, 4.2, 5))
    other_model = Ratio("server_vs_mlserver", "flights", "64 connections", Figure(30, 30, 30, 5))
    taken = msgspec.structs.replace(
        results,
        sections=[
            *results.sections,
            Section("more", ratios=[missed, other_model], notes={shadow.SHARE_NOTE: 0.995}),
        ],
    )
    text = report.filled(PLACE, taken)
    assert "| end to end, times Envoy + MLServer, 64 connections | at least 25 | 25.5 | 24 to 26 | yes |" in text
    assert "| at least 4 | 3.1 | 2.9 to 4.2 | **no** |" in text
    assert "| share mirrored, half load | at least 0.99 | 0.995 |  | yes |" in text
    assert "| model server, times MLServer, 64 connections | at least 20 | | | *not measured* |" in text


def test_the_kept_results_know_every_goal() -> None:
    taken = kept.newest()
    assert taken is not None
    missing = {goal.name for goal in goals.GOALS if goals.found(goal, taken.sections) is None}
    assert missing <= {"e2e_vs_envoy_mlserver_at_1_asleep"}  # measured by root only


def test_each_goal_has_one_bound_and_a_name_of_its_own() -> None:
    assert all((goal.at_least is None) != (goal.at_most is None) for goal in goals.GOALS)
    assert len({goal.name for goal in goals.GOALS}) == len(goals.GOALS)
