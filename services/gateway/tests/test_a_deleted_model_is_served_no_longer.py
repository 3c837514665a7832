"""A withdrawal takes a model away; a record that is merely gone does not."""

import asyncio
from typing import TYPE_CHECKING

import pytest

from kingmaker_contracts import keys, wire
from kingmaker_contracts.routing import Withdrawal
from kingmaker_gateway.snapshot import SnapshotFile
from tests.fakes.fake_model_server import Fault

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from services.gateway.tests.conftest import Bench, Kit, Pair

FLIGHTS = ("default", "flights")


def delete(bench: "Bench", epoch: int = 1, said: bytes | None = None) -> None:
    """As the controller does it, in its order."""
    bench.redis.delete(keys.routing(*FLIGHTS), keys.plan(*FLIGHTS))
    bench.redis.set(keys.withdrawal(*FLIGHTS), said or wire.write_json(Withdrawal(*FLIGHTS, epoch)), ex=60)
    bench.redis.srem(keys.MODELS, keys.model_id(*FLIGHTS))
    bench.redis.publish(keys.ROUTING_CHANNEL, keys.model_id(*FLIGHTS))


async def status_of(bench: "Bench", kit: "Kit") -> int:
    return (await bench.predict([kit.full_row])).status_code


async def looks_again(bench: "Bench", kit: "Kit") -> None:
    """A look that began since has ended: the next one has the index read when this is back."""
    for _ in range(2):
        await kit.until(lambda: bench.metric("routing_age_seconds") < 0.05)
        await kit.until(lambda: bench.metric("routing_age_seconds") > 0.1)


async def is_gone(bench: "Bench") -> bool:
    return (await bench.client.get("/v2/models/flights")).status_code == 404


async def test_a_deleted_model_is_unknown_and_leaves_no_metric_of_how_it_is(
    bench: "Bench", pair: "Pair", kit: "Kit"
) -> None:
    await bench.publish(pair.record(mirror=100), pair.profiles)
    await bench.challenger_is_up("gbm")
    delete(bench)
    await kit.until(lambda: is_gone(bench))
    assert await status_of(bench, kit) == 404
    listed = (await bench.client.get("/v1/models")).json()
    assert listed == {"models": []}
    told = {metric.name for metric in bench.registry.collect() for sample in metric.samples
            if sample.labels.get("model") == "flights" and metric.type == "gauge"}  # fmt: skip
    assert told == set()


async def test_a_model_that_is_made_again_is_served_again(bench: "Bench", pair: "Pair", kit: "Kit") -> None:
    await bench.publish(pair.record(revision=7), pair.profiles)
    delete(bench)
    await kit.until(lambda: is_gone(bench))
    await bench.publish(pair.record(revision=1), pair.profiles)
    assert await status_of(bench, kit) == 200


async def test_who_waits_for_an_answer_gets_it(bench: "Bench", pair: "Pair", kit: "Kit") -> None:
    await bench.publish(pair.record(), pair.profiles)
    pair.champion.fault, pair.champion.slow_s = Fault.SLOW, 1.0
    calls = pair.champion.calls
    waiting = asyncio.create_task(bench.predict([kit.full_row]))
    await kit.until(lambda: pair.champion.calls > calls)
    delete(bench)
    await kit.until(lambda: is_gone(bench))
    assert not waiting.done()
    assert (await waiting).status_code == 200


@pytest.mark.parametrize(("epoch", "said"), [(1, None), (9, b"\xff"), (9, b'{"epoch": 9}')])
async def test_the_withdrawal_of_a_former_leader_or_one_that_cannot_be_read_takes_nothing_away(
    bench: "Bench", pair: "Pair", kit: "Kit", epoch: int, said: bytes | None
) -> None:
    await bench.publish(pair.record(epoch=2), pair.profiles)
    delete(bench, epoch, said)
    await looks_again(bench, kit)
    assert await status_of(bench, kit) == 200
    assert bench.metric("background_errors_total", loop="routes") == 0


async def test_a_withdrawal_of_another_type_takes_nothing_away(bench: "Bench", pair: "Pair", kit: "Kit") -> None:
    await bench.publish(pair.record(), pair.profiles)
    bench.redis.hset(keys.withdrawal(*FLIGHTS), "epoch", "1")
    bench.redis.srem(keys.MODELS, keys.model_id(*FLIGHTS))
    await looks_again(bench, kit)
    assert await status_of(bench, kit) == 200


async def test_a_deleted_model_leaves_the_snapshot(valkey: "Any", pair: "Pair", kit: "Kit", tmp_path: "Path") -> None:
    file = tmp_path / "snapshot.json"
    async with kit.running(kit.settings(valkey.url, snapshot_file=file), valkey.client) as bench:
        await bench.publish(pair.record(), pair.profiles)

        def kept() -> int:
            snapshot = SnapshotFile(file).load()
            return -1 if snapshot is None else len(snapshot.records) + len(snapshot.profiles)

        await kit.until(lambda: kept() > 0)
        delete(bench)
        await kit.until(lambda: kept() == 0)
