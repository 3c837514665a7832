"""The drift question asked of Evidently, in its environment: `python evidently_drift.py FOLDER`, prints JSON.

Its defaults, on a data frame in memory: what its documentation shows first. Reading the files does not count.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset


def memory_mb(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) / 1024


def main() -> None:
    folder = Path(sys.argv[1])
    first = np.load(folder / "reference.npy")
    names = [f"f{i}" for i in range(first.shape[1])]
    reference = pd.DataFrame(first, columns=names)
    live = pd.DataFrame(np.fromfile(folder / "live.f4", np.float32).reshape(-1, len(names)), columns=names)
    Report([DataDriftPreset()]).run(live[:2000], reference[:2000]).dict()  # the first run imports and compiles
    began, wall = time.process_time(), time.monotonic()
    told = Report([DataDriftPreset()]).run(live, reference).dict()
    seconds, wall_s = time.process_time() - began, time.monotonic() - wall
    drifted = next(m["value"]["count"] for m in told["metrics"] if "DriftedColumnsCount" in str(m))
    memory = {"rss_mb": memory_mb("VmRSS"), "peak_mb": memory_mb("VmHWM")}
    print(json.dumps({"seconds": seconds, "wall_s": wall_s, "drifted": int(drifted)} | memory))


if __name__ == "__main__":
    main()
