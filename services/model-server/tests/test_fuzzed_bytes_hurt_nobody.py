"""Raw bytes and damaged frames: refused in words or answered rightly, never a 500, a hang, or a neighbour's trouble."""

import json
import re
import signal
import socket
import time
from http.client import HTTPResponse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kingmaker_contracts import json_tensors, tensors
from kingmaker_model_server.answers import Answer
from kingmaker_model_server.batching import answer_together

if TYPE_CHECKING:
    from tests.conftest import Server, Start

HEADER = b"inference-header-content-length"
PATH = b"/v2/models/flights/infer"
TYPES = {"distance": "FP32", "delay": "FP32", "carrier": "BYTES"}
fuzz = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def body(distance: float = 1400, request_id: str = "1") -> bytes:
    values = {"distance": distance, "delay": 3, "carrier": "UA"}
    inputs = [{"name": n, "shape": [1, 1], "datatype": k, "data": [values[n]]} for n, k in TYPES.items()]
    return json.dumps({"id": request_id, "inputs": inputs}).encode()


FRAME, FRAME_HEAD = tensors.encode_request(
    [json_tensors.from_values(n, k, [2, 1], ["UA", "A"] if k == "BYTES" else [1, 2]) for n, k in TYPES.items()], id="1"
)


def http(content: bytes, *headers: bytes, path: bytes = PATH) -> bytes:
    lines = [b"POST %b HTTP/1.1" % path, b"host: m", b"content-length: %d" % len(content), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + content


def exchange(address: str, sent: bytes) -> bytes:
    """Everything the server says to these bytes and an end of sending; fails when it does not come to an end."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=30) as sock:
        got = b""
        try:
            sock.sendall(sent)
            sock.shutdown(socket.SHUT_WR)
            while part := sock.recv(65536):
                got += part
        except ConnectionError:
            pass
        return got


@st.composite
def near_http(draw: Any) -> bytes:
    """A good request, or two, with some bytes overwritten, cut out or put in."""
    good = draw(
        st.sampled_from(
            [
                http(body()),
                http(FRAME, HEADER + b": %d" % FRAME_HEAD),
                http(b'{"instances": [[1, 2, "UA"]]}', path=b"/v1/models/flights:predict"),
                http(body(), b"expect: 100-continue"),
                http(b"5\r\nhello\r\n0\r\n\r\n", b"transfer-encoding: chunked"),
            ]
        )
    )
    sent: bytes = good * draw(st.integers(1, 2))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(sent)))
        noise = draw(
            st.binary(max_size=4) | st.sampled_from([b"\r\n", b"\r\n\r\n", b"\0", b"-1", b"99999999999999999999"])
        )
        sent = sent[:at] + noise + sent[at + draw(st.integers(0, 6)) :]
    return sent


@fuzz
@given(sent=near_http())
def test_any_bytes_on_the_socket_come_to_an_end_and_the_server_goes_on(
    shared: "Server", client: httpx.Client, sent: bytes
) -> None:
    got = exchange(shared.address(), sent)
    for status in re.findall(rb"HTTP/1\.1 (\d+)", got):
        assert status != b"500", got
    assert b"Traceback" not in got
    answer = client.post(PATH.decode(), content=body())
    assert (answer.status_code, answer.json()["outputs"][0]["data"]) == (200, [0])


class Client:
    def __init__(self) -> None:
        self.got: list[Answer] = []

    def answer(self, status: int, headers: tuple[tuple[bytes, bytes], ...], content: bytes) -> None:
        self.got.append(Answer(status, headers, content))


sizes = st.integers(-9, 40) | st.sampled_from([2**31, 2**63, 10**20, -(2**63), True, 1.5, "4", None])
shapes = st.lists(st.integers(-2, 4) | st.sampled_from([2**31, 2**62, 10**20]), max_size=4)


@st.composite
def damaged_frames(draw: Any) -> tuple[dict[bytes, bytes], bytes]:
    """Frames whose lengths, shapes and datatypes do not tell the truth."""
    head = json.loads(FRAME[:FRAME_HEAD])
    for _ in range(draw(st.integers(1, 3))):
        item = head["inputs"][draw(st.integers(0, 2))]
        what = draw(st.sampled_from(["size", "shape", "datatype", "both", "name"]))
        if what == "size":
            item["parameters"]["binary_data_size"] = draw(sizes)
        elif what == "shape":
            item["shape"] = draw(shapes)
        elif what == "datatype":
            item["datatype"] = draw(st.sampled_from(["FP32", "FP64", "INT32", "BYTES", "BOOL", "FP16", "?"]))
        elif what == "both":
            item["data"] = [1, 2]
        else:
            item["name"] = draw(st.sampled_from(["distance", "delay", "speed"]))
    text = json.dumps(head).encode()
    length = draw(st.sampled_from([len(text)] * 5 + [0, 1, len(text) - 1, len(text) + 1, 10**6, 10**14]))
    tail = draw(st.sampled_from([FRAME[FRAME_HEAD:]] * 5 + [b"", FRAME[FRAME_HEAD:-1], FRAME[FRAME_HEAD:] + b"x"]))
    return {HEADER: b"%d" % length}, text + tail


@settings(fuzz, max_examples=150)
@given(frames=st.lists(damaged_frames(), min_size=1, max_size=4))
def test_damaged_frames_are_refused_and_their_neighbours_answered_rightly(
    core: Any, frames: list[tuple[dict[bytes, bytes], bytes]]
) -> None:
    sent = [({}, body(100)), *frames, ({}, body(2000))]
    clients = [Client() for _ in sent]
    jobs = [core.predictor.infer_job("m", None, headers.get, content) for headers, content in sent]
    answer_together(core.predictor, list(zip(jobs, clients, strict=True)))
    for at, ((headers, content), client) in enumerate(zip(sent, clients, strict=True)):
        [got] = client.got
        expected = core.infer(content, headers)
        assert got.status == expected.status
        assert got.status == 200 or (got.status == 400 and 0 < at < len(sent) - 1)
        if HEADER not in headers:
            found, wanted = (json.loads(answer.body)["outputs"] for answer in (got, expected))
            assert found[0] == wanted[0]
            assert found[1]["data"] == pytest.approx(wanted[1]["data"], abs=1e-6)


def test_requests_that_wait_on_many_sockets_are_run_as_one(start: "Start", make: Any, tmp_path: Any) -> None:
    (tmp_path / "m.onnx").write_bytes(make.one_column_model())
    server = start(tmp_path / "m.onnx")
    server.wait_ready()
    host, port = server.address().rsplit(":", 1)

    def request(number: int) -> bytes:
        tensor = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [number]}
        return http(json.dumps({"inputs": [tensor]}).encode())

    def runs() -> float:
        with server.client() as client:
            text = client.get("/metrics").text
        return float(re.findall(r"^kingmaker_model_server_inference_duration_seconds_count (\S+)", text, re.M)[0])

    sockets = [socket.create_connection((host, int(port)), timeout=30) for _ in range(40)]
    for number, sock in enumerate(sockets):  # each connection is known to the loop before the server is stopped
        sock.sendall(request(number))
        assert answered(sock)[0] == 200
    before = runs()
    server.process.send_signal(signal.SIGSTOP)
    stopped(server.process.pid)
    for number, sock in enumerate(sockets):
        sock.sendall(request(1000 + number))
    server.process.send_signal(signal.SIGCONT)
    for number, sock in enumerate(sockets):
        assert json.loads(answered(sock)[1])["outputs"][0]["data"] == [1000 + number]
        sock.close()
    assert runs() - before <= 3  # one round, and the round the stop may have cut in two


def answered(sock: socket.socket) -> tuple[int, bytes]:
    """Status and body of the next answer, in however many pieces it comes."""
    answer = HTTPResponse(sock)
    answer.begin()
    return answer.status, answer.read()


def stopped(pid: int) -> None:
    """Wait until the process stands still."""
    deadline = time.monotonic() + 30
    while True:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T":
            return
        assert time.monotonic() < deadline
        time.sleep(0.01)
