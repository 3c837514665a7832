"""One table of requests through the protocol's own way in and through plain ASGI: the same answers."""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from kingmaker_contracts import tensors
from kingmaker_contracts.inference import Tensor
from kingmaker_contracts.routing import Limits

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Kit, Pair

V1 = "/v1/models/flights:predict"
V2 = "/v2/models/flights/infer"
ROW = {"distance": 1400, "carrier": "UA"}
FULL = {**ROW, "gain": 2.5}
_ID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
_COMPARED = (
    "content-type",
    "www-authenticate",
    "x-variant",
    "x-model-version",
    "x-route-reason",
    "retry-after",
    "allow",
)


def v2(rows: int = 1, **more: Any) -> bytes:
    inputs = [
        {"name": "distance", "shape": [rows, 1], "datatype": "FP32", "data": [1400.5 + i for i in range(rows)]},
        {"name": "carrier", "shape": [rows, 1], "datatype": "BYTES", "data": ["UA"] * rows},
    ]
    return json.dumps({"inputs": inputs, **more}).encode()


def v1(*rows: Any) -> bytes:
    return json.dumps({"instances": list(rows)}).encode()


def binary() -> tuple[bytes, str]:
    carrier = np.array(["UA"], object)
    body, head = tensors.encode_request(
        [Tensor("distance", "FP32", np.array([[1400]], "<f4")), Tensor("carrier", "BYTES", carrier)]
    )
    return body, str(head)


BINARY_BODY, HEAD = binary()
TABLE: list[tuple[str, str, bytes, dict[str, str]]] = [
    ("POST", V1, v1(ROW), {}),
    ("POST", V1, v1([1400, "UA"], [3, "AA"]), {}),
    ("POST", V1, v1(FULL, {**FULL, "gain": None}), {}),
    ("POST", V1, v1({"distance": 1}), {}),
    ("POST", V1, b"", {}),
    ("POST", V1, b"{", {}),
    ("POST", V1 + "?verbose=1", v1(ROW), {}),
    ("POST", "/v1/models/fl%69ghts:predict", v1(ROW), {}),
    ("POST", "/v1/models/fl%2fights:predict", v1(ROW), {}),
    ("POST", "/v1/models/nobody:predict", v1(ROW), {}),
    ("POST", "/v1/models/flights:predict/", v1(ROW), {}),
    ("GET", V1, b"", {}),
    ("OPTIONS", V2, b"", {}),
    ("HEAD", V2, b"", {}),
    ("POST", V2, v2(), {}),
    ("POST", V2, v2(3, id="mine"), {}),
    ("POST", V2, v2(2, outputs=[{"name": "label"}]), {}),
    ("POST", V2, v2(2, outputs=[{"name": "probabilities", "parameters": {"binary_data": True}}]), {}),
    ("POST", V2, v2(1, outputs=[{"name": "nope"}]), {}),
    ("POST", V2, v2(1, parameters={"timeout": 0}), {}),
    ("POST", V2, v2(1, parameters=None), {}),
    ("POST", V2, v2(1, parameters=None, outputs=[{"name": "label", "parameters": None}]), {}),
    ("POST", V2, BINARY_BODY, {"inference-header-content-length": HEAD}),
    ("POST", V2, BINARY_BODY, {"Inference-Header-Content-Length": "99999"}),
    ("POST", V2, BINARY_BODY, {"inference-header-content-length": "0"}),
    ("POST", V2, BINARY_BODY, {"content-type": "application/octet-stream"}),
    ("POST", V2, v2(), {"content-type": "application/octet-stream"}),
    ("POST", "/v1/models/flights:explain", v1(ROW), {}),
    ("POST", V2, BINARY_BODY, {"inference-header-content-length": "-1"}),
    ("POST", "/v2/models/flights/versions/gbm/infer", v2(), {}),
    ("POST", "/v2/models/flights/versions/lr/infer", v2(), {}),
    ("POST", "/v2/models/flights/versions/nobody/infer", v2(), {}),
    ("POST", V2, v2(), {"X-Kingmaker-Variant": "lr"}),
    ("POST", V2, v2(), {"x-kingmaker-timeout-ms": "soon"}),
    ("POST", V1, v1(ROW, 7), {}),
    ("POST", V1, b" " * 300_000, {}),
    ("POST", V1, v1(*[{**ROW, "distance": i} for i in range(700)]), {}),
]


