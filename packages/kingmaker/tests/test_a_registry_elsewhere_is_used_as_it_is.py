"""MLFLOW_TRACKING_URI may name a server: then a stack starts none of its own, which could not even start."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from kingmaker.cli.up import show_addresses
from kingmaker.local import processes
from kingmaker.local.layout import Layout
from kingmaker.local.ports import Ports
from kingmaker.local.stack import Stack


@pytest.mark.parametrize(
    ("uri", "is_started", "shown"),
    [
        ("https://me:secret@mlflow.example.com/team", False, "https://mlflow.example.com/team\n"),
        ("sqlite:///mlflow.db", True, "http://127.0.0.1:5  (takes 15 s to come up)\n"),
    ],
)
def test_mlflow_is_started_for_a_file_and_not_for_a_server(
    uri: str, is_started: bool, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    layout, ports = Layout.of(tmp_path / "model.yaml"), Ports(1, 2, 3, 4, 5, 6)
    names = {one.name for one in processes.of_stack(layout, ports, "valkey-server", "default")}
    assert names - {"mlflow"} == {"redis", "controller", "monitor", "gateway"}
    assert ("mlflow" in names) == is_started
    stack = Stack(layout, [], None, print)
    stack.ports = ports
    printed = io.StringIO()
    show_addresses(stack, Console(file=printed))
    assert f"MLflow           {shown}" in printed.getvalue()
