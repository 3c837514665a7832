"""One picture: requests a second and p99 of the end-to-end stacks by connections, both on logarithmic scales."""

import re
from pathlib import Path

import matplotlib as mpl

from benchmarks.figures import Row
from benchmarks.results import Results

TITLE = "End to end, all server processes on one core"

mpl.use("Agg")
mpl.rcParams["svg.hashsalt"] = "kingmaker"  # the same figures give the same bytes

import matplotlib.pyplot as plt  # noqa: E402 - the backend comes first


def draw(taken: Results, path: Path) -> None:
    """Nothing is drawn when the end-to-end part was not run."""
    section = taken.section("end_to_end")
    if section is None:
        return
    series = by_stack([row for row in section.rows if row.model == "gb25"])
    figure, (rates, latencies) = plt.subplots(1, 2, figsize=(11, 4.2))
    for stack, points in series.items():
        at = [connections for connections, _ in points]
        rates.plot(at, [row.requests_per_s.median for _, row in points], marker="o", label=stack)
        latencies.plot(at, [row.p99_ms.median for _, row in points], marker="o", label=stack)
    for axes, title in ((rates, "requests a second"), (latencies, "p99, ms")):
        axes.set(xscale="log", yscale="log", xlabel="connections", title=title)
        axes.grid(visible=True, alpha=0.3)
    rates.legend(fontsize=8)
    figure.suptitle(f"{TITLE} ({taken.date})", fontsize=10)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def by_stack(rows: list[Row]) -> dict[str, list[tuple[int, Row]]]:
    """Rows of each stack by their number of connections, ascending."""
    series: dict[str, list[tuple[int, Row]]] = {}
    for row in rows:
        match = re.fullmatch(r"(\d+) connections", row.load)  # not those of other conditions
        if match:
            series.setdefault(row.stack, []).append((int(match[1]), row))
    return {stack: sorted(points, key=lambda point: point[0]) for stack, points in series.items()}
