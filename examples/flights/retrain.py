"""Train the challenger anew for `kingmaker publish`: `python -m examples.flights.retrain --to build/model`.

The first half of the model pipeline (`make model-pipeline`). It writes three files and publishes nothing; whether the
model is good enough is decided by the command that publishes, on the converted model. So the pipeline of another model
replaces this file, and keeps the gate.
"""

import argparse
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import joblib
import pandas as pd
from threadpoolctl import threadpool_limits

from examples.flights import checks, data, models, train
from examples.flights.features import FEATURES, LABEL, build

HELD_OUT: Final = timedelta(days=7)
BAD_DATA_EXIT_CODE: Final = 4


class BadData(Exception):
    """The rows are no ground to train on; the text lists why."""


def retrain(folder: Path, until: date) -> None:
    """Write pipeline.joblib, reference.parquet and evaluation.parquet. until: the first day that is not known yet.

    The last week before it is held out. Raises BadData; nothing is written then.
    """
    flights = build(data.load())
    end = pd.Timestamp(until)
    known = flights[flights["date"] < end]
    is_held_out = known["date"] >= end - HELD_OUT
    held_out = known[is_held_out]
    # dates are of the schedule: a delayed flight of the evening before departs when the held-out week has begun
    training = known[~is_held_out & (known["dep_at"] <= held_out["dep_at"].min())] if len(held_out) else known
    if found := checks.faults(training, held_out):
        raise BadData("; ".join(found))
    with threadpool_limits(1):
        pipeline = models.challenger().fit(training[FEATURES], training[LABEL])
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "pipeline.joblib"
    model.unlink(missing_ok=True)  # gone first and back last: a model never lies beside the rows of another
    for name, rows in (("reference", training), ("evaluation", held_out)):
        rows[[*FEATURES, LABEL]].to_parquet(folder / f"{name}.parquet", index=False)
    whole = model.with_suffix(".part")
    joblib.dump(pipeline, whole)
    whole.replace(model)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.flights.retrain", description=__doc__)
    parser.add_argument("--to", type=Path, required=True, help="folder for the three files")
    parser.add_argument(
        "--until",
        type=date.fromisoformat,
        default=train.REPLAY_FROM.date(),
        help="train on flights before this day, the last week held out (default 2013-03-01)",
    )
    given = parser.parse_args()
    try:
        retrain(given.to, given.until)
    except BadData as error:
        print(f"not trained: {error}", file=sys.stderr)
        sys.exit(BAD_DATA_EXIT_CODE)
    print(f"trained on flights before {given.until}: {given.to}/pipeline.joblib")


if __name__ == "__main__":
    main()
