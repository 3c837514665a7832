"""`make demo` ends in one line when it cannot run, and touches nothing that is not its own."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from examples.flights import demo, train
from kingmaker.publishing.errors import PublishError


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs the demo with options and what stands for training; what it exits with."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "user"))

    def run(trains: Callable[..., Any], *options: str) -> Any:
        monkeypatch.setattr(train, "train_and_publish", trains)
        monkeypatch.setattr(sys, "argv", ["demo", "--exit", "--folder", str(tmp_path / "demo"), *options])
        with pytest.raises(SystemExit) as caught:
            demo.main()
        return caught.value.code

    return run


def refusing(registry: str, tell: object) -> None:
    raise PublishError(f"nobody answers at {registry}")


def test_a_publication_that_is_refused_is_told_in_one_line(ended: Callable[..., Any], tmp_path: Path) -> None:
    registry = f"sqlite:///{tmp_path}/demo/.kingmaker/mlflow/mlflow.db"
    assert ended(refusing) == f"demo: nobody answers at {registry}"


def test_models_go_to_a_registry_of_the_demo_and_not_to_yours(
    ended: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/yours.db")
    assert "demo/.kingmaker/mlflow/mlflow.db" in ended(refusing)


def test_ports_that_cannot_be_are_refused_before_anything_is_trained(
    ended: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(refusing, "--port-base", "99999") == 2
    assert "--port-base is 99999, expected 1024 to 65000" in capsys.readouterr().err


def test_a_second_demo_is_refused_while_the_first_one_trains(ended: Callable[..., Any], tmp_path: Path) -> None:
    said: list[object] = []

    def training(registry: str, tell: object) -> None:
        (tmp_path / "demo" / ".kingmaker" / "of the first").touch()
        said.append(ended(refusing))
        assert (tmp_path / "demo" / ".kingmaker" / "of the first").exists()
        raise PublishError("enough")

    assert ended(training) == "demo: enough"
    assert said == [f"demo: a demo runs already in {tmp_path / 'demo'}; stop it, or choose another --folder"]


def test_what_an_earlier_demo_left_and_cannot_be_removed_is_named(ended: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / ".kingmaker").touch()
    assert ended(refusing) == f"demo: {tmp_path / 'demo' / '.kingmaker'}: not a directory"
