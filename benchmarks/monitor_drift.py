"""The drift question asked of the monitor's own code: `python -m benchmarks.monitor_drift FOLDER`, prints JSON.

All of it counts: a million rows into histograms, as ingest does round by round, and the question itself. A running
monitor has counted long before anybody asks, so the question alone is told as well. The profile was made when
the model was published; reading the files does not count. Rows are read a round at a time and never held, as a monitor
gets them from its stream: its memory is that of the counts.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from kingmaker_contracts.profile import Feature, NumericReference, Profile, Reference
from kingmaker_monitor import binning
from kingmaker_monitor.aggregates import Aggregate
from kingmaker_monitor.stats import drift, verdict

ROUND: Final = 20_000
"""Rows the reader counts at once when there are many: 200 entries of 100."""
REFERENCE: Final = "reference.npy"
LIVE: Final = "live.f4"
"""Rows one after another as float32, as many as there are features in the reference."""


def histogram(values: Any) -> NumericReference:
    """About 200 bins at quantiles, as publishing makes them."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, 201)[1:-1]))
    counts = np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1)
    low, high, mean, std = (float(number) for number in (values.min(), values.max(), values.mean(), values.std()))
    return NumericReference(edges.tolist(), counts.tolist(), 0, low, high, mean, std)


def profile_of(reference: Any) -> Profile:
    """reference: shape (rows, features)."""
    names = [f"f{i}" for i in range(reference.shape[1])]
    inputs = [Feature(name, "FP32", [-1, 1], "numeric") for name in names]
    numeric = {name: histogram(column) for name, column in zip(names, reference.T, strict=True)}
    return Profile("bench", "", inputs, [], None, Reference(len(reference), numeric), None, None, "")


def rounds(path: Path, features: int) -> Iterator[Any]:
    """Blocks of shape (features, rows) as they come out of event entries."""
    with path.open("rb") as file:
        while len(found := np.fromfile(file, np.float32, ROUND * features)):
            yield np.ascontiguousarray(found.reshape(-1, features).T)


def memory_mb(name: str) -> float:
    """A line of /proc/self/status. Not getrusage: its peak is the starting process's when that was larger."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) / 1024


def main() -> None:
    folder = Path(sys.argv[1])
    bins = binning.of_profile(profile_of(np.load(folder / REFERENCE)))
    counted, seconds = Aggregate(), 0.0
    for block in rounds(folder / LIVE, bins.width):
        began = time.process_time()
        for name, counts in bins.count(block, {}).items():
            counted.add(name, counts)
        seconds += time.process_time() - began
    asked = time.process_time()
    block = bins.layout.block([counted.arrays[name] for name, _ in bins.known])
    levels = verdict.levels(drift.measure(bins.layout, block))
    question_s = time.process_time() - asked
    told = {
        "seconds": seconds + question_s,
        "question_s": question_s,
        "rss_mb": memory_mb("VmRSS"),
        "peak_mb": memory_mb("VmHWM"),
        "drifted": int((levels >= verdict.Level.WARNING).sum()),
    }
    print(msgspec.json.encode(told).decode())


if __name__ == "__main__":
    main()
