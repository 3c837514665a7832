"""Requests that are read in one turn of the event loop share steps and nothing else; heads met before mean what they
meant until routing changes."""

import asyncio
import json
import random
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kingmaker_contracts.routing import Limits, Sticky
from kingmaker_gateway import runs
from kingmaker_gateway.calls import Calls
from kingmaker_gateway.hot_path import HotPath
from kingmaker_gateway.ids import Ids
from kingmaker_gateway.recorder import Recorder
from kingmaker_gateway.shadow import Shadow
from kingmaker_gateway.upstream import Upstream
from kingmaker_servicekit.fast_call import Call, Head
from tests.fakes.fake_model_server import Fault

V1 = "/v1/models/flights:predict"
V2 = "/v2/models/flights/infer"
GOOD = {"instances": [{"distance": 1400, "carrier": "UA"}]}
TENSORS = {
    "inputs": [
        {"name": "distance", "shape": [1], "datatype": "FP32", "data": [1400]},
        {"name": "carrier", "shape": [1], "datatype": "BYTES", "data": ["UA"]},
    ]
}


def request(body: Any, path: str = V1, **headers: str) -> bytes:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "host: x", "content-type: application/json", f"content-length: {len(raw)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + raw


class Client:
    """One connection, spoken to byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, bench: Any) -> "Client":
        url = bench.client.base_url
        return cls(*await asyncio.open_connection(url.host, url.port))

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        """Status, headers and body."""
        async with asyncio.timeout(10):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.split(": ", 1) for line in head[1:-2])
            body = json.loads(await self._reader.readexactly(int(headers["content-length"])))
        return int(head[0].split()[1]), headers, body

    def has_nothing_more(self) -> bool:
        return not self._reader._buffer  # type: ignore[attr-defined]

    def close(self) -> None:
        self._writer.close()


async def together(bench: Any, requests: list[bytes]) -> list[tuple[int, dict[str, str], Any]]:
    """Their answers, each sent over a connection of its own before the gateway has read the first."""
    clients = [await Client.to(bench) for _ in requests]
    try:
        for client, data in zip(clients, requests, strict=True):
            client.send(data)
        return [await client.answer() for client in clients]
    finally:
        for client in clients:
            client.close()


async def test_a_round_gets_no_more_places_in_flight_than_there_are(bench: Any, pair: Any) -> None:
    await bench.publish(pair.record(limits=Limits(max_in_flight=2)), pair.profiles)
    pair.champion.fault, pair.champion.slow_s = Fault.SLOW, 0.3
    answers = await together(bench, [request(GOOD)] * 5)
    assert sorted(status for status, _, _ in answers) == [200, 200, 429, 429, 429]
    refused = [(headers, body) for status, headers, body in answers if status == 429]
    assert all(headers["retry-after"] == "1" and body["code"] == "too_many_requests" for headers, body in refused)
    assert sum(pair.champion.frames) == 2
    assert bench.metric("in_flight", model="flights") == 0
    assert [status for status, _, _ in await together(bench, [request(GOOD)] * 2)] == [200, 200]


async def test_each_of_a_mixed_round_is_told_what_it_is_told_alone(bench: Any, pair: Any, kit: SimpleNamespace) -> None:
    await bench.publish(pair.record(ranges="gbm:0-9999", sticky=Sticky("Feature", "salt", "carrier")), pair.profiles)
    await bench.challenger_is_up("gbm")
    requests = [
        request(GOOD),
        request(GOOD, x_kingmaker_variant="gbm"),
        request(GOOD, x_kingmaker_variant="lr"),
        request(GOOD, x_kingmaker_variant="nobody"),
        request(GOOD, x_kingmaker_timeout_ms="soon"),
        request({"instances": [kit.full_row, kit.full_row]}),
        request({"instances": [{"distance": 1, "carrier": "UA"}, {"distance": 1, "carrier": "AA"}]}),  # two keys
        request({"instances": [{"distance": "far", "carrier": "UA"}]}),
        request({"instances": [{"distance": 2, "carrier": "AA"}, {"distance": 3, "carrier": "AA"}]}),
        request(b"{"),
        request(TENSORS, V2),
        request({**TENSORS, "id": "mine"}, V2),
        request({**TENSORS, "outputs": [{"name": "probabilities"}]}, V2),
        request({**TENSORS, "outputs": [{"name": "nothing"}]}, V2),
        request(TENSORS, "/v2/models/flights/versions/lr/infer"),
        request(GOOD, "/v1/models/nobody:predict"),
    ]

    def told(answer: tuple[int, dict[str, str], Any]) -> Any:
        status, headers, body = answer
        if body.get("id") not in (None, "mine"):
            body["id"] = "its own"
        kept = {name: value for name, value in headers.items() if name not in ("date", "x-prediction-id")}
        return status, kept, body

    alone = [told(answer) for data in requests for answer in await together(bench, [data])]
    assert {status for status, _, _ in alone} == {200, 400, 404}
    for order in (requests, requests[::-1], requests * 3):
        answers = await together(bench, order)
        expected = dict(zip(requests, alone, strict=True))
        assert [told(answer) for answer in answers] == [expected[data] for data in order]
        ids = [headers["x-prediction-id"] for _, headers, _ in answers if "x-prediction-id" in headers]
        assert len(set(ids)) == len(ids) >= len(order) // 2
    assert bench.metric("in_flight", model="flights") == 0


async def test_requests_of_a_round_travel_together_though_their_heads_differ(bench: Any, pair: Any) -> None:
    await bench.publish(pair.record(sticky=Sticky("Header", "salt", "x-user")), pair.profiles)
    differing = [
        request(GOOD, x_user=f"user {number}", x_kingmaker_timeout_ms=f"{5000 + number}") for number in range(9)
    ]
    answers = await together(bench, [*differing, request(TENSORS, V2)])
    assert [status for status, _, _ in answers] == [200] * 10
    assert pair.champion.frames == [10]


async def test_a_lower_body_limit_holds_for_heads_met_before(bench: Any, pair: Any) -> None:
    await bench.publish(pair.record(), pair.profiles)
    client = await Client.to(bench)
    for _ in range(3):
        client.send(request(GOOD))
        assert (await client.answer())[0] == 200
    await bench.publish(pair.record(limits=Limits(max_body_bytes=20), revision=2), pair.profiles)
    client.send(request(GOOD))
    assert (await client.answer())[0] == 413
    client.close()


async def test_a_header_that_becomes_the_sticky_key_counts_in_heads_met_before(bench: Any, pair: Any) -> None:
    await bench.publish(pair.record(), pair.profiles)
    client = await Client.to(bench)

    async def reason() -> str:
        client.send(request(GOOD, x_user="anna"))
        _, headers, _ = await client.answer()
        return headers["x-route-reason"]

    assert [await reason() for _ in range(3)] == ["weight"] * 3
    await bench.publish(pair.record(sticky=Sticky("Header", "salt", "X-User"), revision=2), pair.profiles)
    assert [await reason() for _ in range(3)] == ["sticky"] * 3
    client.close()


async def test_a_token_that_was_taken_back_counts_in_heads_met_before(
    valkey: Any, pair: Any, kit: SimpleNamespace, tmp_path: Path
) -> None:
    file = tmp_path / "tokens"
    file.write_text("shop:first-token-of-shop\n")
    settings = kit.settings(valkey.url, auth={"predict_tokens_file": file})
    async with kit.running(settings, valkey.client) as bench:
        await bench.publish(pair.record(), pair.profiles)
        client = await Client.to(bench)

        async def status() -> int:
            client.send(request(GOOD, authorization="Bearer first-token-of-shop"))
            return (await client.answer())[0]

        assert [await status() for _ in range(4)] == [200] * 4
        file.write_text("shop:second-token-of-shop\n")

        async def is_refused() -> bool:
            return await status() == 401

        await kit.until(is_refused)
        client.close()


@pytest.mark.parametrize("seed", range(4))
async def test_everybody_is_answered_once_whatever_the_servers_do(
    valkey: Any, pair: Any, kit: SimpleNamespace, seed: int
) -> None:
    dice = random.Random(seed)
    settings = kit.settings(
        valkey.url, breaker={"failures": 2, "open_ms": 20, "probes": 1}, upstream={"connections": 2, "eject_ms": 20}
    )
    limits = Limits(deadline_ms=150, max_frame_rows=4)
    async with kit.running(settings, valkey.client) as bench:
        await bench.publish(pair.record(ranges="gbm:0-4999", limits=limits, mirror=50), pair.profiles)
        await bench.challenger_is_up("gbm")
        clients = [await Client.to(bench) for _ in range(24)]
        for _ in range(25):
            for server in (pair.champion, pair.challenger):
                server.fault = dice.choice([Fault.NONE, Fault.NONE, *Fault])
                server.slow_s = 0.02
            asked = dice.sample(clients, dice.randint(1, len(clients)))
            for client in asked:
                rows = {"instances": [kit.full_row] * dice.choice([1, 1, 1, 2, 6])}
                hurry = {"x_kingmaker_timeout_ms": "30"} if dice.random() < 0.2 else {}
                client.send(request(rows, **hurry))
            for client in asked:
                status, headers, _ = await client.answer()
                assert status in (200, 503, 504)
                assert headers["x-prediction-id"]
        for client in clients:
            assert client.has_nothing_more()
            client.close()
        assert bench.metric("in_flight", model="flights") == 0


async def test_a_mistake_with_some_costs_neither_the_others_of_their_round_nor_those_to_come() -> None:
    served: list[bytes] = []

    def answer(_: str, __: Any, calls: list[Call], ___: bool) -> None:
        bodies = [call.body for call in calls]
        if b"bad" in bodies:
            raise RuntimeError("a mistake of ours")
        served.extend(bodies)

    router, models = (
        SimpleNamespace(answer=answer, flush=lambda: None),
        SimpleNamespace(get=lambda _: None, watch=lambda _: None),
    )
    hot_path: Any = HotPath(router, models, 10.0)  # type: ignore[arg-type]
    connection: Any = None
    for round in ((V1, b"bad"), (V2, b"beside")), ((V1, b"next"),):
        for path, body in round:
            call = Call(connection, Head(b"POST", path.encode(), b"", []), body)
            hot_path.route(b"POST", path.encode()).handler(call)
        await asyncio.sleep(0.01)
    assert served == [b"beside", b"next"]


async def test_long_headers_and_paths_are_served_and_not_kept() -> None:
    served: list[tuple[Any, ...]] = []

    def answer(name: str, wish: Any, calls: list[Call], is_all: bool) -> None:
        assert is_all
        served.extend((name, wish.headers["x-kingmaker-variant"], call.body) for call in calls)

    router, models = (
        SimpleNamespace(answer=answer, flush=lambda: None),
        SimpleNamespace(get=lambda _: None, watch=lambda _: None),
    )
    hot_path: Any = HotPath(router, models, 10.0)  # type: ignore[arg-type]
    connection: Any = None
    tracemalloc.start()
    try:
        for number in range(200):
            name, variant = f"{number:05000}" if number % 2 else "flights", f"{number:05000}"
            path = f"/v1/models/{name}:predict".encode()
            head = Head(b"POST", path, b"", [(b"x-kingmaker-variant", variant.encode())])
            hot_path.route(b"POST", path).handler(Call(connection, head, b"rows"))
            await asyncio.sleep(0.001)
            assert served.pop() == (name, variant, b"rows")
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 250_000


@pytest.mark.parametrize(
    ("step", "is_all"),
    [((Ids, "take"), True), ((Upstream, "leave"), True), ((Upstream, "add"), False)],
    ids=["choosing", "sending", "sending those who may have company"],
)
async def test_requests_that_a_mistake_of_ours_stops_are_told_so_and_give_back_their_places(
    bench: Any, pair: Any, monkeypatch: pytest.MonkeyPatch, step: tuple[type, str], is_all: bool
) -> None:
    await bench.publish(pair.record(), pair.profiles)

    def fails(*_: Any) -> None:
        raise RuntimeError("a mistake of ours")

    with monkeypatch.context() as patch:
        patch.setattr(*step, fails)
        wishes = [{} if is_all else {"x_kingmaker_timeout_ms": f"{ms}"} for ms in (1000, 1001, 1002)]
        bodies = (GOOD, {"instances": ["bad"]}, GOOD)
        answers = await together(bench, [request(body, **wish) for body, wish in zip(bodies, wishes, strict=True)])
    assert [(status, body["code"]) for status, _, body in answers] == [
        (500, "internal"),
        (400, "bad_input"),
        (500, "internal"),
    ]
    assert bench.metric("in_flight", model="flights") == 0
    assert [status for status, _, _ in await together(bench, [request(GOOD)] * 2)] == [200, 200]


async def test_a_variant_whose_requests_cannot_leave_keeps_no_others_here(
    bench: Any, pair: Any, kit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.publish(pair.record(), pair.profiles)
    await bench.challenger_is_up("gbm")
    leave, tried = Upstream.flush, list[Upstream]()

    def fails_first(upstream: Upstream) -> None:
        tried.append(upstream)
        if len(tried) == 1:
            raise RuntimeError("a mistake of ours")
        leave(upstream)

    first, second = await Client.to(bench), await Client.to(bench)
    body = {"instances": [kit.full_row]}
    with monkeypatch.context() as patch:
        patch.setattr(Upstream, "flush", fails_first)
        first.send(request(body, x_kingmaker_timeout_ms="500"))
        second.send(request(body, x_kingmaker_variant="gbm"))
        answers = [await client.answer() for client in (second, first)]
    assert [status for status, _, _ in answers] == [200, 504]
    assert len(tried) == 2
    assert bench.metric("in_flight", model="flights") == 0
    first.close()
    second.close()


async def test_a_mistake_in_recording_some_costs_nobody_an_answer_and_is_counted(
    valkey: Any, pair: Any, kit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where routing changed while they waited, so that one frame is settled state by state."""
    monkeypatch.setattr(runs, "of", _fails)
    async with kit.running(kit.settings(valkey.url, upstream={"connections": 1}), valkey.client) as bench:
        await _answered_across_a_change_of_routing(bench, pair, kit)
        assert bench.metric("events_sent_total", model="flights") == 3
        assert bench.metric("events_dropped_total", model="flights", reason="unencodable") == 3


