"""The drift question asked of the monitor's own code: `python -m benchmarks.monitor_drift ROWS.npz`, prints JSON.

All of it counts: a million rows into histograms, as ingest does round by round, and the question itself. A running
monitor has counted long before anybody asks, so the question alone is told as well. The profile was made when
the model was published; reading the file does not count.
"""

import resource
import sys
import time
from typing import Any, Final

import msgspec
import numpy as np

from kingmaker_contracts.profile import Feature, NumericReference, Profile, Reference
from kingmaker_monitor import binning
from kingmaker_monitor.aggregates import Aggregate
from kingmaker_monitor.stats import drift, verdict

ROUND: Final = 20_000
"""Rows the reader counts at once when there are many: 200 entries of 100."""


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


def main() -> None:
    found = np.load(sys.argv[1])
    bins = binning.of_profile(profile_of(found["reference"]))
    live = np.ascontiguousarray(found["live"].T)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    counted = Aggregate()
    for at in range(0, live.shape[1], ROUND):
        for name, counts in bins.count(live[:, at : at + ROUND], {}).items():
            counted.add(name, counts)
    asked = time.process_time()
    block = bins.layout.block([counted.arrays[name] for name, _ in bins.known])
    levels = verdict.levels(drift.measure(bins.layout, block))
    done = time.process_time()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    told = {
        "seconds": done - began,
        "question_s": done - asked,
        "grown_mb": grown / 1024,
        "drifted": int((levels >= verdict.Level.WARNING).sum()),
    }
    print(msgspec.json.encode(told).decode())


if __name__ == "__main__":
    main()
