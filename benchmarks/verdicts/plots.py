"""Two pictures: how often rules are wrong when nothing changed, and how often the verdict sees a mean that moved."""

from pathlib import Path

import matplotlib as mpl

from benchmarks.verdicts.scenarios import SIZES, Report
from kingmaker_monitor.stats.verdict import DEFAULT

mpl.use("Agg")
mpl.rcParams["svg.hashsalt"] = "kingmaker"  # the same figures give the same bytes
mpl.rcParams["svg.fonttype"] = "none"  # words as words: a fifth of the size

import matplotlib.pyplot as plt  # noqa: E402 - the backend comes first
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402


def false_alarms(report: Report, path: Path) -> None:
    rows = report.small + report.training
    at = [row.n for row in rows]
    judged = report.training
    figure, (columns, models) = plt.subplots(1, 2, figsize=(11, 4.2))
    columns.plot(at, [row.usual_psi.value for row in rows], "s--", label="PSI > 0.2")
    columns.plot(at, [row.usual_p.value for row in rows], "^--", label="chi-square, p < 0.05")
    columns.plot([row.n for row in judged], [row.warned.value for row in judged], "o-", label="Warning or Drifted")
    models.plot(at, [row.any_usual_psi.value for row in rows], "s--", label="PSI > 0.2")
    models.plot(at, [row.any_usual_p.value for row in rows], "^--", label="chi-square, p < 0.05")
    models.plot([row.n for row in judged], [row.any_warned.value for row in judged], "o-", label="Warning or Drifted")
    for axes, title in ((columns, "columns called drifted"), (models, "models with such a column, of 50")):
        axes.axvspan(min(at), DEFAULT.min_rows, alpha=0.12, color="grey", label="insufficient data")
        axes.set(xscale="log", xlabel="live rows in the window", title=f"Nothing changed: {title}")
        axes.grid(visible=True, alpha=0.3)
    columns.legend(fontsize=8)
    _save(figure, path)


def power(report: Report, path: Path) -> None:
    figure, (warned, drifted) = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True)
    for n in SIZES:
        row = [one for one in report.shifts if one.n == n]
        at = [one.change.shift for one in row]
        warned.plot(at, [one.warned.value for one in row], marker="o", label=f"{n:,} rows")
        drifted.plot(at, [one.finally_drifted.value for one in row], marker="o", label=f"{n:,} rows")
    psi = {one.change.shift: one.true_psi for one in report.shifts}
    _line(warned, psi, DEFAULT.warning)
    _line(drifted, psi, DEFAULT.drifted)
    for axes, title in ((warned, "Warning or more, one window"), (drifted, "Drifted, after three windows")):
        axes.set(xlabel="mean moved by, training deviations", title=f"A number's mean moved: {title}")
        axes.grid(visible=True, alpha=0.3)
    warned.legend(fontsize=8)
    _save(figure, path)


def _line(axes: Axes, psi: dict[float, float], threshold: float) -> None:
    """Where the population's PSI reaches the threshold, between the simulated shifts."""
    low = max(shift for shift, value in psi.items() if value < threshold)
    high = min(shift for shift, value in psi.items() if value >= threshold)
    at = low + (high - low) * (threshold - psi[low]) / (psi[high] - psi[low])
    axes.axvline(at, color="grey", linestyle=":")
    axes.text(at, 0.02, f" true PSI {threshold:g}", fontsize=8, transform=axes.get_xaxis_transform())


def _save(figure: Figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