async def test_a_mistake_in_recording_a_refusal_keeps_nobody_waiting_and_is_counted(
    bench: Any, pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.publish(pair.record(), pair.profiles)
    monkeypatch.setattr(runs, "of", _fails)
    pair.champion.fault = Fault.HANG
    answers = await together(bench, [request(GOOD, x_kingmaker_timeout_ms="300")] * 3)
    assert [status for status, _, _ in answers] == [504] * 3
    assert bench.metric("in_flight", model="flights") == 0
    assert bench.metric("events_dropped_total", model="flights", reason="unencodable") == 3


async def test_a_mistake_of_the_recorder_costs_nobody_an_answer(
    valkey: Any, pair: Any, kit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recorder, "offer", _fails)
    async with kit.running(kit.settings(valkey.url, upstream={"connections": 1}), valkey.client) as bench:
        await _answered_across_a_change_of_routing(bench, pair, kit)


@pytest.mark.parametrize("timeouts_ms", [(300,), (300, 300), (300, 301)])
async def test_a_mistake_in_sending_is_told_once(
    bench: Any, pair: Any, monkeypatch: pytest.MonkeyPatch, timeouts_ms: tuple[int, ...]
) -> None:
    """Who is on the way already is told when the time is up, and only then."""
    await bench.publish(pair.record(), pair.profiles)
    with monkeypatch.context() as patch:
        patch.setattr(Calls, "infer", _fails)
        answers = await together(bench, [request(GOOD, x_kingmaker_timeout_ms=f"{ms}") for ms in timeouts_ms])
    assert [status for status, _, _ in answers] == [504] * len(timeouts_ms)
    assert bench.metric("in_flight", model="flights") == 0
    assert bench.metric("events_sent_total", model="flights") == len(timeouts_ms)
    assert [status for status, _, _ in await together(bench, [request(GOOD)] * 2)] == [200, 200]


async def test_a_mistake_in_copying_some_costs_neither_their_answer_nor_their_record(
    bench: Any, pair: Any, kit: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.publish(pair.record(mirror=100), pair.profiles)
    await bench.challenger_is_up("gbm")
    monkeypatch.setattr(Shadow, "offer", _fails)
    assert [status for status, _, _ in await together(bench, [request(GOOD)] * 3)] == [200] * 3
    assert bench.metric("in_flight", model="flights") == 0
    await kit.until(lambda: bench.metric("events_buffered") == 0)
    assert sum(batch.count for batch in bench.batches()) == 3


def _fails(*_: Any) -> None:
    raise RuntimeError("a mistake of ours")


async def _answered_across_a_change_of_routing(bench: Any, pair: Any, kit: SimpleNamespace) -> None:
    """Three requests, of which two share a frame though routing changed between them."""
    await bench.publish(pair.record(), pair.profiles)
    pair.champion.fault, pair.champion.slow_s = Fault.SLOW, 1.0
    clients = [await Client.to(bench) for _ in range(3)]
    for revision, client in enumerate(clients, 1):
        client.send(request(GOOD))
        await kit.until(lambda: bench.metric("in_flight", model="flights") == revision)  # noqa: B023 - at once
        if revision == 2:
            await bench.publish(pair.record(revision=2, epoch=2), [])
    assert [status for status, _, _ in [await client.answer() for client in clients]] == [200, 200, 200]
    assert pair.champion.frames == [1, 2]
    assert bench.metric("in_flight", model="flights") == 0
    for client in clients:
        client.close()
