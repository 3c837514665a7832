"""A whole stack with two small models in a registry of its own."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import kingmaker
from tests.integration.running_stack import RESOURCE, ROW, RunningStack


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two versions of `loans`: @champion and @challenger."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('registry') / 'mlflow.db'}"
    rng = np.random.default_rng(7)
    frame = pd.DataFrame(rng.normal(size=(3000, 2)).astype(np.float32), columns=list(ROW))
    late = pd.Series((frame["debt"] - frame["income"] + rng.logistic(size=3000) > 0).astype(int))
    for alias, strength in (("champion", 0.01), ("challenger", 1.0)):
        pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=strength)).fit(frame[:2000], late[:2000])
        kingmaker.publish(
            pipeline,
            reference=frame[:2000],
            evaluation=(frame[2000:], late[2000:]),
            name="loans",
            alias=alias,
            registry=uri,
        )
    return uri


@pytest.fixture
def stack(tmp_path: Path, registry: str) -> Iterator[RunningStack]:
    """One of the test's own, to be stopped or left as the test likes."""
    with _running(tmp_path, registry) as running:
        yield running


@pytest.fixture(scope="module")
def shared_stack(tmp_path_factory: pytest.TempPathFactory, registry: str) -> Iterator[RunningStack]:
    """One that a file's tests leave as they found it: a start costs eight seconds."""
    with _running(tmp_path_factory.mktemp("stack"), registry) as running:
        yield running


@contextlib.contextmanager
def _running(folder: Path, registry: str) -> Iterator[RunningStack]:
    file = folder / "loans.yaml"
    file.write_text(RESOURCE)
    env = os.environ | {"MLFLOW_TRACKING_URI": registry, "XDG_STATE_HOME": str(folder / "state")}
    running = RunningStack(file, env)
    try:
        running.wait_until_up()
        yield running
    finally:
        running.stop()
