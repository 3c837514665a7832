"""(i) What a monitor makes of predictions: rows a second on one core, bytes, and the drift question beside Evidently.

Processor time, not the clock: a monitor waits for Redis in between. Each measurement is a process of its own,
pinned to one core, so that memory is its own too. The part has a time of its own, or what is left of the whole: on a
busy machine it measures less often, and asks Evidently about fewer rows.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from benchmarks import figures, folders, monitor_drift
from benchmarks.figures import Ratio, Section
from benchmarks.lab import cores
from benchmarks.plan import Plan
from benchmarks.tools import Tools

_FEATURES = 25
_SHIFTED = 5
_REFERENCE = 50_000
_SIZES: Final = (10_000, 100_000, 1_000_000)
_BUDGET_S: Final = 150
"""For the whole part; 90 on a quiet machine."""
_OURS_S: Final = 60
_LOAD_SHARE: Final = 0.4
"""Of the budget, after which the load is not measured again."""
_MARGIN: Final = 1.4
"""Of the time that a larger question is expected to take: frames that no longer fit a cache cost more a row."""


class _Clock:
    """The time this part has left."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self._began = seconds, time.monotonic()

    @property
    def spent_s(self) -> float:
        return time.monotonic() - self._began

    @property
    def left_s(self) -> float:
        return self.seconds - self.spent_s


def run(tools: Tools, plan: Plan) -> Section:
    section = Section("monitoring")
    clock = _Clock(min(_BUDGET_S, plan.ends_at - time.monotonic()))
    with tempfile.TemporaryDirectory() as name:
        told: list[dict[str, Any]] = []
        while not told or (len(told) < min(plan.runs, 3) and clock.spent_s < clock.seconds * _LOAD_SHARE):
            told.append(_asked([sys.executable, "-m", "benchmarks.monitor_load", name, "400000"], clock.left_s))
        section.notes = {name: statistics.median(one[name] for one in told) for name in told[0] if name != "rows"}
        _Comparison(section, tools, Path(name), clock).run()
    return section


def fitting(wanted: int, took: Mapping[int, float], left_s: float) -> int:
    """As many of the wanted rows, in whole hundreds of thousands, as are answered in the time left; 0 for none.

    took: seconds by rows, of smaller questions. The time grows with the rows from what a start takes, which one
    question alone does not tell: then the next is tried if there is time for three like it.
    """
    if not took:
        return wanted
    small, large = min(took), max(took)
    if small == large:
        return wanted if 3 * took[large] <= left_s else 0
    each = max(0.0, took[large] - took[small]) / (large - small)
    if (took[large] + each * (wanted - large)) * _MARGIN <= left_s:
        return wanted
    possible = large + (left_s / _MARGIN - took[large]) / each if each else 0.0
    return max(0, int(possible // 100_000) * 100_000)


@dataclass(slots=True, frozen=True)
class _Comparison:
    """Which of 25 features drifted, five of them by half a standard deviation; asked once of each size."""

    section: Section
    tools: Tools
    folder: Path
    clock: _Clock

    def run(self) -> None:
        took: dict[int, float] = {}
        for wanted in _SIZES:
            if self.clock.left_s <= 0:
                self.section.not_run[f"{wanted:,} rows"] = "the time was up"
                continue
            ours = self._ours(wanted)
            if not self.tools.has("evidently"):
                self.section.not_run["Evidently"] = self.tools.missing.get("evidently", "not fetched")
                continue
            rows = fitting(wanted, took, self.clock.left_s)
            if rows < wanted:
                why = f"by the smaller ones there is no time for it in the {self.clock.seconds:.0f} s of this part"
                self.section.not_run[f"Evidently, {wanted:,} rows"] = why
            if rows <= max(took, default=0):
                continue
            if rows < wanted:
                ours = self._ours(rows)
            began = self.clock.spent_s
            self._theirs(rows, ours)
            took[rows] = self.clock.spent_s - began

    def _ours(self, rows: int) -> dict[str, Any]:
        dice = np.random.default_rng(1)
        reference, live = (dice.normal(size=(n, _FEATURES)).astype(np.float32) for n in (_REFERENCE, rows))
        live[:, :_SHIFTED] += 0.5
        np.save(self.folder / monitor_drift.REFERENCE, reference)
        live.tofile(self.folder / monitor_drift.LIVE)
        ours = _asked([sys.executable, "-m", "benchmarks.monitor_drift", str(self.folder)], _OURS_S)
        label = f"Kingmaker, {rows:,} rows"
        self.section.notes[f"{label}: counting and asking, s"] = ours["seconds"]
        self._note(label, rows, ours)
        self.section.notes[f"{label}: asking a running monitor, ms"] = ours["question_s"] * 1000
        return ours

    def _theirs(self, rows: int, ours: dict[str, Any]) -> None:
        label = f"Evidently, {rows:,} rows"
        command = [str(self.tools["evidently"].path), str(folders.PEERS / "evidently_drift.py"), str(self.folder)]
        try:
            theirs = _asked(command, self.clock.left_s)
        except (subprocess.SubprocessError, ValueError) as error:
            self.section.not_run[label] = str(error)[:200]
            return
        self.section.notes[f"{label}: asking, s"] = theirs["seconds"]
        self._note(label, rows, theirs)
        for name, took in (("drift_vs_evidently", "seconds"), ("drift_asked_vs_evidently", "question_s")):
            value = figures.figure([theirs["seconds"] / ours[took]])
            self.section.ratios.append(Ratio(name, "25 features", f"{rows:,} rows", value))

    def _note(self, label: str, rows: int, told: dict[str, Any]) -> None:
        self.section.notes[f"{label}: a row, us"] = told["seconds"] / rows * 1e6
        self.section.notes[f"{label}: process with the answer, MB"] = told["rss_mb"]
        self.section.notes[f"{label}: process at its largest, MB"] = told["peak_mb"]
        self.section.notes[f"{label}: features called drifted"] = told["drifted"]


def _asked(command: list[str], left_s: float) -> dict[str, Any]:
    """Raises subprocess.SubprocessError, msgspec.DecodeError."""
    pinned = ["taskset", "-c", str(cores()[-1]), *command]
    done = subprocess.run(
        pinned, cwd=folders.REPOSITORY, capture_output=True, text=True, timeout=max(1.0, left_s), check=True
    )
    told: dict[str, Any] = msgspec.json.decode(done.stdout.splitlines()[-1])
    return told
