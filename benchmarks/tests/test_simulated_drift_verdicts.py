"""A small version of `make stats-report` with fixed seeds: wrong hardly ever, right when it matters."""

import numpy as np
import pytest

from benchmarks.verdicts import page, plots
from benchmarks.verdicts.populations import NOTHING, Category, Change, Number, draw
from benchmarks.verdicts.scenarios import SHIFTS, SIZES, Report
from benchmarks.verdicts.simulation import Alarms, Power, Rate, false_alarms, power, true_psi, usual_psi
from kingmaker_monitor.stats import drift


@pytest.mark.parametrize("n", [500, 5000])
def test_without_drift_columns_are_stable_where_usual_rules_cry(n: int) -> None:
    found = false_alarms(n, n=n, looks=60)
    assert found.no_data.hits == 0
    assert found.warned.value < 0.001
    assert (found.drifted.hits, found.any_drifted.hits) == (0, 0)
    assert 0.04 < found.usual_p.value < 0.06
    assert found.any_usual_p.value > 0.8


def test_beside_a_champion_of_few_rows_columns_are_stable_too() -> None:
    found = false_alarms(7, n=500, looks=60, beside_champion=True)
    assert (found.no_data.hits, found.any_drifted.hits) == (0, 0)
    assert found.warned.value < 0.002
    assert found.any_usual_psi.value > 0.9


def test_few_rows_get_no_verdict_although_the_usual_rule_has_one() -> None:
    found = false_alarms(1, n=100, looks=20)
    assert found.no_data.value == 1
    assert found.warned.hits == 0
    assert found.usual_psi.value > 0.1


@pytest.mark.parametrize("n", [500, 5000])
@pytest.mark.parametrize(
    ("shift", "warned", "drifted"), [(0.2, (0, 0.05), (0, 0)), (0.45, (0.95, 1), (0, 0.3)), (0.7, (1, 1), (0.98, 1))]
)
def test_a_mean_that_moved_is_called_by_its_size_and_not_by_the_number_of_rows(
    n: int, shift: float, warned: tuple[float, float], drifted: tuple[float, float]
) -> None:
    found = power(n, Number(), [Change(shift=shift)] * 3, n=n, looks=100, columns=10)
    assert warned[0] <= found.warned.value <= warned[1]
    assert drifted[0] <= found.finally_drifted.value <= drifted[1]


@pytest.mark.parametrize(
    ("population", "change"),
    [
        (Number(), Change(missing=0.2)),
        (Number(), Change(spread=2.2)),
        (Category(10), Change(new=0.08)),
        (Category(10), Change(swapped=0.2)),
        (Category(100), Change(swapped=0.15)),
    ],
)
def test_large_drift_of_any_kind_is_seen_from_five_hundred_rows(population: Number | Category, change: Change) -> None:
    found = power(3, population, [change] * 3, n=500, looks=60, columns=10)
    assert found.true_psi > 0.4
    assert found.finally_drifted.value > 0.95


def test_one_odd_window_is_never_drifted_and_two_are() -> None:
    odd = Change(shift=2.0)
    histories = [[odd, NOTHING, NOTHING], [NOTHING, NOTHING, odd], [NOTHING, odd, odd]]
    found = [power(4, Number(), changes, n=500, looks=40, columns=5) for changes in histories]
    assert [one.finally_drifted.value for one in found] == [0, 0, 1]
    assert [one.warned.value for one in found] == [0, 1, 1]


def test_true_psi_is_that_of_the_normal_distribution() -> None:
    # ten bins see a little less than the closed form for two normals, the squared shift
    assert true_psi(Number(), Change(shift=0.3)) == pytest.approx(0.09 * 0.99, rel=0.08)
    assert true_psi(Number(), NOTHING) == pytest.approx(0, abs=5e-4)


@pytest.mark.parametrize("population", [Number(), Category(30)])
def test_counts_are_drawn_as_raw_rows_would_fall(population: Number | Category) -> None:
    change = Change(shift=0.5, spread=1.2, missing=0.1, new=0.05)
    drawn = draw(np.random.default_rng(1), [(population, [NOTHING, change])], m=10_000, n=200_000, looks=5)
    found = drift.measure(drawn.layout, drawn.live, drawn.reference)
    assert (drawn.reference.sum(axis=-1) == 10_000).all() and (found.n == 200_000).all()
    assert found.missing[:, :, 0].mean(axis=1) == pytest.approx([0.01, 0.1], abs=0.002)
    if isinstance(population, Number):
        assert found.mean_shift[1] == pytest.approx(0.5, abs=0.05)
    else:
        assert found.new[1] == pytest.approx(0.05 * 0.9, abs=0.002)


def test_the_usual_psi_takes_one_empty_bin_of_a_small_sample_for_drift() -> None:
    drawn = draw(np.random.default_rng(1), [(Number(), [NOTHING])], m=10_000, n=30, looks=500)
    assert 0.7 < (usual_psi(drawn) > 0.2).mean() < 0.95


def alarms(n: int, m: int | None, no_data: int) -> Alarms:
    none, some = Rate(0, 1000), Rate(50, 1000)
    return Alarms(n, m, 50, Rate(no_data, 1000), none, none, some, some, none, none, some, some)


@pytest.fixture
def report() -> Report:
    def one(n: int, change: Change) -> Power:
        return Power(n, change, change.shift**2, Rate(9, 10), Rate(8, 10), Rate(7, 10))

    return Report(
        small=[alarms(100, 10_000, 1000)],
        training=[alarms(500, 10_000, 0)],
        champion=[alarms(500, None, 0)],
        shifts=[one(n, Change(shift=shift)) for n in SIZES for shift in SHIFTS],
        others={"a thing": [one(n, NOTHING) for n in SIZES]},
        odd={"the newest": one(500, NOTHING)},
    )


def test_the_page_says_how_often_was_looked_and_where_data_is_insufficient(report: Report) -> None:
    places = ("false_alarms", "false_alarms_beside_champion", "power_shift", "power_others", "odd_windows")
    text = page.filled("".join(f"<!-- figures: {name} -->\nold\n<!-- end -->\n" for name in places), report)
    assert "old" not in text
    assert "| 100 | 10,000 | insufficient data | insufficient data | insufficient data | 5 % / 5 % |" in text
    assert "| 500 | 500 | 0 of 1,000 (< 0.3 %) |" in text
    assert "| 0.5 sd | 0.250 | 90 % / 70 % |" in text
    assert "| a thing | 0.000 | 90 % / 70 % |" in text
    assert "| the newest | 80 % | 70 % |" in text
    assert page.filled(text, report) == text


def test_a_place_nobody_knows_is_refused(report: Report) -> None:
    with pytest.raises(ValueError, match="unknown place"):
        page.filled("<!-- figures: else -->\n<!-- end -->\n", report)


def test_the_same_figures_give_the_same_pictures(report: Report, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("plots")
    for draw_it in (plots.false_alarms, plots.power):
        draw_it(report, folder / "a.svg")
        draw_it(report, folder / "b.svg")
        assert (folder / "a.svg").read_bytes() == (folder / "b.svg").read_bytes()
        assert "500 rows" in (folder / "a.svg").read_text() or "insufficient data" in (folder / "a.svg").read_text()
