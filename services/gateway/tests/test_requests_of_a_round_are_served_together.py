"""Requests that are read in one turn of the event loop share steps and nothing else; heads met before mean what they
meant until routing changes."""

import asyncio
import random
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from kingmaker_contracts.routing import Limits, Sticky
from kingmaker_gateway.hot_path import HotPath
from kingmaker_servicekit.fast_call import Call, Head
from tests.fakes.fake_model_server import Fault
from tests.raw_clients import GOOD, Client, request, together

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Bench, Kit, Pair

V2 = "/v2/models/flights/infer"
TENSORS = {
    "inputs": [
        {"name": "distance", "shape": [1], "datatype": "FP32", "data": [1400]},
        {"name": "carrier", "shape": [1], "datatype": "BYTES", "data": ["UA"]},
    ]
}


async def test_a_round_gets_no_more_places_in_flight_than_there_are(bench: "Bench", pair: "Pair") -> None:
    await bench.publish(pair.record(limits=Limits(max_in_flight=2)), pair.profiles)
    pair.champion.fault, pair.champion.slow_s = Fault.SLOW, 0.3
    answers = await together(bench, [request(GOOD)] * 5)
    assert sorted(status for status, _, _ in answers) == [200, 200, 429, 429, 429]
    refused = [(headers, body) for status, headers, body in answers if status == 429]
    assert all(headers["retry-after"] == "1" and body["code"] == "too_many_requests" for headers, body in refused)
    assert sum(pair.champion.frames) == 2
    assert bench.metric("in_flight", model="flights") == 0
    assert [status for status, _, _ in await together(bench, [request(GOOD)] * 2)] == [200, 200]


async def test_each_of_a_mixed_round_is_told_what_it_is_told_alone(bench: "Bench", pair: "Pair", kit: "Kit") -> None:
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


async def test_requests_of_a_round_travel_together_though_their_heads_differ(bench: "Bench", pair: "Pair") -> None:
    await bench.publish(pair.record(sticky=Sticky("Header", "salt", "x-user")), pair.profiles)
    differing = [
        request(GOOD, x_user=f"user {number}", x_kingmaker_timeout_ms=f"{5000 + number}") for number in range(9)
    ]
    answers = await together(bench, [*differing, request(TENSORS, V2)])
    assert [status for status, _, _ in answers] == [200] * 10
    assert pair.champion.frames == [10]


async def test_a_lower_body_limit_holds_for_heads_met_before(bench: "Bench", pair: "Pair") -> None:
    await bench.publish(pair.record(), pair.profiles)
    client = await Client.to(bench)
    for _ in range(3):
        client.send(request(GOOD))
        assert (await client.answer())[0] == 200
    await bench.publish(pair.record(limits=Limits(max_body_bytes=20), revision=2), pair.profiles)
    client.send(request(GOOD))
    assert (await client.answer())[0] == 413
    client.close()


async def test_a_header_that_becomes_the_sticky_key_counts_in_heads_met_before(bench: "Bench", pair: "Pair") -> None:
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
    valkey: Any, pair: "Pair", kit: "Kit", tmp_path: Path
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
    valkey: Any, pair: "Pair", kit: "Kit", seed: int
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


async def test_long_headers_and_paths_are_served_and_not_kept() -> None:
    served: list[tuple[Any, ...]] = []

    def answer(name: str, wish: Any, calls: list[Call], is_all: bool) -> None:
        assert is_all
        served.extend((name, wish.headers["x-kingmaker-variant"], call.body) for call in calls)

    router, models = (
        SimpleNamespace(answer=answer, flush=lambda: None),
        SimpleNamespace(get=lambda _: None, watch=lambda _: None),
    )
    hot_path: Any = HotPath(router, models, 10.0)  # type: ignore[arg-type]  # stand-ins
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
