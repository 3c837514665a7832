"""Configurations of the peers, the trivial upstream's bytes, and the models' right answers."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime
import pytest

from benchmarks import folders, models, proxies, tools
from benchmarks.answers import CONSTANT, constant_json
from benchmarks.models import Answer
from benchmarks.sections.shadow import metric, think_time_ms
from benchmarks.tools import ToolMissing, Tools
from benchmarks.trivial_upstream import Answers, Upstream
from conftest import take_free_port
from kingmaker_contracts import package, tensors, wire
from kingmaker_contracts.inference import Tensor
from kingmaker_contracts.profile import Profile, sha256_of


def test_envoy_splits_ninety_to_ten_and_mirrors_only_when_asked() -> None:
    plain = json.loads(proxies.envoy(1, "127.0.0.1:2", "127.0.0.1:3"))
    text = json.dumps(plain)
    assert '"weight": 90' in text and '"weight": 10' in text and "mirror" not in text
    mirrored = json.loads(proxies.envoy(1, "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4"))
    clusters = {cluster["name"]: cluster for cluster in mirrored["static_resources"]["clusters"]}
    assert set(clusters) == {"champion", "challenger", "mirror"}
    assert "circuit_breakers" not in clusters["mirror"]  # Envoy's default stays in force for it
    assert '"request_mirror_policies": [{"cluster": "mirror"}]' in json.dumps(mirrored)


def test_nginx_stays_in_the_foreground_on_loopback_and_writes_only_into_its_folder(tmp_path: Path) -> None:
    text = proxies.nginx(1, tmp_path, "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4")
    assert "daemon off; master_process off;" in text
    assert "listen 127.0.0.1:1 " in text
    assert "mirror /mirror;" in text and "proxy_read_timeout 1s" in text
    assert text.count(str(tmp_path)) == 7
    assert "mirror /mirror" not in proxies.nginx(1, tmp_path, "127.0.0.1:2", "127.0.0.1:3")


class _Transport:
    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data


def _frame(rows: int) -> bytes:
    body, head = tensors.encode_request([Tensor("input", "FP32", np.zeros((rows, 25), np.float32))])
    lines = f"POST /v2/models/m/infer HTTP/1.1\r\nContent-Length: {len(body)}\r\n"
    return f"{lines}Inference-Header-Content-Length: {head}\r\n\r\n".encode() + body


def test_the_trivial_upstream_answers_every_row_of_a_frame_however_it_arrives() -> None:
    answers, transport = Answers("m", 25), _Transport()
    upstream = Upstream(answers)
    upstream.connection_made(transport)  # type: ignore[arg-type]  # a stand-in
    for byte in _frame(3) + _frame(2):
        upstream.data_received(bytes([byte]))
    one_by_one, transport.written = transport.written, b""
    upstream.data_received(_frame(3) + _frame(2))
    assert transport.written == one_by_one
    head, _, rest = one_by_one.partition(b"\r\n\r\n")
    fields = dict(line.split(b": ") for line in head.split(b"\r\n")[1:])
    body = rest[: int(fields[b"content-length"])]
    found = tensors.decode_response(body, int(fields[b"inference-header-content-length"]))
    probabilities = next(tensor for tensor in found.outputs if tensor.name == "probabilities")
    assert probabilities.array.tolist() == [list(CONSTANT)] * 3


def test_the_trivial_upstream_answers_json_like_the_constant_one() -> None:
    assert Answers("m", 25).json.endswith(constant_json("m").encode())
    assert json.loads(constant_json("m"))["outputs"][1]["data"] == list(CONSTANT)


def test_the_model_is_a_package_with_right_answers(tmp_path: Path) -> None:
    model = models.load("gb25", tmp_path)
    manifest = wire.read_json((model.folder / package.MANIFEST).read_bytes(), package.Manifest)
    assert manifest.profile_sha256 == sha256_of(model.profile)
    profile = wire.read_json(model.profile, Profile)
    assert profile.inputs[0].shape == [-1, 25] and profile.onnx_sha256 == manifest.sha256
    requests = [json.loads(body) for body in model.bodies]
    rows = np.array([request["inputs"][0]["data"] for request in requests], np.float32)
    together = onnxruntime.InferenceSession(model.onnx).run(["probabilities"], {"input": rows})[0]
    assert np.abs(together - [[a.first, a.second] for a in model.answers]).max() <= models.TOLERANCE
    assert [request["id"] for request in requests] == [str(n) for n in range(1, models.ROWS + 1)]
    assert len(set(model.answers)) > models.ROWS // 2  # a neighbour's answer would be seen
    built_again = models.load("gb25", tmp_path)
    assert built_again.bodies == model.bodies


def test_the_pool_is_a_lua_table() -> None:
    text = models.pool_text(['{"data":[[1]]}'], [Answer(0.25, 0.75)])
    assert '[==[{"data":[[1]]}]==]' in text
    assert "first={0.25}" in text and "second={0.75}" in text and "tolerance=1e-06" in text


def test_a_missing_tool_says_what_was_tried() -> None:
    with pytest.raises(ToolMissing, match=r"x is missing; `ls /nowhere-at-all` said: .*No such file"):
        tools._run(["ls", "/nowhere-at-all"], "x")
    with pytest.raises(ToolMissing, match="apt-get install wrk"):
        Tools(missing={"wrk": "apt-get install wrk"})["wrk"]


def test_counters_are_summed_over_their_labels() -> None:
    text = '# HELP a_total x\na_total{v="1"} 2.0\na_total{v="2"} 3.0\na_total_created{v="1"} 9.0\nab_total 7.0\n'
    assert metric(text, "a_total") == 5.0
    assert metric(text, "c_total") == 0.0


@pytest.mark.parametrize(("full", "p50", "expected"), [(64000.0, 1.0, 2), (1280.0, 50.0, 75), (1e9, 0.1, 1)])
def test_connections_pause_long_enough_for_half_the_load(full: float, p50: float, expected: int) -> None:
    assert think_time_ms(full, p50) == expected


def test_what_a_tutorial_builds_answers_rightly(tmp_path: Path) -> None:
    model = models.load("gb25", tmp_path)
    environment = {**os.environ, "ONNX": str(model.onnx)}
    peers = [(folders.PEERS / name, take_free_port()) for name in ("plain_fastapi.py", "plain_httpx.py")]
    (server, port), (gateway, front) = peers
    at = f"127.0.0.1:{port}"
    commands = [[server, str(port), model.path], [gateway, str(front), model.path, at, at]]
    running: list[subprocess.Popen[bytes]] = []
    try:
        for command in commands:
            running.append(subprocess.Popen([sys.executable, *map(str, command)], env=environment))
        for number in (0, 7):
            answer = _asked(f"http://127.0.0.1:{front}{model.path}", model.bodies[number])
            assert answer["id"] == str(number + 1)
            expected = model.answers[number]
            assert answer["outputs"][1]["data"] == pytest.approx([expected.first, expected.second], abs=1e-6)
    finally:
        for process in running:
            process.kill()
        for process in running:
            process.wait(30)


def _asked(url: str, body: str) -> Any:
    """Its answer, once it is up."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return httpx.post(url, content=body, headers={"content-type": "application/json"}).raise_for_status().json()
        except (httpx.TransportError, httpx.HTTPStatusError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
