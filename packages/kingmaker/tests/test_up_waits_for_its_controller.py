"""A stack is served once its controller says so, also when that one has to be started again meanwhile."""

import http.server
import io
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from rich.console import Console

from kingmaker.cli.up import wait_until_served
from kingmaker.controller_api import ModelView
from kingmaker.local import running
from kingmaker.local.layout import Layout
from kingmaker.local.stack import StackError
from kingmaker_contracts.status import Condition, Status

SERVED = Status(
    message="lr serves",
    conditions=[Condition(kind, "True", "Served", "", "2026-11-21T00:00:00Z", 1) for kind in ("Ready", "Programmed")],
)


class Stack:
    """Looked after like a real one: its controller, which is away at first, is there from the third look on."""

    def __init__(self, file: Path, port: int) -> None:
        self.layout = Layout.of(file)
        self.layout.prepare()
        self.looks = 0
        self.server: http.server.ThreadingHTTPServer | None = None
        self._port = port
        addresses = {"controller": f"http://127.0.0.1:{port}"}
        running.announce(running.Stack(os.getpid(), str(self.layout.file), ["default/flights"], addresses))

    def supervise(self) -> None:
        self.looks += 1
        if self.looks == 3:
            self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self._port), Controller)
            threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


class Controller(http.server.BaseHTTPRequestHandler):
    status = SERVED

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        view = ModelView("default", "flights", "Canary", "2026-11-21T00:00:00Z", self.status)
        self.wfile.write(msgspec.json.encode([view]))

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stack(tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    made = Stack(tmp_path / "model.yaml", free_port)
    yield made
    if made.server is not None:
        made.server.shutdown()
        made.server.server_close()


def test_a_controller_that_starts_again_is_waited_for(stack: Any) -> None:
    printed = io.StringIO()
    wait_until_served(stack, Console(file=printed))
    assert printed.getvalue() == "flights: lr serves\n"


def test_what_it_says_is_printed_as_it_is_and_in_one_line(stack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of files hold whatever they hold: nothing of it is markup. Whoever reads a log wants a line a message."""
    message = "model [bold]/[/nothing] " + 12 * "is not there " + ":warning:"
    monkeypatch.setattr(Controller, "status", msgspec.structs.replace(SERVED, message=message))
    printed = io.StringIO()
    wait_until_served(stack, Console(file=printed))
    assert printed.getvalue() == f"flights: {message}\n"


def test_one_that_never_answers_is_named_in_the_end(stack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[wait_until_served.__module__], "_READY_S", 0.3)
    silent = SimpleNamespace(layout=stack.layout, supervise=lambda: None)
    with pytest.raises(StackError, match=r"not ready after 0.3 s: the controller at .* did not answer"):
        wait_until_served(silent, Console(file=io.StringIO()))  # type: ignore[arg-type]  # a stand-in
