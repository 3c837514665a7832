"""Medians, spreads, ratios by round, and what bench-quick.json says."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import figures
from benchmarks.__main__ import QUICK_RATIOS
from benchmarks.figures import Figure, Ratio, Section
from benchmarks.load import Sample
from benchmarks.rounds import rotated

MakeSample = Callable[..., Sample]


def test_a_figure_is_the_median_with_its_extremes() -> None:
    assert figures.figure([3.0, 1.0, 10.0]) == Figure(3.0, 1.0, 10.0, 3)


def test_nothing_measured_is_no_figure() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        figures.figure([])


@given(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=9))
def test_a_median_lies_between_its_extremes(values: list[float]) -> None:
    found = figures.figure(values)
    assert found.low <= found.median <= found.high
    assert found.runs == len(values)


def test_a_ratio_is_taken_within_each_round(sample: MakeSample) -> None:
    # a machine twice as fast in the last round: the ratio of medians would not be 2 here, each round's is
    ours, theirs = [sample(200), sample(200), sample(400)], [sample(100), sample(100), sample(200)]
    assert figures.ratio(ours, theirs, figures.throughput) == Figure(2.0, 2.0, 2.0, 3)


def test_rounds_that_do_not_match_make_no_ratio(sample: MakeSample) -> None:
    with pytest.raises(ValueError, match="2 rounds of ours against 1"):
        figures.ratio([sample(), sample()], [sample()], figures.p99)


def test_a_peer_that_answers_nothing_does_not_make_the_ratio_infinite(sample: MakeSample) -> None:
    assert figures.ratio([sample(500)], [sample(0.0)], figures.throughput).median == 500


def test_a_row_adds_up_answers_and_takes_medians(sample: MakeSample) -> None:
    runs = [sample(100, wrong=1, first_wrong="500 no"), sample(300), sample(200, failed=2)]
    row = figures.row("Kingmaker", "gb25", "64 connections", runs)
    assert (row.requests_per_s.median, row.checked, row.wrong, row.failed) == (200, 300, 1, 2)
    assert row.first_wrong == "500 no"
    assert row.cpu_by_server == {"gateway": 10.0}


def test_failures_of_a_peer_are_its_own_and_wrong_answers_are_everybodys(sample: MakeSample) -> None:
    rows = [
        figures.row("Kingmaker, hung", "gb25", "x", [sample(failed=3)]),
        figures.row("nginx, hung", "gb25", "x", [sample(failed=100, wrong=2)]),
    ]
    assert figures.wrong_answers([Section("shadow", rows=rows)]) == 5


def test_bench_quick_has_exactly_the_promised_keys() -> None:
    ratios = [
        Ratio("hop_vs_envoy", "gb25", "64 connections", Figure(2.34567, 2.0, 3.0, 3)),
        Ratio("hop_vs_envoy", "flights", "64 connections", Figure(9.0, 9.0, 9.0, 3)),
        Ratio("hop_vs_envoy_cpu", "gb25", "64 connections", Figure(1.0, 1.0, 1.0, 3)),
    ]
    quick = figures.quick([Section("hop", ratios=ratios)], QUICK_RATIOS)
    assert set(quick) == {
        "hop_vs_envoy",
        "hop_vs_nginx",
        "server_vs_mlserver",
        "e2e_vs_envoy_mlserver",
        "e2e_vs_envoy_own_server",
        "shadow_hung_p99_ratio",
        "shadow_dead_p99_ratio",
        "shadow_hung_throughput_ratio",
        "recorder_throughput_ratio",
        "wrong_answers",
    }
    assert quick["hop_vs_envoy"] == 2.346
    assert quick["hop_vs_nginx"] is None
    assert quick["wrong_answers"] == 0


def test_each_round_begins_with_another_stack() -> None:
    names = ["a", "b", "c"]
    assert [rotated(names, n)[0] for n in range(4)] == ["a", "b", "c", "a"]
    assert all(sorted(rotated(names, n)) == names for n in range(4))
