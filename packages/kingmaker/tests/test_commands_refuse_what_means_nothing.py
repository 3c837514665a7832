"""What a person typed and what cannot be done is said, not passed over."""

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from kingmaker.controller_api import ModelView
from kingmaker.local import running
from kingmaker.local.layout import Layout
from kingmaker_contracts.status import Status


class Controller(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(
            msgspec.json.encode([ModelView("default", "flights", "Canary", "2026-11-21T00:00:00Z", Status())])
        )

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def file(tmp_path: Path, resource: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a stack of which the controller runs."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path = tmp_path / "model.yaml"
    path.write_text(resource)
    layout = Layout.of(path)
    layout.prepare()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Controller)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    addresses = {"controller": f"http://127.0.0.1:{server.server_port}", "monitor": "http://127.0.0.1:1"}
    running.announce(running.Stack(os.getpid(), str(path), ["default/flights"], addresses))
    yield path
    server.shutdown()
    server.server_close()


def kingmaker(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "kingmaker", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_challenger_that_is_given_two_weights_gets_none(file: Path, resource: str) -> None:
    done = kingmaker("set-weight", "flights", "gbm=20", "gbm=30", "--file", str(file))
    assert (done.returncode, done.stderr) == (
        2,
        "gbm stands twice: 20 and 30; expected one weight for each challenger\n",
    )
    assert file.read_text() == resource


def test_a_weight_of_five_thousand_digits_is_no_weight(file: Path) -> None:
    done = kingmaker("set-weight", "flights", "gbm=" + "9" * 5000, "--file", str(file))
    assert done.returncode == 2
    assert "is not CHALLENGER=PERCENT" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_that_the_stack_of_a_file_does_not_serve_is_no_empty_table(file: Path) -> None:
    done = kingmaker("get", "boats", "--file", str(file))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"the stack of {file} serves no model named boats; it serves flights\n"
    assert "flights" in kingmaker("get", "default/flights", "--file", str(file)).stdout
