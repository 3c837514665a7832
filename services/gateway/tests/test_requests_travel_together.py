"""Coalescing over real connections: who shares a frame, and that nobody suffers for a neighbour."""

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from kingmaker_contracts.routing import Limits
from tests.fakes.fake_model_server import FakeModelServer, Fault, score_of

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Kit, Pair


def row(number: int) -> dict[str, Any]:
    return {"distance": number, "carrier": "UA"}


class Picky(FakeModelServer):
    """Refuses any frame with a row of distance 13, whoever else is in it."""

    def _respond(self, call: Any, rows: int) -> Any:
        if 13 in call.inputs[0].array:
            raise ConnectionError("thirteen")
        return super()._respond(call, rows)


async def test_while_the_connections_are_busy_requests_share_a_frame(valkey: Any, pair: "Pair", kit: "Kit") -> None:
    async with kit.running(kit.settings(valkey.url, upstream={"connections": 1}), valkey.client) as bench:
        await bench.publish(pair.record(limits=Limits(max_frame_rows=8)), pair.profiles)
        pair.champion.fault, pair.champion.slow_s = Fault.SLOW, 0.2
        first = asyncio.create_task(bench.predict([row(0)]))
        await kit.until(lambda: pair.champion.calls == 1)
        rest = [asyncio.create_task(bench.predict([row(i), row(i + 100)])) for i in range(1, 6)]
        answers = [await task for task in (first, *rest)]
        assert sum(pair.champion.frames) == 11
        assert pair.champion.frames[0] == 1
        assert max(pair.champion.frames) == 8
        for number, answer in enumerate(answers):
            found = [r["probabilities"][1] for r in answer.json()["predictions"]]
            assert found == pytest.approx([score_of([n, 2], 1.0) for n in ([number, number + 100] if number else [0])])


async def test_a_row_that_breaks_the_model_costs_its_neighbours_nothing(valkey: Any, pair: "Pair", kit: "Kit") -> None:
    async with (
        Picky(kit.champion_inputs, bias=1.0, name="lr-upstream") as picky,
        kit.running(kit.settings(valkey.url, upstream={"connections": 1}), valkey.client) as bench,
    ):
        record = pair.record()
        lr, gbm = record.variants
        record = msgspec.structs.replace(record, variants=[msgspec.structs.replace(lr, endpoints=[picky.address]), gbm])
        await bench.publish(record, pair.profiles)
        answers = await asyncio.gather(*(bench.predict([row(number)]) for number in range(30)))
        assert [answer.status_code for answer in answers] == [503 if n == 13 else 200 for n in range(30)]
        assert answers[13].json()["code"] == "upstream_failed"


async def test_in_a_shared_frame_only_the_impatient_is_late(valkey: Any, pair: "Pair", kit: "Kit") -> None:
    async with kit.running(kit.settings(valkey.url, upstream={"connections": 1}), valkey.client) as bench:
        await bench.publish(pair.record(limits=Limits(deadline_ms=5000)), pair.profiles)
        pair.champion.fault, pair.champion.slow_s = Fault.SLOW, 0.8
        first = asyncio.create_task(bench.predict([row(0)]))
        await kit.until(lambda: pair.champion.calls == 1)
        hasty = asyncio.create_task(bench.predict([row(1)], headers={"x-kingmaker-timeout-ms": "1200"}))
        patient = asyncio.create_task(bench.predict([row(2)]))
        assert [(await task).status_code for task in (first, hasty, patient)] == [200, 504, 200]
        assert pair.champion.frames == [1, 2]
        await kit.until(lambda: sum(b.count for b in bench.batches()) == 3)
        stored = [(int(s), b.features[0][i]) for b in bench.batches() for i, s in enumerate(b.columns["status"])]
        assert sorted(stored) == [(200, 0.0), (200, 2.0), (504, 1.0)]
        assert bench.metric("upstream_abandoned_total", model="flights", variant="lr") == 1


async def test_only_the_outputs_asked_for_are_picked_from_a_shared_frame(valkey: Any, pair: "Pair", kit: "Kit") -> None:
    async with kit.running(kit.settings(valkey.url, upstream={"connections": 1}), valkey.client) as bench:
        await bench.publish(pair.record(), pair.profiles)
        pair.champion.fault, pair.champion.slow_s = Fault.SLOW, 0.2
        first = asyncio.create_task(bench.predict())
        await kit.until(lambda: pair.champion.calls == 1)

        async def ask(*names: str) -> list[str]:
            inputs = [
                {"name": "distance", "shape": [1], "datatype": "FP32", "data": [1]},
                {"name": "carrier", "shape": [1], "datatype": "BYTES", "data": ["UA"]},
            ]
            body = {"inputs": inputs, "outputs": [{"name": name} for name in names]}
            answer = await bench.client.post("/v2/models/flights/infer", json=body)
            return [output["name"] for output in answer.json()["outputs"]]

        found = [*await asyncio.gather(ask("label"), ask("probabilities", "label"), ask("probabilities"))]
        assert found == [["label"], ["probabilities", "label"], ["probabilities"]]
        assert (await first).status_code == 200
        assert pair.champion.frames == [1, 3]


async def test_a_shadow_gets_the_champion_s_frame_and_loses_none(valkey: Any, pair: "Pair", kit: "Kit") -> None:
    async with kit.running(kit.settings(valkey.url), valkey.client) as bench:
        await bench.publish(pair.record(mirror=100, mode="Shadow"), pair.profiles)
        await bench.challenger_is_up("gbm")
        rows = [{**row(number), "gain": number / 4} for number in range(60)]
        answers = await asyncio.gather(*(bench.predict([one]) for one in rows))
        assert {answer.headers["x-variant"] for answer in answers} == {"lr"}
        await kit.until(lambda: sum(b.count for b in bench.batches()) == 120)
        lives = {bytes(i): b for b in bench.batches() if b.variant == "lr" for i in b.columns["id"]}
        copies = [
            (bytes(i), b, at) for b in bench.batches() if b.variant == "gbm" for at, i in enumerate(b.columns["id"])
        ]
        assert {id for id, _, _ in copies} == set(lives)
        for _, batch, at in copies:
            distance, _, gain = batch.features[:, at].tolist()
            assert batch.columns["score"][at] == pytest.approx(score_of([distance, 2, gain], 7.0))
            assert batch.columns["status"][at] == 200
        assert sum(pair.challenger.frames) == 60


async def test_a_server_is_told_how_long_the_most_patient_of_a_frame_waits(
    valkey: Any, pair: "Pair", kit: "Kit"
) -> None:
    async with kit.running(kit.settings(valkey.url, upstream={"connections": 1}), valkey.client) as bench:
        await bench.publish(pair.record(limits=Limits(deadline_ms=20_000)), pair.profiles)
        await bench.predict([row(0)], headers={"x-kingmaker-timeout-ms": "6000"})
        pair.champion.fault, pair.champion.slow_s = Fault.SLOW, 0.2
        busy = asyncio.create_task(bench.predict([row(1)]))
        await kit.until(lambda: pair.champion.calls == 2)
        patience = ("5000", "15000", "7000")
        joined = [bench.predict([row(n)], headers={"x-kingmaker-timeout-ms": ms}) for n, ms in enumerate(patience)]
        assert [answer.status_code for answer in await asyncio.gather(busy, *joined)] == [200] * 4
        assert pair.champion.frames == [1, 1, 3]
        # rounded up to a power of two
        assert pair.champion.seen_timeouts == ["8192", "32768", "16384"]
