"""`make model-pipeline`, as the workflow runs it: nothing below the gate, and nothing trained on broken data."""

import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression

from examples.flights import checks, data, models, retrain
from examples.flights.features import CATEGORICAL, FEATURES, LABEL

ROOT = Path(__file__).parents[3]


def make(target: str, folder: Path, **variables: object) -> "subprocess.CompletedProcess[str]":
    """registry: mlflow.db beside the folder."""
    settings = {"PY": sys.executable, "MODEL_DIR": folder, **variables}
    command = ["make", "-o", ".venv/.ready", target, *(f"{name}={value}" for name, value in settings.items())]
    environ = os.environ | {"MLFLOW_TRACKING_URI": registry_of(folder)}
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=500, check=False)


def registry_of(folder: Path) -> str:
    return f"sqlite:///{folder.parent / 'mlflow.db'}"


def write_poor_model(folder: Path) -> None:
    """A model of labels that have nothing to do with its features."""
    rng = np.random.default_rng(5)
    folder.mkdir()
    rows = pd.DataFrame(rng.normal(size=(1200, 2)).astype(np.float32), columns=["income", "debt"])
    rows["defaulted"] = rng.integers(0, 2, len(rows))
    rows[:800].to_parquet(folder / "reference.parquet", index=False)
    rows[800:].to_parquet(folder / "evaluation.parquet", index=False)
    joblib.dump(LogisticRegression().fit(rows[["income", "debt"]], rows["defaulted"]), folder / "pipeline.joblib")


def flights(count: int, late: float = 0.15, since: str = "2013-01-01") -> pd.DataFrame:
    frame = pd.DataFrame({name: np.zeros(count, dtype=np.float32) for name in FEATURES})
    frame[CATEGORICAL] = "AA"
    frame[LABEL] = (np.arange(count) < count * late).astype(int)
    frame["dep_at"] = pd.Timestamp(since, tz="UTC") + pd.to_timedelta(np.arange(count) / 10, unit="min")
    return frame


TRAINING, HELD_OUT = flights(10_000), flights(1_000, since="2013-01-08")


def test_sound_rows_are_trained_on() -> None:
    assert checks.faults(TRAINING, HELD_OUT) == []


@pytest.mark.parametrize(
    ("training", "held_out", "words"),
    [
        (TRAINING[:999], HELD_OUT, "999 training rows, expected at least 10000"),
        (TRAINING, HELD_OUT[:0], "0 held-out rows, expected at least 1000"),
        (flights(10_000, late=0.0), HELD_OUT, "0.0% of the training rows are late, expected 2% to 50%"),
        (TRAINING, flights(1_000, late=0.9, since="2013-01-08"), "90.0% of the held-out rows are late"),
        (TRAINING.assign(dep_delay=np.nan), HELD_OUT, "10000 training rows have no dep_delay"),
        (TRAINING, flights(1_000, since="2013-01-01"), "expected every held-out flight to be later"),
    ],
)
def test_broken_rows_are_named(training: pd.DataFrame, held_out: pd.DataFrame, words: str) -> None:
    assert any(words in fault for fault in checks.faults(training, held_out)), checks.faults(training, held_out)


def test_training_that_was_broken_off_leaves_no_model_to_be_measured_on_other_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else `make model-publish` would hold the new model out on last month's rows, which it was trained on."""
    rows = pd.concat([TRAINING, HELD_OUT], ignore_index=True)
    rows["date"] = rows["dep_at"].dt.tz_localize(None).dt.normalize()
    monkeypatch.setattr(data, "load", lambda: rows)
    monkeypatch.setattr(retrain, "build", lambda flights: flights)
    monkeypatch.setattr(models, "challenger", DummyClassifier)
    retrain.retrain(tmp_path, date(2013, 1, 9))
    assert isinstance(joblib.load(tmp_path / "pipeline.joblib"), DummyClassifier)
    (tmp_path / "evaluation.parquet").unlink()
    (tmp_path / "evaluation.parquet").mkdir()  # the disk refuses in the middle
    with pytest.raises(OSError, match=r"evaluation\.parquet"):
        retrain.retrain(tmp_path, date(2013, 1, 9))
    assert not (tmp_path / "pipeline.joblib").exists()


def test_a_poor_model_is_refused_and_nothing_is_published(tmp_path: Path) -> None:
    write_poor_model(tmp_path / "model")
    done = make("model-publish", tmp_path / "model", MODEL_NAME="loans", MODEL_LABEL="defaulted", MIN_AUC="0.8")
    assert done.returncode != 0
    assert "below the wanted 0.8000: not published" in done.stderr
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.slow
def test_a_good_challenger_is_published_and_a_worse_one_leaves_its_alias_alone(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    folder = tmp_path / "model"
    done = make("model-pipeline", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "published models:/flights/1 as flights@challenger" in done.stdout
    client = MlflowClient(registry_of(folder), registry_of(folder))
    assert int(client.get_model_version_by_alias("flights", "challenger").version) == 1

    refused = make("model-publish", folder, MIN_AUC="0.99")
    assert refused.returncode != 0
    assert "not published" in refused.stderr
    assert [int(v.version) for v in client.search_model_versions("name='flights'")] == [1]

    again = make("model-publish", folder, MIN_AUC="0.9")
    assert again.returncode == 0, again.stderr
    assert int(client.get_model_version_by_alias("flights", "challenger").version) == 2


@pytest.mark.slow
def test_too_few_flights_train_nothing(tmp_path: Path) -> None:
    with pytest.raises(retrain.BadData, match="training rows, expected at least 10000"):
        retrain.retrain(tmp_path / "model", date(2013, 1, 10))
    assert not (tmp_path / "model").exists()
