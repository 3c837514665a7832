"""Where HTTP_PROXY is set, as in many offices, a stack on this machine is still talked to directly."""

import http.server
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kingmaker import controller_api, monitor_api
from kingmaker.local import running
from kingmaker.local.layout import Layout
from kingmaker.local.processes import Process
from kingmaker.local.stack import _Child
from kingmaker_servicekit import child
from tests import patience


class Service(http.server.BaseHTTPRequestHandler):
    """Knows no model, in the words of controller and monitor."""

    def do_GET(self) -> None:
        is_monitor = self.path == "/api/models/flights"
        self.send_response(404 if is_monitor else 200)
        self.end_headers()
        self.wfile.write(json.dumps({"error": "not counted here"} if is_monitor else []).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def proxy(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that nobody can reach."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def address() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_controller_is_asked_directly(address: str, tmp_path: Path) -> None:
    layout = Layout.of(tmp_path / "model.yaml")
    layout.prepare()
    assert controller_api.models(running.Stack(os.getpid(), str(layout.file), [], {"controller": address})) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_monitor_is_asked_directly(address: str, host: str) -> None:
    with pytest.raises(monitor_api.MonitorError, match="not counted here"):
        monitor_api.report(address.replace("127.0.0.1", host), "flights")


def test_a_started_service_is_asked_directly_whether_it_is_ready(tmp_path: Path) -> None:
    says_its_port = "import http.server as h; s = h.HTTPServer(('127.0.0.1', 0), h.SimpleHTTPRequestHandler)"
    says_its_port += "; print(s.server_port, flush=True); s.serve_forever()"
    log = tmp_path / "log"
    command = [sys.executable, "-c", says_its_port]
    started = _Child(Process("gateway", command, dict(os.environ), 0, "/"), log)
    try:
        port = patience.until(lambda: log.read_text().strip(), "it listens", 20, str)
        started.what = Process("gateway", command, {}, int(port), "/")
        patience.until(started.is_answering, "it answers", 5, log.read_text)
    finally:
        child.stop([started.process])
