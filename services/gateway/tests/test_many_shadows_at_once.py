"""Several shadows beside a canary, each with its own percent and its own trouble, and clients that notice nothing."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pytest

from kingmaker_contracts import prediction_ids
from kingmaker_contracts.labels import REASONS
from kingmaker_gateway import split
from tests.fakes.fake_model_server import FakeModelServer, Fault, score_of

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Kit, Pair

SHADOW = REASONS.index("shadow")
SETTINGS = {"queue_size": 16, "connections": 2, "timeout_ms": 500}


@pytest.fixture
async def court(valkey: Any, pair: "Pair", kit: "Kit") -> AsyncIterator[SimpleNamespace]:
    """Champion lr, canary gbm, and shadows s0, s1, ... as many as a test asks for."""
    async with AsyncExitStack() as stack:
        bench = await stack.enter_async_context(kit.running(kit.settings(valkey.url, shadow=SETTINGS), valkey.client))
        shadows: list[FakeModelServer] = []

        async def open_with(*percents: int, revision: int = 1, **changes: Any) -> None:
            while len(shadows) < len(percents):
                server = FakeModelServer(kit.champion_inputs, bias=20.0 + len(shadows), name=f"s{len(shadows)}")
                shadows.append(await stack.enter_async_context(server))
            variants = [
                kit.variant(server, server.name, mirror=percent, sha=kit.sha(pair.profiles[0]))
                for server, percent in zip(shadows, percents, strict=True)
            ]
            record = pair.record(revision=revision, **changes)
            await bench.publish(msgspec.structs.replace(record, variants=[*record.variants, *variants]), pair.profiles)
            await kit.until(lambda: all(server.connections > 0 for server in shadows))

        def count(name: str, shadow: str) -> float:
            return float(bench.metric(f"shadow_{name}_total", model="flights", variant=shadow))

        yield SimpleNamespace(bench=bench, shadows=shadows, open=open_with, count=count, pair=pair)


async def test_each_shadow_gets_its_own_sample(court: SimpleNamespace, kit: "Kit") -> None:
    """The sample is a property of the prediction's id, so it can be checked to the last copy."""
    await court.open(100, 30, 5, 0, ranges="gbm:0-1999")
    await court.bench.challenger_is_up("gbm")
    answers = [await court.bench.predict([kit.full_row]) for _ in range(200)]
    by_champion = [a.headers["x-prediction-id"] for a in answers if a.headers["x-variant"] == "lr"]
    assert 0 < len(by_champion) < 200
    wanted = {
        f"s{at}": {id for id in by_champion if split.is_mirrored("default/flights", f"s{at}", percent, id.encode())}
        for at, percent in enumerate((100, 30, 5, 0))
    }
    total = 200 + sum(len(ids) for ids in wanted.values())
    await kit.until(lambda: sum(b.count for b in court.bench.batches()) == total)
    for at, server in enumerate(court.shadows):
        batches = [b for b in court.bench.batches() if b.variant == server.name]
        assert {prediction_ids.text(bytes(id)) for b in batches for id in b.columns["id"]} == wanted[server.name]
        assert all(set(b.columns["reason"]) == {SHADOW} for b in batches)
        assert all(s == pytest.approx(score_of([1400, 2], 20.0 + at)) for b in batches for s in b.columns["score"])
        assert server.rows == court.count("sent", server.name) == len(wanted[server.name])
    assert wanted["s0"] == set(by_champion)
    assert wanted["s3"] == set()
    assert len(wanted["s1"] & wanted["s2"]) < len(wanted["s2"]) or not wanted["s2"]


TROUBLES = [fault for fault in Fault if fault is not Fault.NONE]


