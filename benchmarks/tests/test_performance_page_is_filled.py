"""docs/performance.md holds what was measured, and says so where nothing was."""

from pathlib import Path

import pytest

from benchmarks import plot, report, sizing
from benchmarks import results as kept
from benchmarks.figures import Figure, Row, Section
from benchmarks.results import Results

PLACES = "".join(
    f"## {name}\n<!-- figures: {name} -->\nold\n<!-- end -->\n"
    for name in ("machine", "summary", "plot", "footprint", "hop", "end_to_end")
)


def test_without_results_every_place_says_so() -> None:
    text = report.filled(PLACES, None)
    assert text.count(report.NOTHING) == 6
    assert "old" not in text


def test_places_hold_what_was_measured(results: Results) -> None:
    text = report.filled(PLACES, results)
    assert "abacus" in text and "wrk 4.1.0" in text
    assert "| e2e_vs_envoy_mlserver | 64 connections | 25.5 | 24.0 | 26.0 |" in text
    assert "**1,234** (1,000 to 1,500)" in text
    assert "gateway 12.0" in text
    assert "| gateway | end_to_end | 70.0 | 1.50 |" in text
    assert "**Not run:** KServe: it was not there" in text
    assert "*Not run: no nginx.*" in text


def test_filling_twice_changes_nothing_more(results: Results) -> None:
    once = report.filled(PLACES, results)
    assert report.filled(once, results) == once


def test_the_words_around_the_figures_stay(results: Results) -> None:
    assert report.filled("Before.\n" + PLACES + "After.\n", results).startswith("Before.\n## machine\n")


def test_a_place_nobody_knows_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown place 'hops'"):
        report.filled("<!-- figures: hops -->\n<!-- end -->", None)


def test_the_page_in_the_repository_has_a_place_for_every_part() -> None:
    page = report.DOCUMENT.read_text()
    for name in (*report.SECTIONS, "machine", "summary", "goals", "footprint", "plot"):
        assert f"<!-- figures: {name} -->" in page
    report.filled(page, None)


def test_results_are_found_again_and_the_newest_counts(tmp_path: Path, results: Results) -> None:
    assert kept.newest(tmp_path) is None
    kept.write(results, tmp_path)
    assert kept.write(results, tmp_path).name == "2026-01-02.json"
    later = Results("2026-01-03", {}, {}, [], 1.0)
    kept.write(later, tmp_path)
    assert kept.newest(tmp_path) == later


def test_the_same_results_draw_the_same_picture(tmp_path: Path, results: Results) -> None:
    pictures = [tmp_path / name for name in ("a.svg", "b.svg")]
    for path in pictures:
        plot.draw(results, path)
    assert pictures[0].read_bytes() == pictures[1].read_bytes()
    assert list(plot.by_stack(results.sections[0].rows)) == ["Kingmaker"]
    assert [at for at, _ in plot.by_stack(results.sections[0].rows)["Kingmaker"]] == [1, 64]


@pytest.mark.parametrize(
    ("value", "text"), [(0.0123, "0.012"), (0.5, "0.50"), (1.0, "1.00"), (12.34, "12.3"), (61234.4, "61,234")]
)
def test_numbers_keep_three_digits(value: float, text: str) -> None:
    assert report.short(value) == text


def measured(**cpu_us: float) -> Results:
    figure = Figure(1.0, 1.0, 1.0, 1)
    costs = {name.replace("_", " "): value for name, value in cpu_us.items()}
    row = Row("Kingmaker", "gb25", "16 connections", figure, figure, figure, figure, costs, 0, 0, 0)
    sections = [
        Section("end_to_end", [row]),
        Section("recording", notes={"bytes of Redis per recorded prediction": 125.0}),
        Section(
            "monitoring",
            notes={
                "bytes of state file per kept row": 80.0,
                "rows per second and core, counted and kept for labels": 200_000.0,
            },
        ),
    ]
    return Results("2026-01-02", {}, {}, sections, 1.0)


def test_sizing_is_the_cost_of_a_request_times_the_rate() -> None:
    text = sizing.table(measured(gateway=250.0, model_server=40.0, valkey=1.0))
    # 10,000 x 250 us x 2 = 5 gateways; 10,000 x 40 us x 2 = 0.8 cores; 10,000 / 200,000; 125 B x 1 h; 80 B x 30 days
    assert "| 10,000 | 5 | 0.8 | 0.05 | 4.5 GB | 2.1 TB |" in text
    assert "| 100 | 2 | 0.008 | 0.0005 | 45 MB | 21 GB |" in text


def test_sizing_says_when_a_part_was_not_run(results: Results) -> None:
    assert sizing.table(results).startswith("*Not run:")


def test_the_operators_page_has_a_place_for_sizing() -> None:
    assert "<!-- figures: sizing -->" in report.OPERATING.read_text()
    report.filled(report.OPERATING.read_text(), None)
