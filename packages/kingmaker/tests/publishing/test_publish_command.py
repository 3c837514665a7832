"""`kingmaker publish`, with files as a person has them."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import pytest
import typer
from mlflow import MlflowClient
from typer.testing import CliRunner

from kingmaker.cli.failures import Failure
from kingmaker.cli.publish import _read, publish

if TYPE_CHECKING:
    from packages.kingmaker.tests.publishing.conftest import Table


@pytest.fixture
def files(table: "Table", mixed: Callable[..., Any], tmp_path: Path) -> Path:
    joblib.dump(mixed().fit(table.train, table.train_label), tmp_path / "pipeline.joblib")
    for name, frame, labels in (("train", table.train, table.train_label), ("test", table.test, table.test_label)):
        frame.assign(late=labels).to_csv(tmp_path / f"{name}.csv", index=False)
        frame.assign(late=labels).to_parquet(tmp_path / f"{name}.parquet")
    return tmp_path


def run(files: Path, registry_uri: str, *more: str, pipeline: str = "pipeline.joblib", kind: str = "csv") -> Any:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(publish)
    call = [str(files / pipeline), "--reference", str(files / f"train.{kind}")]
    call += ["--evaluation", str(files / f"test.{kind}"), "--label", "late", "--registry", registry_uri, *more]
    return CliRunner().invoke(app, call)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_files_become_a_version_and_a_summary(files: Path, registry_uri: str, kind: str) -> None:
    done = run(files, registry_uri, "--name", f"from-{kind}", "--alias", "champion", "--min-auc", "0.6", kind=kind)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == f"published models:/from-{kind}/1 as from-{kind}@champion"
    assert lines[1].startswith("quality   auc 0.")
    assert lines[2].startswith("parity    ")
    assert lines[2].endswith("on 300 rows")
    client = MlflowClient(registry_uri, registry_uri)
    assert client.get_model_version_by_alias(f"from-{kind}", "champion").version in {"1", 1}


def test_a_log_tells_what_is_being_done(files: Path, registry_uri: str) -> None:
    """Where nobody watches a bar, each stage is a line; the summary stays alone on standard output."""
    done = run(files, registry_uri, "--name", "told")
    lines = done.stderr.splitlines()
    assert lines[:3] == ["reading the files", "checking the rows (0/6)", "converting to ONNX (1/6)"]
    assert lines[-1] == "storing in MLflow (5/6)"
    assert done.stdout.startswith("published models:/told/1")


def test_the_gate_ends_the_command_with_three(files: Path, registry_uri: str) -> None:
    done = run(files, registry_uri, "--name", "gate", "--min-auc", "0.999")
    assert isinstance(done.exception, Failure)
    assert done.exception.code == 3
    assert "below the wanted 0.9990: not published" in str(done.exception)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda f: (f / "pipeline.joblib").unlink(), "pipeline.joblib does not exist"),
        (lambda f: (f / "pipeline.joblib").write_text("no pickle"), "is not a pipeline that joblib can load"),
        (lambda f: (f / "test.csv").unlink(), "test.csv does not exist"),
        (lambda f: (f / "test.csv").write_text("a,b\n1,2\n"), "has no column 'late'; it has a, b"),
        (lambda f: (f / "train.csv").write_text(""), "train.csv cannot be read: No columns to parse"),
        (lambda f: (f / "train.csv").write_text("late,delay\n1,2\n"), "lacks columns 'miles flown', 'carrier'"),
        (
            lambda f: (f / "test.csv").write_text((f / "train.csv").read_text()),
            "or allow training rows .*--allow-training-rows",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(files: Path, registry_uri: str, change: Any, text: str) -> None:
    change(files)
    done = run(files, registry_uri, "--name", "wrong")
    assert isinstance(done.exception, Failure), done.output
    assert done.exception.code == 1
    with pytest.raises(Failure, match=text):
        raise done.exception
    assert "\n" not in str(done.exception)


@pytest.mark.parametrize("gate", ["nan", "inf", "-0.1", "90"])
def test_a_gate_that_lets_everything_or_nothing_pass_is_refused(files: Path, registry_uri: str, gate: str) -> None:
    done = run(files, registry_uri, "--name", "no-gate", "--min-auc", gate)
    assert isinstance(done.exception, Failure), done.output
    assert str(done.exception) == f"min_auc is {float(gate):g}, expected a number from 0 to 1"


def test_a_column_of_codes_stays_one_kind_however_long_the_file(files: Path) -> None:
    """pandas reads long files in parts and would take the same digits for numbers in one and for strings in another."""
    rows = 300_000
    lines = [f"{i % 7},{i % 100},0" for i in range(rows)] + [f"{i % 7},A{i % 100},1" for i in range(rows)]
    (files / "test.csv").write_text("delay,code,late\n" + "\n".join(lines) + "\n")
    assert {type(value) for value in _read(files / "test.csv")["code"]} == {str}


def test_rows_with_more_values_than_names_are_refused_and_not_shifted(files: Path, registry_uri: str) -> None:
    """pandas makes row labels of the first columns then: a comma at the ends moves every value by one."""
    header, *rows = (files / "train.csv").read_text().splitlines()
    (files / "train.csv").write_text("\n".join([header, *(f"{row}," for row in rows)]))
    done = run(files, registry_uri, "--name", "shifted")
    assert isinstance(done.exception, Failure)
    assert str(done.exception) == f"{files / 'train.csv'}: rows have more values than the 4 names in the first line"


def test_a_database_without_its_driver_is_told_in_one_line(files: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as database:
        uri = f"postgresql+pg8000://me:secret@127.0.0.1:{database.getsockname()[1]}/mlflow"
        done = run(files, uri, "--name", "nowhere")
    assert isinstance(done.exception, Failure), done.exception
    assert str(done.exception) == "MLflow could not store the model: No module named 'pg8000'"


def test_without_a_registry_the_option_is_named(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    done = run(files, "", "--name", "nowhere")
    assert "give --registry (registry=... in Python), for example sqlite:///mlflow.db" in str(done.exception)


def test_files_of_another_kind_are_refused(files: Path, registry_uri: str) -> None:
    (files / "train.xlsx").write_text("")
    done = run(files, registry_uri, "--name", "wrong", kind="xlsx")
    assert "train.xlsx is neither .csv nor .parquet" in str(done.exception)


def test_the_help_warns_of_strangers_files() -> None:
    app = typer.Typer()
    app.command()(publish)
    text = " ".join(CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).stdout.split())
    assert "load only files that you made yourself" in text