async def test_every_kind_of_trouble_at_once_touches_no_answer(court: SimpleNamespace, kit: "Kit") -> None:
    """One shadow for each fault, a dead one and a healthy one, under load: every champion's answer is right."""
    await court.open(*[100] * (len(TROUBLES) + 2))
    *sick, dead, healthy = court.shadows
    for server, fault in zip(sick, TROUBLES, strict=True):
        server.fault, server.slow_s = fault, 0.3
    await dead.stop()

    numbers = itertools.count()

    async def ask(client: httpx.AsyncClient) -> None:
        for _ in range(40):
            number = next(numbers)
            body = {"instances": [{"distance": number, "carrier": "UA"}]}
            answer = await client.post("/v1/models/flights:predict", json=body)
            assert answer.status_code == 200
            assert (answer.headers["x-variant"], answer.headers["x-route-reason"]) == ("lr", "weight")
            found = answer.json()["predictions"][0]["probabilities"][1]
            assert found == pytest.approx(score_of([number, 2], 1.0))

    async with AsyncExitStack() as stack:
        url = court.bench.client.base_url
        clients = [await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=10)) for _ in range(8)]
        await asyncio.gather(*(ask(client) for client in clients))
    total = next(numbers)

    def is_accounted_for(name: str) -> bool:
        return bool(court.count("sent", name) + court.count("dropped", name) == total)

    for server in court.shadows:  # nothing is lost without a word
        await kit.until(partial(is_accounted_for, server.name))
    await kit.until(lambda: court.count("failed", dead.name) + court.count("dropped", dead.name) == total)
    # a machine that is busy enough makes even the healthy one late at times, but never always
    assert court.count("failed", healthy.name) < court.count("sent", healthy.name)
    for server in sick:
        assert court.count("failed", server.name) + court.count("dropped", server.name) > 0
        assert court.bench.metric("breaker_state", model="flights", variant=server.name) == 0


async def test_a_shadow_that_is_withdrawn_under_load_loses_no_copy_uncounted(
    court: SimpleNamespace, kit: "Kit"
) -> None:
    await court.open(100)
    [shadow] = court.shadows
    shadow.fault = Fault.HANG
    answers = await asyncio.gather(*(court.bench.predict() for _ in range(30)))
    assert {answer.status_code for answer in answers} == {200}
    await kit.until(lambda: shadow.calls > 0)
    await court.open(0, revision=2)
    await kit.until(lambda: court.count("sent", "s0") + court.count("dropped", "s0") == 30)
    await kit.until(lambda: court.count("failed", "s0") == court.count("sent", "s0") > 0)
    assert (await court.bench.predict()).status_code == 200


async def test_a_copy_offered_to_a_shadow_that_is_closed_is_counted(court: SimpleNamespace, kit: "Kit") -> None:
    """A request that was routed before the shadow left is answered after it."""
    await court.open(100)
    court.pair.champion.fault, court.pair.champion.slow_s = Fault.SLOW, 0.3
    calls = court.pair.champion.calls
    asked = asyncio.create_task(court.bench.predict())
    await kit.until(lambda: court.pair.champion.calls > calls)
    gone = msgspec.structs.replace(court.pair.record(revision=2))  # the variant itself leaves
    await court.bench.publish(gone)
    assert (await asked).status_code == 200
    assert court.count("dropped", "s0") == 1


async def test_copies_tried_again_alone_do_not_upset_the_accounts(valkey: Any, pair: "Pair", kit: "Kit") -> None:
    """They may be more than the queue holds; what is offered meanwhile is dropped once, and counted once."""
    own = {"queue_size": 2, "connections": 1}
    settings = kit.settings(valkey.url, shadow=own, upstream={"connections": 1})
    async with kit.running(settings, valkey.client) as bench:
        await bench.publish(pair.record(mirror=100), pair.profiles)
        await bench.challenger_is_up("gbm")
        pair.champion.fault, pair.champion.slow_s = Fault.SLOW, 0.1
        answer, refused = pair.challenger._infer, []

        async def answer_lone_rows(writer: asyncio.StreamWriter, headers: Any, body: bytes) -> None:
            await asyncio.sleep(0.02)
            if b'"shape":[1,' in body:
                await answer(writer, headers, body)
            else:
                refused.append(body)
                pair.challenger._send(writer, 500, b"{}")

        pair.challenger._infer = answer_lone_rows  # type: ignore[method-assign]
        for _ in range(4):
            await asyncio.gather(*(bench.predict([kit.full_row]) for _ in range(30)))
        labels = {"model": "flights", "variant": "gbm"}

        def copies() -> tuple[float, float]:
            sent, dropped = (bench.metric(f"shadow_{name}_total", **labels) for name in ("sent", "dropped"))
            return sent, dropped

        await kit.until(lambda: sum(copies()) >= 120)  # those to be tried again stand before others that wait
        await kit.until(lambda: bench.metric("events_buffered") == 0)
        assert sum(copies()) == 120
        assert copies()[1] > 0
        assert refused
