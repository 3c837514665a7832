"""Fill docs/performance.md, and docs/operating.md's sizing, from the newest results: `python -m benchmarks.report`.

Without results every place of the document that is to be filled says so.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks import figures, folders, goals, pages, plot, results, sizing
from benchmarks.figures import Figure, Row, Section
from benchmarks.results import Results

DOCUMENT: Final = folders.REPOSITORY / "docs" / "performance.md"
OPERATING: Final = folders.REPOSITORY / "docs" / "operating.md"
PLOT: Final = folders.REPOSITORY / "docs" / "performance.svg"
NOTHING: Final = "*Not measured yet: `make bench` fills this in.*"


def filled(document: str, taken: Results | None) -> str:
    """The document with every place filled. Raises ValueError for a place nobody knows."""
    return pages.filled(document, lambda name: _place(name, taken))


def _place(name: str, taken: Results | None) -> str:
    if name not in (*_WHOLE, *SECTIONS):
        raise ValueError(f"unknown place {name!r} in the document")
    if taken is None:
        return NOTHING
    if name in _WHOLE:
        return _WHOLE[name](taken)
    section = taken.section(name)
    return f"*Not run: {taken.not_run.get(name, 'left out')}.*" if section is None else section_text(section)


SECTIONS: Final = (
    "hop", "servers", "end_to_end", "joining", "fixed_rate", "shadow", "recording", "growth", "profile", "monitoring"
)  # fmt: skip


def section_text(section: Section) -> str:
    """Tables of one part: stacks by load, ratios, single numbers, what was not run."""
    parts = []
    for (model, load), rows in figures.by_load(section.rows).items():
        parts.append(f"**{model}, {load}** (median, lowest to highest of {_runs(rows)} runs)\n\n{_table(rows)}")
    if section.ratios:
        lines = ["| ratio | model | load | median | lowest | highest |", "|---|---|---|---:|---:|---:|"]
        lines += [f"| {r.name} | {r.model} | {r.load} | {_cells(r.value)} |" for r in section.ratios]
        parts.append("\n".join(lines))
    parts += [f"- {name}: {short(value)}" for name, value in section.notes.items()]
    parts += [f"- **Not run:** {name}: {why}" for name, why in section.not_run.items()]
    return "\n\n".join(parts)


def _runs(rows: list[Row]) -> str:
    """How many, or from how many to how many."""
    found = [row.requests_per_s.runs for row in rows]
    return str(found[0]) if min(found) == max(found) else f"{min(found)} to {max(found)}"


def _table(rows: list[Row]) -> str:
    lines = [
        "| stack | req/s | p50 ms | p99 ms | cpu us/request | by process | checked | wrong | failed |",
        "|---|---:|---:|---:|---:|---|---:|---:|---:|",
    ]
    for row in rows:
        by = ", ".join(f"{name} {short(value)}" for name, value in row.cpu_by_server.items())
        cpu = "" if row.cpu_us is None else _spread(row.cpu_us)
        lines.append(
            f"| {row.stack} | {_spread(row.requests_per_s)} | {_spread(row.p50_ms)} | {_spread(row.p99_ms)} | {cpu} "
            f"| {by} | {row.checked} | {row.wrong} | {row.failed} |"
        )
    return "\n".join(lines)


def _spread(value: Figure) -> str:
    return f"**{short(value.median)}** ({short(value.low)} to {short(value.high)})"


def _cells(value: Figure) -> str:
    return f"{short(value.median)} | {short(value.low)} | {short(value.high)}"


def short(value: float) -> str:
    """Three significant digits, thousands in full."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.095 else f"{value:.3f}"


def _machine(taken: Results) -> str:
    wrong = figures.wrong_answers(taken.sections)
    lines = [f"Taken on {taken.date} in {taken.seconds:.0f} s; wrong answers: {wrong}.", ""]
    lines += ["| machine | |", "|---|---|", *(f"| {name} | {value} |" for name, value in taken.machine.items())]
    lines += ["", "Versions: " + ", ".join(f"{name} {number}" for name, number in taken.versions.items()) + "."]
    lines += [f"- **Not run:** {name}: {why}" for name, why in taken.not_run.items()]
    return "\n".join(lines)


def _summary(taken: Results) -> str:
    """Every ratio for the model the targets speak of."""
    lines = ["| ratio | load | median | lowest | highest |", "|---|---|---:|---:|---:|"]
    ratios = [known for section in taken.sections for known in section.ratios if known.model == "gb25"]
    lines += [f"| {known.name} | {known.load} | {_cells(known.value)} |" for known in ratios]
    return "\n".join(lines)


def _goals(taken: Results) -> str:
    lines = ["| goal | wanted | measured | lowest to highest | reached |", "|---|---|---:|---:|---|"]
    for goal in goals.GOALS:
        known = goals.found(goal, taken.sections)
        if known is None:
            lines.append(f"| {goal.words} | {goal.wanted} | | | *not measured* |")
            continue
        spread = "" if known.runs == 1 else f"{known.low:.3g} to {known.high:.3g}"
        reached = "yes" if goal.is_reached(known.median) else "**no**"
        lines.append(f"| {goal.words} | {goal.wanted} | {known.median:.3g} | {spread} | {reached} |")
    return "\n".join(lines)


def _footprint(taken: Results) -> str:
    lines = ["| process | part | memory MB | ready after s |", "|---|---|---:|---:|"]
    for section in taken.sections:
        for known in section.footprint:
            ready = known["ready_s"]
            told = "" if ready is None else short(float(ready))
            lines.append(f"| {known['server']} | {section.name} | {short(float(known['rss_mb'] or 0))} | {told} |")
    return "\n".join(lines)


def _plot(taken: Results) -> str:
    return "*Not run.*" if taken.section("end_to_end") is None else f"![{plot.TITLE}]({PLOT.name})"


_WHOLE: Final = {
    "machine": _machine,
    "summary": _summary,
    "goals": _goals,
    "footprint": _footprint,
    "plot": _plot,
    "sizing": sizing.table,
}


def main(documents: Sequence[Path] = (DOCUMENT, OPERATING)) -> int:
    taken = results.newest()
    for document in documents:
        document.write_text(filled(document.read_text(), taken))
    if taken is not None:
        plot.draw(taken, PLOT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
