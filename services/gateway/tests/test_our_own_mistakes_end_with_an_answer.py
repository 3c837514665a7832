"""Whatever we got wrong, everybody is told an end, once, and what cannot be recorded is counted."""

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from kingmaker_contracts.routing import Limits
from kingmaker_gateway import runs
from kingmaker_gateway.calls import Calls
from kingmaker_gateway.coalescer import Coalescer
from kingmaker_gateway.hot_path import HotPath
from kingmaker_gateway.ids import Ids
from kingmaker_gateway.recorder import Recorder
from kingmaker_gateway.shadow import Shadow
from kingmaker_gateway.upstream import Upstream
from kingmaker_servicekit.fast_call import Call, Head
from tests.fakes.fake_model_server import Fault
from tests.raw_clients import GOOD, V1, Client, request, together

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Bench, Kit, Pair

V2 = "/v2/models/flights/infer"


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
    hot_path: Any = HotPath(router, models, 10.0)  # type: ignore[arg-type]  # stand-ins
    connection: Any = None
    for round in ((V1, b"bad"), (V2, b"beside")), ((V1, b"next"),):
        for path, body in round:
            call = Call(connection, Head(b"POST", path.encode(), b"", []), body)
            hot_path.route(b"POST", path.encode()).handler(call)
        await asyncio.sleep(0.01)
    assert served == [b"beside", b"next"]


@pytest.mark.parametrize(
    ("step", "is_all"),
    [((Ids, "take"), True), ((Upstream, "leave"), True), ((Upstream, "add"), False)],
    ids=["choosing", "sending", "sending those who may have company"],
)
async def test_requests_that_a_mistake_of_ours_stops_are_told_so_and_give_back_their_places(
    bench: "Bench", pair: "Pair", monkeypatch: pytest.MonkeyPatch, step: tuple[type, str], is_all: bool
) -> None:
    await bench.publish(pair.record(), pair.profiles)

    with monkeypatch.context() as patch:
        patch.setattr(*step, _fails)
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


@pytest.mark.parametrize("failing", [1, 2, 3])
async def test_a_mistake_with_part_of_a_large_request_is_told_once(
    valkey: Any, pair: "Pair", kit: "Kit", monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    """And once to who came with it: they wait in line one after another, and one of them cannot."""
    add, added = Coalescer.add, list[int]()

    def fails_once(coalescer: Coalescer, asks: Any) -> float:
        added.append(len(asks))
        if len(added) == failing:
            raise RuntimeError("a mistake of ours")
        return add(coalescer, asks)

    async with kit.running(kit.settings(valkey.url, upstream={"connections": 1}), valkey.client) as bench:
        limits = Limits(max_frame_rows=2, deadline_ms=60_000)
        await bench.publish(pair.record(limits=limits), pair.profiles)
        with monkeypatch.context() as patch:
            patch.setattr(Coalescer, "add", fails_once)
            large = {"instances": GOOD["instances"] * 5}
            answers = await together(bench, [request(large), request(GOOD)])
        assert all(status in (200, 500, 503) for status, _, _ in answers)
        assert sum(status == 200 for status, _, _ in answers) == (failing > 1)
        for _ in range(4):  # over the same connection, so that what was on its way is over too
            assert (await bench.predict()).status_code == 200
        assert bench.metric("in_flight", model="flights") == 0
        assert bench.metric("events_sent_total", model="flights") == 5 + 1 + 4


async def test_a_variant_whose_requests_cannot_leave_keeps_no_others_here(
    bench: "Bench", pair: "Pair", kit: "Kit", monkeypatch: pytest.MonkeyPatch
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
    valkey: Any, pair: "Pair", kit: "Kit", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where routing changed while they waited, so that one frame is settled state by state."""
    monkeypatch.setattr(runs, "of", _fails)
    async with kit.running(kit.settings(valkey.url, upstream={"connections": 1}), valkey.client) as bench:
        await _answered_across_a_change_of_routing(bench, pair, kit)
        assert bench.metric("events_sent_total", model="flights") == 3
        assert bench.metric("events_dropped_total", model="flights", reason="unencodable") == 3


async def test_a_mistake_in_recording_a_refusal_keeps_nobody_waiting_and_is_counted(
    bench: "Bench", pair: "Pair", monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.publish(pair.record(), pair.profiles)
    monkeypatch.setattr(runs, "of", _fails)
    pair.champion.fault = Fault.HANG
    answers = await together(bench, [request(GOOD, x_kingmaker_timeout_ms="300")] * 3)
    assert [status for status, _, _ in answers] == [504] * 3
    assert bench.metric("in_flight", model="flights") == 0
    assert bench.metric("events_dropped_total", model="flights", reason="unencodable") == 3


async def test_a_mistake_of_the_recorder_costs_nobody_an_answer(
    valkey: Any, pair: "Pair", kit: "Kit", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Recorder, "offer", _fails)
    async with kit.running(kit.settings(valkey.url, upstream={"connections": 1}), valkey.client) as bench:
        await _answered_across_a_change_of_routing(bench, pair, kit)


@pytest.mark.parametrize("timeouts_ms", [(300,), (300, 300), (300, 301)])
async def test_a_mistake_in_sending_is_told_once(
    bench: "Bench", pair: "Pair", monkeypatch: pytest.MonkeyPatch, timeouts_ms: tuple[int, ...]
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
    bench: "Bench", pair: "Pair", kit: "Kit", monkeypatch: pytest.MonkeyPatch
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


async def _answered_across_a_change_of_routing(bench: "Bench", pair: "Pair", kit: "Kit") -> None:
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
