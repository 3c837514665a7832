"""MLflow makes its database in many steps, and one that was broken off in between can never be used again.

Whoever interrupts their first `kingmaker publish` or `kingmaker up` shall not have to find out which file to remove.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import pytest
from mlflow import MlflowClient

from kingmaker.local import processes
from kingmaker.local.layout import Layout
from kingmaker.local.ports import Ports

if TYPE_CHECKING:
    from packages.kingmaker.tests.publishing.conftest import Table

# Ends a process in the middle of making tables, as SIGKILL or a lost battery would.
KILLS_ITSELF = """
import os, signal
from sqlalchemy import event
from sqlalchemy.engine import Engine

@event.listens_for(Engine, "after_cursor_execute")
def look(connection, cursor, statement, *_):
    if "CREATE TABLE entity_associations" in statement:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def killed(tmp_path: Path) -> Callable[[list[str]], int]:
    """Runs a command that is killed half-way; its return code."""
    (tmp_path / "sitecustomize.py").write_text(KILLS_ITSELF)

    def run(command: list[str]) -> int:
        env = os.environ | {"PYTHONPATH": str(tmp_path), "MLFLOW_DISABLE_TELEMETRY": "true"}
        return subprocess.run(command, env=env, capture_output=True, timeout=100, check=False).returncode

    return run


def test_a_first_publication_that_was_killed_is_followed_by_one_that_works(
    killed: Callable[[list[str]], int],
    published: Callable[..., Any],
    table: "Table",
    mixed: Callable[..., Any],
    tmp_path: Path,
) -> None:
    pipeline = mixed().fit(table.train, table.train_label)
    joblib.dump(pipeline, tmp_path / "pipeline.joblib")
    for name, frame, labels in (("train", table.train, table.train_label), ("test", table.test, table.test_label)):
        frame.assign(late=labels).to_parquet(tmp_path / f"{name}.parquet")
    uri = f"sqlite:///{tmp_path / 'registry' / 'mlflow.db'}"
    command = [sys.executable, "-m", "kingmaker", "publish", str(tmp_path / "pipeline.joblib"), "--name", "delays"]
    command += ["--reference", str(tmp_path / "train.parquet"), "--evaluation", str(tmp_path / "test.parquet")]
    assert killed([*command, "--label", "late", "--registry", uri]) == -9
    assert published(pipeline, registry=uri).version == 1


def test_a_first_up_that_was_killed_leaves_no_registry_that_cannot_be_used(
    killed: Callable[[list[str]], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    layout = Layout.of(tmp_path / "model.yaml")
    layout.prepare()
    mlflow = next(
        one for one in processes.of_stack(layout, Ports(1, 2, 3, 4, 5, 6), "", "default") if one.name == "mlflow"
    )
    assert killed(mlflow.command) == -9
    MlflowClient(layout.registry_uri, layout.registry_uri).search_experiments()
