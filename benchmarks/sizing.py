"""From what a request costs to how much of everything a rate needs: the table in docs/operating.md. Pure.

Every number is a figure of the newest results times a rate; what the page says of it stands beside the table. A part of
the benchmark that was not run makes no row of guesses but says so.
"""

import math
from typing import Final

from benchmarks.figures import Row
from benchmarks.results import Results
from benchmarks.sections.recording import BYTES_NOTE

RATES: Final = (100, 1_000, 10_000)
"""Requests a second, of one row each."""
LOAD: Final = "16 connections"
"""Whose costs are taken: few enough that little is joined, so a busier service is cheaper than the table says."""
HEADROOM: Final = 2
"""A pod is planned to be half busy: for bursts, and for the pods that are away during an upgrade."""
FEWEST_GATEWAYS: Final = 2
_KEPT_NOTE: Final = "bytes of state file per kept row"
_COUNTED_NOTE: Final = "rows per second and core, counted and kept for labels"


def table(taken: Results) -> str:
    """The costs and the table. What is missing is named instead."""
    row = _costs(taken)
    recording, monitoring = taken.section("recording"), taken.section("monitoring")
    if row is None or recording is None or monitoring is None:
        return "*Not run: the parts end_to_end, recording and monitoring are needed.*"
    gateway, server = row.cpu_by_server["gateway"], row.cpu_by_server["model server"]
    event, kept = recording.notes[BYTES_NOTE], monitoring.notes[_KEPT_NOTE]
    counted = monitoring.notes[_COUNTED_NOTE]
    source = f"the run of {taken.date}, end to end, {row.model}, {row.load}"
    lines = [
        f"A request costs {gateway:.3g} us of the gateway, {server:.3g} us of the model server ({source}),",
        f"{event:.3g} bytes of Redis, and {kept:.3g} bytes of the monitor's file while it waits for a label.",
        f"One core of the monitor counts {counted:,.0f} rows a second.",
        "",
        "| requests a second | gateways | model server cores, all variants together | monitor cores "
        "| Redis, an hour of events | monitor's volume, 30 days of predictions |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for rate in RATES:
        gateways = max(FEWEST_GATEWAYS, math.ceil(rate * gateway * HEADROOM / 1e6))
        cores = rate * server * HEADROOM / 1e6
        lines.append(
            f"| {rate:,} | {gateways} | {cores:.2g} | {rate / counted:.2g} | {_size(rate * 3600 * event)} "
            f"| {_size(rate * 30 * 86400 * kept)} |"
        )
    return "\n".join(lines)


def _costs(taken: Results) -> Row | None:
    section = taken.section("end_to_end")
    rows = [] if section is None else section.rows
    return next((row for row in rows if (row.stack, row.model, row.load) == ("Kingmaker", "gb25", LOAD)), None)


def _size(count: float) -> str:
    """Bytes in the largest unit that leaves a number above one."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.2g} {unit}" if count < 10 * size else f"{count / size:,.0f} {unit}"
    return f"{count / 1e3:,.0f} kB"
