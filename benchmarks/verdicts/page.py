"""The tables of docs/statistics.md."""

from typing import Final

from benchmarks import pages
from benchmarks.verdicts.scenarios import SHIFTS, SIZES, Report
from benchmarks.verdicts.simulation import Alarms, Power, Rate

_LOWEST: Final = 3
"""Nothing seen in n trials: fewer than 3 in n, with 95 % confidence."""


def filled(document: str, report: Report) -> str:
    """Raises ValueError for a place nobody knows."""
    tables = {
        "false_alarms": _alarms(report.small + report.training, "training rows"),
        "false_alarms_beside_champion": _alarms(report.champion, "champion's rows"),
        "power_shift": _shifts(report.shifts),
        "power_others": _others(report.others),
        "odd_windows": _odd(report.odd),
    }

    def place(name: str) -> str:
        if name not in tables:
            raise ValueError(f"unknown place {name!r} in the document")
        return tables[name]

    return pages.filled(document, place)


def rate(found: Rate) -> str:
    """A share in percent; what was never seen is told with how often one looked."""
    if not found.hits:
        return f"0 of {found.trials:,} (< {100 * _LOWEST / found.trials:.2g} %)"
    return f"{100 * found.value:.3g} %"


def _alarms(rows: list[Alarms], reference: str) -> str:
    heads = (
        "live rows",
        reference,
        "columns warned or worse",
        "models with such a column",
        "models with a `Drifted` after three windows",
        "PSI > 0.2: columns / models",
        "p < 0.05: columns / models",
    )
    lines = [_line(*heads), "|" + "---:|" * len(heads)]
    for row in rows:
        ours = ["insufficient data"] * 3
        if not row.no_data.hits:
            ours = [rate(row.warned), rate(row.any_warned), rate(row.any_drifted)]
        usual = [f"{percent(a)} / {percent(b)}" for a, b in _usual(row)]
        lines.append(_line(f"{row.n:,}", f"{row.m or row.n:,}", *ours, *usual))
    return "\n".join(lines)


def _usual(row: Alarms) -> list[tuple[Rate, Rate]]:
    return [(row.usual_psi, row.any_usual_psi), (row.usual_p, row.any_usual_p)]


def _shifts(found: list[Power]) -> str:
    """A column a size; each cell is `Warning` or more in one window, and `Drifted` after three."""
    by_place = {(one.n, one.change.shift): one for one in found}
    lines = [
        _line("mean moved by", "true PSI", *(f"{n:,} rows" for n in SIZES)),
        "|---:|---:|" + "---:|" * len(SIZES),
    ]
    for shift in SHIFTS:
        row = [by_place[n, shift] for n in SIZES]
        lines.append(_line(f"{shift:g} sd", f"{row[0].true_psi:.3f}", *map(_pair, row)))
    return "\n".join(lines)


def _others(found: dict[str, list[Power]]) -> str:
    lines = [_line("drift", "true PSI", *(f"{n:,} rows" for n in SIZES)), "|---|---:|" + "---:|" * len(SIZES)]
    lines += [_line(name, f"{row[0].true_psi:.3f}", *map(_pair, row)) for name, row in found.items()]
    return "\n".join(lines)


def _odd(found: dict[str, Power]) -> str:
    lines = [_line("off by 2 sd in", "newest window alone `Drifted`", "verdict `Drifted`"), "|---|---:|---:|"]
    lines += [_line(name, percent(one.drifted), percent(one.finally_drifted)) for name, one in found.items()]
    return "\n".join(lines)


def _pair(found: Power) -> str:
    return f"{percent(found.warned)} / {percent(found.finally_drifted)}"


def percent(found: Rate) -> str:
    return f"{100 * found.value:.3g} %"


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
