"""The HTTP client towards model servers: few connections, reused, renewed, shared fairly; frames joined in order."""

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from kingmaker_contracts.routing import Limits
from tests.fakes.fake_model_server import FakeModelServer, Fault, score_of

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Bench, Kit, Pair


async def test_many_requests_use_few_connections(valkey: Any, pair: "Pair", kit: "Kit") -> None:
    async with kit.running(kit.settings(valkey.url, upstream={"connections": 3}), valkey.client) as bench:
        await bench.publish(pair.record(), pair.profiles)
        pair.champion.fault, pair.champion.slow_s = Fault.SLOW, 0.02
        answers = await asyncio.gather(*(bench.predict() for _ in range(40)))
        assert {a.status_code for a in answers} == {200}
        assert pair.champion.rows == 40
        assert pair.champion.calls < 40  # while all connections are busy, requests travel together
        assert pair.champion.connections <= 3


async def test_a_connection_the_server_closed_is_renewed_unseen(bench: "Bench", pair: "Pair") -> None:
    await bench.publish(pair.record(), pair.profiles)
    for _ in range(10):
        assert (await bench.predict()).status_code == 200
        pair.champion.cut()


async def test_a_large_batch_travels_in_frames_and_comes_back_in_order(
    bench: "Bench", pair: "Pair", kit: "Kit"
) -> None:
    await bench.publish(pair.record(limits=Limits(max_frame_rows=64)), pair.profiles)
    rows = [{"distance": i, "carrier": "UA"} for i in range(200)]
    answer = await bench.predict(rows)
    assert pair.champion.frames == [64, 64, 64, 8]
    found = [row["probabilities"][1] for row in answer.json()["predictions"]]
    assert found == pytest.approx([score_of([i, 2], 1.0) for i in range(200)])


async def test_each_caller_gets_its_own_rows_back(bench: "Bench", pair: "Pair") -> None:
    await bench.publish(pair.record(), pair.profiles)

    async def check(number: int) -> None:
        answer = await bench.predict([{"distance": number, "carrier": "UA"}])
        assert answer.json()["predictions"][0]["probabilities"][1] == pytest.approx(score_of([number, 2], 1.0))

    await asyncio.gather(*(check(i) for i in range(100)))


async def test_two_endpoints_share_the_load_and_one_may_die(bench: "Bench", pair: "Pair", kit: "Kit") -> None:
    async with FakeModelServer(kit.champion_inputs, bias=1.0, name="lr-upstream") as second:
        record = pair.record()
        both = [pair.champion.address, second.address]
        lr, gbm = record.variants
        import msgspec

        record = msgspec.structs.replace(record, variants=[msgspec.structs.replace(lr, endpoints=both), gbm])
        await bench.publish(record, pair.profiles)
        await kit.until(lambda: pair.champion.connections > 0 and second.connections > 0)
        for _ in range(40):
            assert (await bench.predict()).status_code == 200
        assert pair.champion.calls > 0
        assert second.calls > 0
        await second.stop()
        codes = [(await bench.predict()).status_code for _ in range(20)]
        assert codes == [200] * 20
        # the endpoint leaves the record
        bench.store(msgspec.structs.replace(record, revision=2, variants=[lr, gbm]))
        await kit.until(lambda: bench.metric("routing_revision", model="flights") == 2)
        assert (await bench.predict()).status_code == 200


async def test_a_slow_answer_after_its_time_is_never_given_to_another(bench: "Bench", pair: "Pair") -> None:
    await bench.publish(pair.record(), pair.profiles)
    pair.champion.fault, pair.champion.slow_s = Fault.SLOW, 0.2
    late = await bench.predict([{"distance": 1, "carrier": "UA"}], headers={"x-kingmaker-timeout-ms": "50"})
    assert late.status_code == 504
    pair.champion.fault = Fault.NONE
    for number in range(20):
        answer = await bench.predict([{"distance": number, "carrier": "UA"}])
        assert answer.json()["predictions"][0]["probabilities"][1] == pytest.approx(score_of([number, 2], 1.0))
    assert bench.metric("upstream_abandoned_total", model="flights", variant="lr") == 1
