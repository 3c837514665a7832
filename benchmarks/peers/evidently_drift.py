"""The drift question asked of Evidently, in its environment: `python evidently_drift.py ROWS.npz`, prints JSON.

Its defaults, on a data frame in memory: what its documentation shows first. Reading the file does not count.
"""

import json
import resource
import sys
import time

import numpy as np
import pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset


def main() -> None:
    found = np.load(sys.argv[1])
    names = [f"f{i}" for i in range(found["reference"].shape[1])]
    reference, live = (pd.DataFrame(found[which], columns=names) for which in ("reference", "live"))
    Report([DataDriftPreset()]).run(live[:2000], reference[:2000]).dict()  # the first run imports and compiles
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, wall = time.process_time(), time.monotonic()
    told = Report([DataDriftPreset()]).run(live, reference).dict()
    seconds, wall_s = time.process_time() - began, time.monotonic() - wall
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    drifted = next(m["value"]["count"] for m in told["metrics"] if "DriftedColumnsCount" in str(m))
    print(json.dumps({"seconds": seconds, "wall_s": wall_s, "grown_mb": grown / 1024, "drifted": int(drifted)}))


if __name__ == "__main__":
    main()
