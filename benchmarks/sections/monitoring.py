"""(i) What a monitor makes of predictions: rows a second on one core, bytes, and the drift question beside Evidently.

Processor time, not the clock: a monitor waits for Redis in between. Each measurement is a process of its own,
pinned to one core, so that memory is its own too.
"""

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks import figures, folders
from benchmarks.figures import Ratio, Section
from benchmarks.lab import cores
from benchmarks.plan import Plan
from benchmarks.tools import Tools

_FEATURES = 25
_SHIFTED = 5
_REFERENCE = 50_000
_LIMIT_S = 180


def run(tools: Tools, plan: Plan) -> Section:
    section = Section("monitoring")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        told = [
            _asked([sys.executable, "-m", "benchmarks.monitor_load", str(folder), "400000"])
            for _ in range(min(plan.runs, 3))
        ]
        section.notes = {name: statistics.median(one[name] for one in told) for name in told[0] if name != "rows"}
        for rows in (10_000, 100_000, 1_000_000):
            _question(section, tools, folder, rows)
    return section


def _question(section: Section, tools: Tools, folder: Path, rows: int) -> None:
    """Which of 25 features drifted, five of them by half a standard deviation; once of each."""
    path = folder / f"{rows}.npz"
    dice = np.random.default_rng(1)
    reference, live = (dice.normal(size=(n, _FEATURES)).astype(np.float32) for n in (_REFERENCE, rows))
    live[:, :_SHIFTED] += 0.5
    np.savez(path, reference=reference, live=live)
    ours = _asked([sys.executable, "-m", "benchmarks.monitor_drift", str(path)])
    label = f"{rows:,} rows"
    section.notes[f"Kingmaker, {label}: counting and asking, s"] = ours["seconds"]
    section.notes[f"Kingmaker, {label}: asking a running monitor, ms"] = ours["question_s"] * 1000
    section.notes[f"Kingmaker, {label}: memory grown, MB"] = ours["grown_mb"]
    section.notes[f"Kingmaker, {label}: features called drifted"] = ours["drifted"]
    if not tools.has("evidently"):
        section.not_run["Evidently"] = tools.missing.get("evidently", "not fetched")
        return
    try:
        theirs = _asked([str(tools["evidently"].path), str(folders.PEERS / "evidently_drift.py"), str(path)])
    except (subprocess.SubprocessError, ValueError) as error:
        section.not_run[f"Evidently, {label}"] = str(error)[:200]
        return
    section.notes[f"Evidently, {label}: asking, s"] = theirs["seconds"]
    section.notes[f"Evidently, {label}: memory grown, MB"] = theirs["grown_mb"]
    section.notes[f"Evidently, {label}: features called drifted"] = theirs["drifted"]
    for name, seconds in (("drift_vs_evidently", ours["seconds"]), ("drift_asked_vs_evidently", ours["question_s"])):
        section.ratios.append(Ratio(name, "25 features", label, figures.figure([theirs["seconds"] / seconds])))


def _asked(command: list[str]) -> dict[str, Any]:
    """Raises subprocess.SubprocessError, msgspec.DecodeError."""
    pinned = ["taskset", "-c", str(cores()[-1]), *command]
    done = subprocess.run(pinned, cwd=folders.REPOSITORY, capture_output=True, text=True, timeout=_LIMIT_S, check=True)
    told: dict[str, Any] = msgspec.json.decode(done.stdout.splitlines()[-1])
    return told
