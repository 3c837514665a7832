"""A challenger that fails in any way costs the client nothing; a champion that fails is a clear error."""

import asyncio
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from kingmaker_contracts.routing import Limits
from kingmaker_gateway.upstream import Upstream
from tests.fakes.fake_model_server import Fault

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Bench, Kit, Pair

FAULTS = [f for f in Fault if f is not Fault.NONE]


@pytest.mark.parametrize("fault", [*FAULTS, "refuse"])
async def test_the_champion_answers_for_a_failing_challenger(
    bench: "Bench", pair: "Pair", kit: "Kit", fault: Any
) -> None:
    pair.challenger.slow_s = 30
    await bench.publish(pair.record(ranges="gbm:0-9999", limits=Limits(deadline_ms=2000)), pair.profiles)
    await bench.challenger_is_up("gbm")
    if fault == "refuse":
        await pair.challenger.stop()
    else:
        pair.challenger.fault = fault
    answer = await bench.predict([kit.full_row])
    assert answer.status_code == 200
    assert (answer.headers["x-variant"], answer.headers["x-route-reason"]) == ("lr", "fallback")
    assert bench.metric("fallbacks_total", model="flights", variant="gbm") == 1


async def test_a_sick_challenger_is_taken_to_zero_and_comes_back(valkey: Any, pair: "Pair", kit: "Kit") -> None:
    breaker = {"failures": 3, "open_ms": 300, "probes": 2}
    async with kit.running(kit.settings(valkey.url, breaker=breaker), valkey.client) as bench:
        await bench.publish(pair.record(ranges="gbm:0-9999"), pair.profiles)
        await bench.challenger_is_up("gbm")
        pair.challenger.fault = Fault.ERROR
        for _ in range(3):
            assert (await bench.predict([kit.full_row])).headers["x-route-reason"] == "fallback"
        assert bench.metric("breaker_state", model="flights", variant="gbm") == 2
        opened = time.monotonic()
        calls = pair.challenger.calls
        answers = [await bench.predict([kit.full_row]) for _ in range(5)]
        if time.monotonic() - opened < 0.25:
            assert pair.challenger.calls == calls
        assert {a.headers["x-route-reason"] for a in answers} == {"fallback"}
        pair.challenger.fault = Fault.NONE

        async def recovered() -> bool:
            return (await bench.predict([kit.full_row])).headers["x-variant"] == "gbm"

        await kit.until(recovered)
        await bench.predict([kit.full_row])
        assert bench.metric("breaker_state", model="flights", variant="gbm") == 0


@pytest.mark.parametrize("ranges", ["gbm:0-9999", "gbm:0-4999"], ids=["all are its", "half are the champion's"])
async def test_requests_of_one_moment_send_a_sick_challenger_one_probe(
    valkey: Any, pair: "Pair", kit: "Kit", ranges: str
) -> None:
    breaker = {"failures": 1, "open_ms": 1, "probes": 1}
    async with kit.running(kit.settings(valkey.url, breaker=breaker), valkey.client) as bench:
        await bench.publish(pair.record(ranges=ranges, limits=Limits(deadline_ms=2000)), pair.profiles)
        await bench.challenger_is_up("gbm")
        pair.challenger.fault = Fault.ERROR
        while not pair.challenger.calls:
            await bench.predict([kit.full_row])
        opened = time.monotonic()
        await kit.until(lambda: time.monotonic() > opened + 0.02)
        pair.challenger.fault, rows = Fault.HANG, sum(pair.challenger.frames)
        host, port = bench.client.base_url.host, bench.client.base_url.port
        body = msgspec.json.encode({"instances": [kit.full_row]})
        head = b"POST /v1/models/flights:predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
        clients = [await asyncio.open_connection(host, port) for _ in range(32)]
        for _, writer in clients:  # all before the gateway, in the same event loop, can read one
            writer.write(head + body)
        async with asyncio.timeout(20):
            answers = [await reader.readuntil(b"\r\n\r\n") for reader, _ in clients]
        for _, writer in clients:
            writer.close()
        assert all(b"x-variant: lr" in answer for answer in answers)
        reasons = {answer.partition(b"x-route-reason: ")[2].split()[0] for answer in answers}
        assert reasons == ({b"fallback"} if ranges.endswith("9999") else {b"fallback", b"weight"})
        assert sum(pair.challenger.frames) == rows + 1


async def test_a_probe_that_a_mistake_of_ours_stops_is_not_the_last(
    valkey: Any, pair: "Pair", kit: "Kit", monkeypatch: pytest.MonkeyPatch
) -> None:
    breaker = {"failures": 1, "open_ms": 1, "probes": 1}
    async with kit.running(kit.settings(valkey.url, breaker=breaker), valkey.client) as bench:
        await bench.publish(pair.record(ranges="gbm:0-9999"), pair.profiles)
        await bench.challenger_is_up("gbm")
        pair.challenger.fault = Fault.ERROR
        assert (await bench.predict([kit.full_row])).headers["x-route-reason"] == "fallback"
        pair.challenger.fault = Fault.NONE
        opened = time.monotonic()
        await kit.until(lambda: time.monotonic() > opened + 0.02)

        def fails(*_: Any) -> None:
            raise RuntimeError("a mistake of ours")

        with monkeypatch.context() as patch:
            patch.setattr(Upstream, "leave", fails)
            assert (await bench.predict([kit.full_row])).status_code == 500
        answer = await bench.predict([kit.full_row])
        assert answer.headers["x-variant"] == "gbm"
        assert bench.metric("breaker_state", model="flights", variant="gbm") == 0


