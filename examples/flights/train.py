"""Train both models on January and February and publish them: `python -m examples.flights.train --registry URI`.

The models are fitted on flights until 21 February; 22 to 28 February are held out, for the gate and for the
quality in the profile. Everything the demo replays is later than both. One registered model, `flights`, has
two versions: the champion's and the challenger's alias tell them apart.
"""

import argparse
import sys
from typing import Any, Final

import pandas as pd
from threadpoolctl import threadpool_limits

from examples.flights import data, models
from examples.flights.features import BASIC, FEATURES, LABEL, build
from kingmaker.publishing.publisher import Progress, Published, publish

NAME: Final = "flights"
MIN_AUC: Final = 0.90
HELD_OUT_FROM: Final = pd.Timestamp(2013, 2, 22)
REPLAY_FROM: Final = pd.Timestamp(2013, 3, 1)


def train_and_publish(registry: str, progress: Progress | None = None) -> dict[str, Published]:
    """Fit and publish both. registry: MLflow's address. Returns {"champion": ..., "challenger": ...}.

    Raises a PublishError when one of them fails the gate (AUC 0.90) or a check.
    """
    flights = build(data.load())
    fitted = flights[flights["date"] < HELD_OUT_FROM]
    held_out = flights[(flights["date"] >= HELD_OUT_FROM) & (flights["date"] < REPLAY_FROM)]
    published: dict[str, Published] = {}
    wanted: list[tuple[str, Any, list[str]]] = [
        ("champion", models.champion(), BASIC),
        ("challenger", models.challenger(), FEATURES),
    ]
    for alias, pipeline, columns in wanted:
        # One thread: threads that wait for each other lose minutes where other processes want the cores too.
        with threadpool_limits(1):
            pipeline.fit(fitted[columns], fitted[LABEL])
        published[alias] = publish(
            pipeline,
            reference=fitted[columns],
            evaluation=(held_out[columns], held_out[LABEL]),
            name=NAME,
            min_auc=MIN_AUC,
            alias=alias,
            registry=registry,
            progress=_named(progress, alias),
        )
    return published


def later_flights() -> pd.DataFrame:
    """The flights from March on, in order of departure: `features.as_requests` makes requests of them."""
    flights = build(data.load())
    return flights[flights["date"] >= REPLAY_FROM].reset_index(drop=True)


def _named(progress: Progress | None, alias: str) -> Progress | None:
    if progress is None:
        return None
    return lambda stage, done, total: progress(f"{alias}: {stage}", done, total)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.flights.train", description=__doc__)
    parser.add_argument("--registry", required=True, help="MLflow's address, for example sqlite:///mlflow.db")
    registry = parser.parse_args().registry
    told = train_and_publish(registry, lambda stage, done, total: print(f"[{done}/{total}] {stage}", file=sys.stderr))
    for alias, version in told.items():
        print(f"{version.uri} ({alias}): AUC {version.metrics['auc']:.4f}, log-loss {version.metrics['log_loss']:.4f}")


if __name__ == "__main__":
    main()
