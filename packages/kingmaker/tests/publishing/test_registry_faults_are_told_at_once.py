import contextlib
import socket
import sqlite3
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kingmaker.publishing import registry
from kingmaker.publishing.errors import BadTarget, RegistryRefused, RegistryUnreachable

if TYPE_CHECKING:
    from packages.kingmaker.tests.publishing.conftest import Table


def test_nobody_listening_is_told_before_any_work(
    table: "Table", mixed: Callable[..., Any], published: Callable[..., Any], free_port: int
) -> None:
    uri = f"http://127.0.0.1:{free_port}"
    told: list[str] = []
    with pytest.raises(RegistryUnreachable, match=f"no registry answers at {uri}: .*refused"):
        published(
            mixed().fit(table.train, table.train_label), registry=uri, progress=lambda stage, *_: told.append(stage)
        )
    assert told == ["checking the rows"]


def test_a_server_that_accepts_and_says_nothing_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(RegistryUnreachable, match="no registry answers"):
            registry.check(uri, "m", None, timeout_s=0.2)


@pytest.mark.parametrize(("status", "usable"), [(200, True), (404, True), (401, True), (500, False), (503, False)])
def test_a_server_counts_by_its_status(status: int, usable: bool) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        uri = f"http://127.0.0.1:{server.server_port}"
        if usable:
            registry.check(uri, "m", None)
        else:
            with pytest.raises(RegistryUnreachable, match=f"answers with status {status}"):
                registry.check(uri, "m", None)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_database_server_that_is_not_there_is_unreachable(free_port: int) -> None:
    with pytest.raises(RegistryUnreachable, match=f"no registry answers at 127.0.0.1:{free_port}"):
        registry.check(f"postgresql://user:word@127.0.0.1:{free_port}/mlflow", "m", None)


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("this is not a database, whatever its name says")
    with pytest.raises(RegistryUnreachable, match="is not a usable SQLite file: file is not a database"):
        registry.check(f"sqlite:///{tmp_path / 'mlflow.db'}", "m", None)


def test_a_database_below_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("")
    with pytest.raises(RegistryUnreachable, match="is not a folder one may write to"):
        registry.check(f"sqlite:///{tmp_path / 'here' / 'mlflow.db'}", "m", None)


@pytest.mark.parametrize("name", ["", "a/b", "a:b"])
def test_a_name_that_cannot_be_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadTarget, match="model name"):
        registry.check(f"sqlite:///{tmp_path / 'mlflow.db'}", name, None)


@pytest.mark.parametrize("alias", ["", "latest", "Latest", "v3", "3", "two words", "a/b"])
def test_an_alias_that_mlflow_reserves_is_told(tmp_path: Path, alias: str) -> None:
    with pytest.raises(BadTarget, match="alias"):
        registry.check(f"sqlite:///{tmp_path / 'mlflow.db'}", "m", alias)


def test_without_an_address_both_ways_to_give_one_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(
        BadTarget, match=r"give --registry \(registry=\.\.\. in Python\), for example .* or set MLFLOW_TRACKING_URI"
    ):
        registry.resolve(None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///there.db")
    assert registry.resolve(None) == "sqlite:///there.db"
    assert registry.resolve("sqlite:///here.db") == "sqlite:///here.db"


def test_what_mlflow_refuses_is_one_sentence(
    table: "Table", mixed: Callable[..., Any], published: Callable[..., Any], tmp_path: Path
) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        database.execute("INSERT INTO alembic_version VALUES ('of the future')")
        database.commit()
    with pytest.raises(RegistryRefused, match=r"MLflow could not store the model: .*of the future") as refusal:
        published(mixed().fit(table.train, table.train_label), registry=f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert "\n" not in str(refusal.value)
