"""Starting, refusing to start, and draining: real processes and their exit codes."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from tests.conftest import Server, Start


def event(log: str, name: str) -> dict[str, Any]:
    """The one log line of an event."""
    lines = [json.loads(line) for line in log.splitlines()]
    found = [line for line in lines if line["event"] == name]
    assert len(found) == 1, log
    return found[0]


def package_read_from_a_pipe(make: Any, folder: Path, model: bytes) -> Path:
    """A package whose model.onnx is a named pipe: it loads when the test writes into it, not before."""
    make.write_package(folder, model)
    (folder / "model.onnx").unlink()
    os.mkfifo(folder / "model.onnx")
    return folder


def test_it_is_live_at_once_and_ready_only_when_loaded(
    make: Any, start: "Start", tmp_path: Path, flights_bytes: bytes
) -> None:
    server = start(package_read_from_a_pipe(make, tmp_path / "p", flights_bytes))
    with server.client() as client:
        make.until(lambda: make.answers(client, "/v2/health/live") == 200, server)
        for path in ("/v2/health/ready", "/v2/models/flights/ready", "/v1/models/flights", "/v2/models/flights"):
            answer = client.get(path)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), path
        for path in ("/v2/models/flights/infer", "/v1/models/flights:predict"):
            answer = client.post(path, json={})
            assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
            assert answer.headers["retry-after"] == "1"
        assert client.get("/v2/models/other").status_code == 404
        assert "kingmaker_model_server_ready 0.0" in client.get("/metrics").text
        (tmp_path / "p" / "model.onnx").write_bytes(flights_bytes)
        make.until(lambda: make.answers(client, "/v2/health/ready") == 200, server)
        assert "kingmaker_model_server_ready 1.0" in client.get("/metrics").text
    ready = event(server.log, "model ready")
    assert (ready["version"], ready["sha256"]) == ("3", hashlib.sha256(flights_bytes).hexdigest())


def test_a_signal_ends_it_even_while_the_model_loads(make: Any, start: "Start", tmp_path: Path) -> None:
    server = start(package_read_from_a_pipe(make, tmp_path / "p", make.one_column_model()))
    with server.client() as client:
        make.until(lambda: make.answers(client, "/v2/health/live") == 200, server)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(20) == 0


def test_a_damaged_model_file_is_one_clear_line_and_exit_3(
    make: Any, start: "Start", tmp_path: Path, flights_bytes: bytes
) -> None:
    folder = make.write_package(tmp_path / "p", flights_bytes)
    (folder / "model.onnx").write_bytes(flights_bytes[: len(flights_bytes) // 2])
    server = start(folder)
    assert server.process.wait(20) == 3, server.log
    assert "Traceback" not in server.log
    reason = event(server.log, "bad model")["reason"]
    assert "model.onnx" in reason
    assert "damaged" in reason


def test_bytes_that_are_no_model_are_one_clear_line_and_exit_3(start: "Start", tmp_path: Path) -> None:
    (tmp_path / "tiny.onnx").write_bytes(b"not a model")
    server = start(tmp_path / "tiny.onnx")
    assert server.process.wait(20) == 3, server.log
    assert "Traceback" not in server.log
    assert "tiny.onnx: not a model ONNX Runtime can load" in event(server.log, "bad model")["reason"]


def test_a_fault_of_its_own_behind_the_load_ends_it_with_exit_1_and_not_as_one_that_never_gets_ready(
    make: Any, tmp_path: Path
) -> None:
    (tmp_path / "tiny.onnx").write_bytes(make.one_column_model())
    settings = {"MODEL_DIR": str(tmp_path / "tiny.onnx"), "MODEL_NAME": "flights", "PORT": "0"}
    broken = (  # a bug, for once on purpose: load() cannot be called any more
        "import sys; from kingmaker_model_server import __main__, predict; predict.Predictor.load = None; "
        "sys.exit(__main__.main())"
    )
    env = os.environ | {make.PREFIX + name: text for name, text in settings.items()}
    done = subprocess.run([sys.executable, "-c", broken], env=env, capture_output=True, timeout=30, check=False)
    log = done.stderr.decode()
    assert done.returncode == 1, log
    assert "TypeError" in event(log, "load failed")["exception"]


def test_a_taken_port_is_one_clear_line_and_exit_2(start: "Start", tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = start(tmp_path / "not even looked at", PORT=str(taken.getsockname()[1]))
        assert server.process.wait(20) == 2
    assert "taken" in event(server.log, "cannot listen")["reason"]
    assert "Traceback" not in server.log


def test_a_misspelled_setting_is_one_clear_line_and_exit_2(start: "Start", tmp_path: Path) -> None:
    server = start(tmp_path, MODEL_DIRECTORY="x")
    assert server.process.wait(20) == 2
    assert "KINGMAKER_MODEL_SERVER_MODEL_DIRECTORY" in event(server.log, "bad settings")["reason"]


def test_a_request_in_flight_is_answered_after_sigterm_and_nobody_new_is_let_in(
    make: Any, start: "Start", tmp_path: Path
) -> None:
    server = start(make.write_package(tmp_path / "p", make.one_column_model()))
    server.wait_ready()
    host, port = server.address().split(":")
    body = b'{"instances": [1, 2]}'
    with socket.create_connection((host, int(port)), timeout=10) as sock:
        head = (
            b"POST /v1/models/flights:predict HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n"
        )
        sock.sendall(head % len(body))
        assert sock.recv(100).startswith(b"HTTP/1.1 100")  # the handler waits for the body
        server.process.send_signal(signal.SIGTERM)

        def refused() -> bool:
            try:
                with socket.create_connection((host, int(port)), timeout=1):
                    return False
            except OSError:
                return True

        make.until(refused)
        assert server.process.poll() is None
        sock.sendall(body)
        sock.settimeout(20)
        answer = b""
        while part := sock.recv(4096):
            answer += part
    assert answer.startswith(b"HTTP/1.1 200") and b'{"predictions":[[1.0],[2.0]]}' in answer
    assert server.process.wait(20) == 0
    assert event(server.log, "stopped")


def test_a_plain_onnx_file_is_version_0_and_takes_null_floats(make: Any, start: "Start", tmp_path: Path) -> None:
    (tmp_path / "tiny.onnx").write_bytes(make.one_column_model())
    server = start(tmp_path / "tiny.onnx")
    server.wait_ready()
    with server.client() as client:
        assert client.get("/v2/models/flights").json()["versions"] == ["0"]
        answer = client.post("/v1/models/flights:predict", json={"instances": [1.5, None]})
        assert answer.json() == {"predictions": [[1.5], [None]]}


def test_a_folder_with_one_onnx_file_serves_the_version_told(make: Any, start: "Start", tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "any.onnx").write_bytes(make.one_column_model())
    server = start(tmp_path / "m", VERSION="7", THREADS="1")
    server.wait_ready()
    with server.client() as client:
        assert client.get("/v2/models/flights/versions/7/ready").status_code == 200
    assert event(server.log, "model ready")["threads"] == 1


@pytest.mark.parametrize("form", ["fetched package", "folder with one model"])
def test_the_profile_it_gives_is_the_one_it_was_loaded_with(
    make: Any, start: "Start", tmp_path: Path, flights_bytes: bytes, form: str
) -> None:
    folder, profile = tmp_path / "p", make.flights_profile(flights_bytes)
    if form == "fetched package":
        file = make.write_package(folder, flights_bytes, profile) / "profile.json"
    else:
        file = folder / "kingmaker" / "profile.json"
        file.parent.mkdir(parents=True)
        (folder / "any.onnx").write_bytes(flights_bytes)
        file.write_text(json.dumps(profile))
    raw = file.read_bytes()
    server = start(folder)
    server.wait_ready()
    with server.client() as client:
        about = client.get("/v2/models/flights").json()["properties"]
        assert about["profile_sha256"] == hashlib.sha256(raw).hexdigest()
        for change in (lambda: None, lambda: file.write_bytes(b"another"), file.unlink):
            change()
            answer = client.get("/kingmaker/profile")
            assert (answer.status_code, answer.content) == (200, raw)


def test_the_profile_is_not_given_before_it_was_verified(make: Any, start: "Start", tmp_path: Path) -> None:
    model = make.flights_model()
    folder = make.write_package(tmp_path / "p", model, make.flights_profile(model))
    (folder / "model.onnx").unlink()
    os.mkfifo(folder / "model.onnx")
    with start(folder).client() as client:
        make.until(lambda: make.answers(client, "/v2/health/live") == 200)
        assert client.get("/kingmaker/profile").status_code == 503
        (folder / "model.onnx").write_bytes(model)
        make.until(lambda: make.answers(client, "/kingmaker/profile") == 200)


def test_what_it_did_is_counted(make: Any, start: "Start", tmp_path: Path) -> None:
    server = start(make.write_package(tmp_path / "p", make.one_column_model()))
    server.wait_ready()

    def post(client: httpx.Client, instances: Any) -> None:
        client.post("/v1/models/flights:predict", json={"instances": instances})

    with server.client() as client:
        post(client, [1, 2, 3])
        post(client, ["x"])
        client.post("/v1/models/other:predict", json={})
        text = client.get("/metrics").text
    sha256 = hashlib.sha256(make.one_column_model()).hexdigest()
    for line in (
        'kingmaker_model_server_requests_total{code="200"} 1.0',
        'kingmaker_model_server_requests_total{code="400"} 1.0',
        'kingmaker_model_server_requests_total{code="404"} 1.0',
        "kingmaker_model_server_rows_total 3.0",
        "kingmaker_model_server_request_duration_seconds_count 3.0",
        "kingmaker_model_server_inference_duration_seconds_count 1.0",
        f'kingmaker_model_server_model_info{{model="flights",sha256="{sha256}",version="3"}} 1.0',
    ):
        assert line in text.splitlines(), line
    assert "kingmaker_model_server_load_seconds " in text


def test_two_requests_at_once_on_two_connections_get_their_own_answers(client: httpx.Client, shared: "Server") -> None:
    found: dict[int, Any] = {}

    def ask(at: int) -> None:
        with shared.client() as own:
            row = {"distance": 100 * at, "delay": at, "carrier": "UA"}
            found[at] = own.post("/v1/models/flights:predict", json={"instances": [row]}).json()

    threads = [threading.Thread(target=ask, args=(at,)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = [{"distance": 100 * at, "delay": at, "carrier": "UA"} for at in range(8)]
    together = client.post("/v1/models/flights:predict", json={"instances": rows}).json()["predictions"]
    for at in range(8):
        [alone] = found[at]["predictions"]
        assert alone["label"] == together[at]["label"]
        assert alone["probabilities"] == pytest.approx(together[at]["probabilities"], abs=1e-6)
