"""The commonest wrong ways in, over real HTTP: each has its status, its code and a text that helps."""

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from kingmaker_contracts.routing import Limits
from tests.fakes.fake_model_server import Fault

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Bench, Kit, Pair

V1 = "/v1/models/flights:predict"
V2 = "/v2/models/flights/infer"


@pytest.mark.parametrize(
    ("path", "body", "text"),
    [
        (V1, b"not json", "not JSON"),
        (V1, b'{"instances": [[NaN, "UA"]]}', "NaN and Infinity are not JSON numbers"),
        (V1, b'{"instances": [[Infinity, "UA"]]}', "NaN and Infinity are not JSON numbers"),
        (V1, b'{"instances": []}', "empty"),
        (V1, b'{"rows": []}', 'no "instances"'),
        (V1, b'{"instances": [["x", "UA"]]}', "'distance', row 0: found the string 'x', expected a number (FP32)"),
        (V1, b'{"instances": [{"distance": 1}]}', "missing input 'carrier'"),
        (V1, b'{"instances": [{"distance": 1, "carrier": "UA", "wings": 2}]}', "unknown input 'wings'"),
        (V1, b'{"instances": [{"distance": null, "carrier": "UA"}]}', "not nullable"),
        (V2, b"{", "not JSON"),
        (V2, b'{"inputs": 7}', "not an inference message"),
        (V2, b'{"inputs": [{"name": "distance", "shape": [2], "datatype": "FP32", "data": [1]}]}', "needs 2 values"),
        (V2, b'{"inputs": [], "parameters": {"timeout": -1}}', "empty"),
    ],
)
async def test_bad_input_is_400_and_named(bench: "Bench", pair: "Pair", path: str, body: bytes, text: str) -> None:
    await bench.publish(pair.record(), pair.profiles)
    answer = await bench.client.post(path, content=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_input")
    assert text in answer.json()["error"]
    assert pair.champion.calls == 0


async def test_ten_megabytes_are_too_many(bench: "Bench", pair: "Pair") -> None:
    await bench.publish(pair.record(), pair.profiles)
    announced = await bench.client.post(V1, content=b" " * 10_000_000)
    assert (announced.status_code, announced.json()["code"]) == (413, "body_too_large")

    async def chunks() -> Any:
        for _ in range(200):
            yield b" " * 50_000

    streamed = await bench.client.post(V1, content=chunks())
    assert (streamed.status_code, streamed.json()["code"]) == (413, "body_too_large")
    assert (await bench.predict()).status_code == 200


async def test_over_the_limit_in_flight_is_429_before_any_work(bench: "Bench", pair: "Pair", kit: "Kit") -> None:
    await bench.publish(pair.record(limits=Limits(max_in_flight=2, deadline_ms=60_000)), pair.profiles)
    pair.champion.fault = Fault.HANG
    waiting = [asyncio.create_task(bench.predict()) for _ in range(2)]
    await kit.until(lambda: pair.champion.calls == 2)
    answer = await bench.predict()
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (429, "too_many_requests", "1")
    assert pair.champion.calls == 2
    assert bench.metric("in_flight", model="flights") == 2
    pair.champion.fault = Fault.NONE
    pair.champion.cut()
    # a kept connection may be tried once more, a fresh one not: either way the request ends and frees its place
    assert {(await task).status_code for task in waiting} <= {200, 503}
    assert bench.metric("in_flight", model="flights") == 0


@pytest.mark.parametrize("way", ["limit", "parameter", "header"])
async def test_a_deadline_that_passes_is_504(bench: "Bench", pair: "Pair", kit: "Kit", way: str) -> None:
    deadline_ms = 150 if way == "limit" else 60_000
    await bench.publish(pair.record(limits=Limits(deadline_ms=deadline_ms)), pair.profiles)
    pair.champion.fault = Fault.HANG
    if way == "parameter":
        inputs = [
            {"name": "distance", "shape": [1], "datatype": "FP32", "data": [1]},
            {"name": "carrier", "shape": [1], "datatype": "BYTES", "data": ["UA"]},
        ]
        answer = await bench.client.post(V2, json={"inputs": inputs, "parameters": {"timeout": 150_000}})
    else:
        answer = await bench.predict(headers={"x-kingmaker-timeout-ms": "150"} if way == "header" else {})
    assert (answer.status_code, answer.json()) == (
        504,
        {"error": "no answer within 150 ms", "code": "deadline_exceeded"},
    )
    assert answer.headers["x-prediction-id"]
    pair.champion.fault = Fault.NONE
    assert (await bench.predict()).status_code == 200


@pytest.mark.parametrize("value", ["0", "-5", "soon", "1.5"])
async def test_a_timeout_that_is_no_number_is_400(bench: "Bench", pair: "Pair", value: str) -> None:
    await bench.publish(pair.record(), pair.profiles)
    answer = await bench.predict(headers={"x-kingmaker-timeout-ms": value})
    assert answer.status_code == 400
    assert "x-kingmaker-timeout-ms" in answer.json()["error"]


@pytest.mark.parametrize(
    "value",
    [0, -5, 1.5, "soon", True, 10**400, -(10**400), [10**400]],
    ids=["nothing", "negative", "a fraction", "a text", "a boolean", "beyond floats", "below floats", "a list"],
)
async def test_a_timeout_parameter_that_is_none_is_400(bench: "Bench", pair: "Pair", value: Any) -> None:
    await bench.publish(pair.record(), pair.profiles)
    inputs = [
        {"name": "distance", "shape": [1, 1], "datatype": "FP32", "data": [1]},
        {"name": "carrier", "shape": [1, 1], "datatype": "BYTES", "data": ["UA"]},
    ]
    answer = await bench.client.post(V2, json={"inputs": inputs, "parameters": {"timeout": value}})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_input")
    assert "parameter timeout" in answer.json()["error"]
    assert len(answer.json()["error"]) < 200


async def test_before_the_champion_is_known_nothing_is_ready(bench: "Bench", pair: "Pair", kit: "Kit") -> None:
    await pair.champion.stop()
    record = pair.record()
    bench.store(record)  # without profiles: the signature must come from the model server, which is away
    await kit.until(lambda: bench.metric("routing_revision", model="flights") == 1)
    answer = await bench.predict()
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "not_ready", "1")
    assert (await bench.client.get("/v2/models/flights/ready")).status_code == 503
    await pair.champion.start()
    await kit.until(bench.is_ready)
    assert (await bench.predict()).status_code == 200


async def test_a_body_that_never_comes_is_given_up(valkey: Any, pair: "Pair", kit: "Kit") -> None:
    async with kit.running(kit.settings(valkey.url, limits={"body_read_ms": 100}), valkey.client) as bench:
        await bench.publish(pair.record(), pair.profiles)
        port = bench.client.base_url.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /v1/models/flights:predict HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        answer = await reader.read()
        writer.close()
        assert b"408" in answer.split(b"\r\n")[0]
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "request_timeout"
        assert bench.metric("in_flight", model="flights") == 0