async def test_hurried_clients_take_no_challenger_out_for_the_others(valkey: Any, pair: "Pair", kit: "Kit") -> None:
    async with kit.running(kit.settings(valkey.url, breaker={"failures": 3}), valkey.client) as bench:
        await bench.publish(pair.record(ranges="gbm:0-9999", limits=Limits(deadline_ms=300)), pair.profiles)
        await bench.challenger_is_up("gbm")
        pair.challenger.fault = Fault.HANG
        for _ in range(5):
            await bench.predict([kit.full_row], headers={"x-kingmaker-timeout-ms": "40"})
        assert bench.metric("breaker_state", model="flights", variant="gbm") == 0
        for _ in range(3):
            await bench.predict([kit.full_row])
        assert bench.metric("breaker_state", model="flights", variant="gbm") == 2


@pytest.mark.parametrize(
    ("fault", "status", "code"), [(Fault.ERROR, 503, "upstream_failed"), (Fault.HANG, 504, "deadline_exceeded")]
)
async def test_a_chosen_variant_is_not_replaced(
    bench: "Bench", pair: "Pair", kit: "Kit", fault: Fault, status: int, code: str
) -> None:
    await bench.publish(pair.record(limits=Limits(deadline_ms=1000)), pair.profiles)
    await bench.challenger_is_up("gbm")
    pair.challenger.fault = fault
    answer = await bench.predict([kit.full_row], headers={"x-kingmaker-variant": "gbm"})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["x-variant"] == "gbm"
    assert pair.champion.calls == 0


@pytest.mark.parametrize("fault", [f for f in FAULTS if f not in (Fault.SLOW, Fault.HANG)])
async def test_a_failing_champion_is_503_and_garbage_never_gets_out(bench: "Bench", pair: "Pair", fault: Fault) -> None:
    await bench.publish(pair.record(), pair.profiles)
    pair.champion.fault = fault
    answer = await bench.predict()
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "upstream_failed", "1")
    pair.champion.fault = Fault.NONE
    assert (await bench.predict()).status_code == 200


async def test_a_champion_that_is_away_is_503_until_it_is_back(bench: "Bench", pair: "Pair", kit: "Kit") -> None:
    await bench.publish(pair.record(), pair.profiles)
    assert (await bench.predict()).status_code == 200
    await pair.champion.stop()
    assert (await bench.predict()).status_code == 503
    await pair.champion.start()

    async def answers() -> bool:
        return (await bench.predict()).status_code == 200

    await kit.until(answers)


async def test_a_hung_shadow_costs_nothing_and_what_it_misses_is_counted(valkey: Any, pair: "Pair", kit: "Kit") -> None:
    shadow = {"queue_size": 3, "connections": 2, "timeout_ms": 60_000, "gather_ms": 0}
    async with kit.running(kit.settings(valkey.url, shadow=shadow), valkey.client) as bench:
        await bench.publish(pair.record(mirror=100, mode="Shadow"), pair.profiles)
        pair.challenger.fault = Fault.HANG
        answers = [await bench.predict([kit.full_row]) for _ in range(20)]
        assert {a.status_code for a in answers} == {200}
        assert {a.headers["x-variant"] for a in answers} == {"lr"}
        await kit.until(lambda: pair.challenger.calls == 2)
        labels = {"model": "flights", "variant": "gbm"}
        assert bench.metric("shadow_sent_total", **labels) == 2
        assert bench.metric("shadow_dropped_total", **labels) == 20 - 2 - 3
        assert bench.metric("breaker_state", **labels) == 0


async def test_a_shadow_sees_what_the_champion_answered(bench: "Bench", pair: "Pair", kit: "Kit") -> None:
    await bench.publish(pair.record(mirror=100, mode="Shadow"), pair.profiles)
    await bench.challenger_is_up("gbm")
    answer = await bench.predict([kit.full_row, {**kit.full_row, "gain": None}])
    await bench.predict([kit.row])  # lacks the challenger's input: no copy
    await kit.until(lambda: sum(b.count for b in bench.batches()) == 5)
    copies = [b for b in bench.batches() if b.variant == "gbm"]
    lives = [b for b in bench.batches() if b.variant == "lr"]
    [copy] = copies
    assert copy.count == 2
    assert copy.role == "challenger"
    assert set(copy.columns["reason"]) == {5}
    assert set(copy.columns["assigned"]) == {0}
    id_bytes = answer.headers["x-prediction-id"].replace("-", "")
    assert {bytes(i).hex() for i in copy.columns["id"]} == {id_bytes}
    assert id_bytes in {bytes(i).hex() for b in lives for i in b.columns["id"]}
    assert set(lives[0].columns["reason"]) == {0}


async def test_a_challenger_that_answered_live_gets_no_copy(bench: "Bench", pair: "Pair", kit: "Kit") -> None:
    await bench.publish(pair.record(mirror=100, ranges="gbm:0-9999"), pair.profiles)
    await bench.challenger_is_up("gbm")
    for _ in range(5):
        assert (await bench.predict([kit.full_row])).headers["x-variant"] == "gbm"
    pair.challenger.fault = Fault.ERROR
    assert (await bench.predict([kit.full_row])).headers["x-route-reason"] == "fallback"
    await kit.until(lambda: sum(b.count for b in bench.batches()) == 6)
    assert pair.challenger.calls == 6
    assert bench.metric("shadow_sent_total", model="flights", variant="gbm") == 0


async def test_many_requests_to_a_dead_champion_are_refused_at_once(bench: "Bench", pair: "Pair", kit: "Kit") -> None:
    await bench.publish(pair.record(limits=Limits(deadline_ms=20_000)), pair.profiles)
    await pair.champion.stop()
    for _ in range(3):
        answers = await asyncio.gather(*(bench.predict() for _ in range(50)))
        assert {answer.status_code for answer in answers} == {503}  # and none waited for its deadline