TOKEN = "a-token-long-enough"
KNOWN = {"authorization": f"Bearer {TOKEN}"}
WHO: list[tuple[int, dict[str, str]]] = [
    (200, KNOWN),
    (200, {"Authorization": f"bearer  {TOKEN}"}),
    (401, {}),
    (401, {"authorization": ""}),
    (401, {"authorization": "Bearer"}),
    (401, {"authorization": TOKEN}),
    (401, {"authorization": f"Basic {TOKEN}"}),
    (401, {"authorization": f"Bearer {TOKEN[:-1]}"}),
    (401, {"authorization": f"Bearer {TOKEN}x"}),
    (401, {"authorization": "Bearer a-label-token-long-enough"}),
    (401, {"x-authorization": f"Bearer {TOKEN}"}),
]


@pytest.fixture
async def ways(valkey: Any, pair: "Pair", kit: "Kit") -> AsyncIterator[list[Any]]:
    record = pair.record(limits=Limits(max_body_bytes=200_000))
    async with (
        kit.running(kit.settings(valkey.url, hot_path=True), valkey.client) as fast,
        kit.running(kit.settings(valkey.url, hot_path=False, partition=1), valkey.client) as plain,
    ):
        await fast.publish(record, pair.profiles)
        await plain.publish(record, pair.profiles)
        for bench in (fast, plain):
            await bench.challenger_is_up("gbm")
        yield [fast, plain]


async def test_every_line_of_the_table(ways: list[Any]) -> None:
    for method, path, body, headers in TABLE:
        found = []
        for bench in ways:
            answer = await bench.client.request(method, path, content=body, headers=headers)
            kept = {name: answer.headers.get(name) for name in _COMPARED}
            length = answer.headers.get("inference-header-content-length")
            found.append((answer.status_code, kept, length, _ID.sub(b"<id>", answer.content)))
        assert found[0] == found[1], (method, path, body[:80])
        assert found[0][0] != 500


async def test_a_chunked_body_is_read_either_way(ways: list[Any]) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for byte in v1(ROW):
            yield bytes([byte])

    answers = [await bench.client.post(V1, content=chunks()) for bench in ways]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].content == answers[1].content


async def test_both_are_counted_alike(ways: list[Any]) -> None:
    for bench in ways:
        for body in (v1(ROW), v1(ROW), b"{", b" " * 300_000):
            await bench.client.post(V1, content=body)
        await bench.client.post("/v1/models/nobody:predict", content=v1(ROW))
        assert bench.metric("requests_total", model="flights", variant="lr", code="200") == 2
        assert bench.metric("requests_total", model="flights", variant="", code="400") == 1
        assert bench.metric("requests_total", model="flights", variant="", code="413") == 1
        assert bench.metric("requests_total", model="", variant="", code="404") == 1
        assert bench.metric("request_duration_seconds_count", model="flights", variant="lr") == 2
        assert bench.metric("rejected_total", code="body_too_large") == 1
        assert bench.metric("in_flight", model="flights") == 0


@pytest.fixture
async def guarded_ways(valkey: Any, pair: "Pair", kit: "Kit", tmp_path: Path) -> AsyncIterator[list[Any]]:
    (tmp_path / "tokens").write_text(f"# clients\n\nshop:{TOKEN}\n")
    auth = {"predict_tokens_file": tmp_path / "tokens"}
    async with (
        kit.running(kit.settings(valkey.url, hot_path=True, auth=auth), valkey.client) as fast,
        kit.running(kit.settings(valkey.url, hot_path=False, partition=1, auth=auth), valkey.client) as plain,
    ):
        for bench in (fast, plain):
            await bench.publish(pair.record(), pair.profiles)
        yield [fast, plain]


async def test_either_way_asks_for_the_same_token(guarded_ways: list[Any]) -> None:
    for path, body in ((V1, v1(ROW)), (V2, v2()), ("/v1/models/nobody:predict", v1(ROW)), (V1, b"{")):
        for status, headers in WHO:
            found = []
            for bench in guarded_ways:
                answer = await bench.client.post(path, content=body, headers=headers)
                kept = {name: answer.headers.get(name) for name in _COMPARED}
                found.append((answer.status_code, kept, _ID.sub(b"<id>", answer.content)))
            assert found[0] == found[1], (path, headers)
            assert (found[0][0] == 401) == (status == 401), (path, headers)
            assert found[0][1]["www-authenticate"] == ("Bearer" if status == 401 else None)
            assert (b'"code":"unauthorized"' in found[0][2]) == (status == 401)


async def test_either_way_counts_who_was_refused(guarded_ways: list[Any]) -> None:
    for bench in guarded_ways:
        for headers in ({}, {"authorization": "Bearer nobody-knows-this-one"}, KNOWN):
            await bench.client.post(V1, content=v1(ROW), headers=headers)
        assert bench.metric("rejected_total", code="unauthorized") == 2
        assert bench.metric("requests_total", model="", variant="", code="401") == 2
        assert bench.metric("requests_total", model="flights", variant="lr", code="200") == 1
        assert bench.metric("in_flight", model="flights") == 0
