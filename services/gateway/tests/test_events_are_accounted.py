"""What the recorder writes, and that every row is stored or counted as dropped, whatever Redis does."""

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from kingmaker_contracts import buckets, keys
from kingmaker_contracts.acks import GatewayAck
from kingmaker_contracts.routing import Limits, Sticky
from tests.fakes.fake_model_server import Fault, score_of

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Bench, Kit, Pair


async def rows_stored(bench: "Bench", kit: "Kit", count: int) -> list[Any]:
    await kit.until(lambda: sum(b.count for b in bench.batches()) >= count)
    return list(bench.batches())


async def test_a_prediction_is_stored_with_everything_the_monitor_needs(
    bench: "Bench", pair: "Pair", kit: "Kit"
) -> None:
    sticky = Sticky("Header", "default/flights", "x-user")
    await bench.publish(pair.record(ranges="gbm:0-9999", sticky=sticky, revision=7), pair.profiles)
    await bench.challenger_is_up("gbm")
    rows = [{**kit.full_row, "carrier": "ZZ"}, {**kit.full_row, "gain": None}]
    answer = await bench.predict(rows, headers={"x-user": "u1"})
    [batch] = await rows_stored(bench, kit, 2)
    assert (batch.variant, batch.version, batch.role, batch.revision, batch.rollout) == (
        "gbm",
        "4",
        "challenger",
        7,
        "r1",
    )
    assert batch.variants == ["lr", "gbm"]
    assert batch.schema == kit.sha(pair.profiles[1])
    assert (batch.seq, batch.sent, batch.dropped) == (1, 0, 0)
    columns = {name: column.tolist() for name, column in batch.columns.items() if name != "id"}
    scores = [np.float32(score_of([1400, 2, 2.5], 7.0)), np.float32(score_of([1400, 2, 0], 7.0))]
    assert columns["row"] == [0, 1]
    assert columns["assigned"] == [1, 1]
    assert columns["reason"] == [1, 1]  # sticky
    assert columns["eligible"] == [1, 1]
    assert columns["key_hash"] == [buckets.key_hash("u1")] * 2
    assert columns["status"] == [200, 200]
    assert columns["score"] == pytest.approx(scores)
    assert columns["label"] == [int(s >= 0.5) for s in scores]
    assert 0 < columns["latency"][0] < 5_000_000
    assert {bytes(i).hex() for i in batch.columns["id"]} == {answer.headers["x-prediction-id"].replace("-", "")}
    # distance, carrier (AA, UA known; ZZ is the first unseen), gain
    assert batch.unseen == {"carrier": ["ZZ"]}
    assert np.array_equal(batch.features, np.array([[1400, 1400], [2, 1], [2.5, np.nan]], np.float32), equal_nan=True)


async def test_the_partition_is_in_the_id_and_in_the_stream_s_name(valkey: Any, pair: "Pair", kit: "Kit") -> None:
    async with kit.running(kit.settings(valkey.url, partition=9), valkey.client) as bench:
        await bench.publish(pair.record(), pair.profiles)
        answer = await bench.predict()
        assert answer.headers["x-prediction-id"].endswith("09")
        await kit.until(lambda: len(bench.batches(9)) == 1)
        assert bench.batches(0) == []


async def test_errors_and_fallbacks_are_events_too(bench: "Bench", pair: "Pair", kit: "Kit") -> None:
    await bench.publish(pair.record(ranges="gbm:0-9999", limits=Limits(deadline_ms=1500)), pair.profiles)
    await bench.challenger_is_up("gbm")
    pair.challenger.fault = Fault.ERROR
    await bench.predict([kit.full_row])
    pair.champion.fault = Fault.ERROR
    await bench.predict([kit.full_row])
    pair.champion.fault = Fault.HANG
    await bench.predict([kit.row])
    batches = await rows_stored(bench, kit, 3)
    found = [
        (b.variant, *(int(b.columns[c][i]) for c in ("assigned", "reason", "eligible", "status", "label")))
        for b in batches
        for i in range(b.count)
    ]
    label = int(score_of([1400, 2], 1.0) >= 0.5)
    assert found == [("lr", 1, 3, 1, 200, label), ("lr", 1, 3, 1, 503, 255), ("lr", 1, 4, 0, 504, 255)]
    assert all(
        np.isnan(b.columns["score"][i]) for b in batches for i in range(b.count) if b.columns["status"][i] != 200
    )


async def test_bad_input_is_no_event(bench: "Bench", pair: "Pair", kit: "Kit") -> None:
    await bench.publish(pair.record(), pair.profiles)
    await bench.predict([{"distance": 1}])
    await bench.predict()
    [batch] = await rows_stored(bench, kit, 1)
    assert batch.count == 1


def read_ack(client: Any) -> GatewayAck | None:
    raw = client.get(keys.gateway("gw-test"))
    return None if raw is None else msgspec.json.decode(raw, type=GatewayAck)


async def test_the_gateway_tells_its_accounts_and_the_routing_it_applied(
    bench: "Bench", pair: "Pair", kit: "Kit"
) -> None:
    await bench.publish(pair.record(revision=5, epoch=2), pair.profiles)
    for _ in range(3):
        await bench.predict()

    def told() -> bool:
        ack = read_ack(bench.redis)
        return ack is not None and "default/flights" in ack.accounts and ack.accounts["default/flights"].sent == 3

    await kit.until(told)
    ack = read_ack(bench.redis)
    assert ack is not None
    assert (ack.revisions, ack.epochs) == ({"default/flights": 5}, {"default/flights": 2})
    assert ack.namespace == "default", "a controller of another namespace in the same Redis must not wait for it"
    assert 0 < bench.redis.ttl(keys.gateway("gw-test")) <= 60


def check_account(batches: list[Any], ack: GatewayAck) -> None:
    """stored = sent - dropped, each sequence number once, and headers that agree with what came before."""
    account = ack.accounts["default/flights"]
    stored = {b.seq: b for b in batches}
    assert sorted(stored) == list(range(1, account.last_seq + 1))
    assert sum(b.count for b in stored.values()) == account.sent - account.dropped == account.written
    before = 0
    for _, batch in sorted(stored.items()):
        assert batch.sent - batch.dropped == before
        before += batch.count
    assert {b.producer for b in batches} == {ack.producer}


async def test_what_redis_misses_while_it_is_away_is_written_when_it_is_back(
    own_valkey: Any, pair: "Pair", kit: "Kit"
) -> None:
    async with kit.running(kit.settings(own_valkey.url), own_valkey.client) as bench:
        await bench.publish(pair.record(), pair.profiles)
        for _ in range(10):
            assert (await bench.predict()).status_code == 200
        await rows_stored(bench, kit, 10)
        own_valkey.stop()
        for _ in range(10):
            assert (await bench.predict()).status_code == 200
        await kit.until(lambda: bench.metric("redis_up") == 0)
        own_valkey.start()
        await rows_stored(bench, kit, 20)
        assert (await bench.predict()).status_code == 200
    ack = read_ack(own_valkey.client)
    assert ack is not None
    assert ack.accounts["default/flights"].sent == 21
    assert ack.accounts["default/flights"].dropped == 0
    check_account(kit.batches(own_valkey.client), ack)
    assert own_valkey.client.ttl(keys.gateway("gw-test")) > 3000


async def test_a_full_buffer_drops_the_newest_rows_and_counts_them(own_valkey: Any, pair: "Pair", kit: "Kit") -> None:
    recorder = {"flush_ms": 20, "buffer_rows": 10}
    async with kit.running(kit.settings(own_valkey.url, recorder=recorder), own_valkey.client) as bench:
        await bench.publish(pair.record(), pair.profiles)
        await bench.predict()
        await rows_stored(bench, kit, 1)
        own_valkey.stop()
        await kit.until(lambda: bench.metric("redis_up") == 0)
        for _ in range(8):
            assert (await bench.predict([kit.row] * 3)).status_code == 200
        dropped = bench.metric("events_dropped_total", model="flights", reason="buffer_full")
        assert dropped == 15
        assert bench.metric("events_buffered") == 9
        own_valkey.start()
        await rows_stored(bench, kit, 10)
        await bench.predict()
    ack = read_ack(own_valkey.client)
    assert ack is not None
    assert (ack.accounts["default/flights"].sent, ack.accounts["default/flights"].dropped) == (26, 15)
    check_account(kit.batches(own_valkey.client), ack)


async def test_the_final_flush_takes_everything_along(valkey: Any, pair: "Pair", kit: "Kit") -> None:
    recorder = {"flush_ms": 60_000}
    async with kit.running(kit.settings(valkey.url, recorder=recorder), valkey.client) as bench:
        await bench.publish(pair.record(), pair.profiles)
        for _ in range(5):
            await bench.predict()
        assert bench.batches() == []
    ack = read_ack(valkey.client)
    assert ack is not None
    check_account(kit.batches(valkey.client), ack)
    assert sum(b.count for b in kit.batches(valkey.client)) == 5


async def test_a_batch_has_no_more_rows_than_allowed(valkey: Any, pair: "Pair", kit: "Kit") -> None:
    recorder = {"flush_ms": 60_000, "batch_rows": 10}
    async with kit.running(kit.settings(valkey.url, recorder=recorder), valkey.client) as bench:
        await bench.publish(pair.record(), pair.profiles)
        for _ in range(8):
            await bench.predict([kit.row] * 4)
        await kit.until(lambda: sum(b.count for b in bench.batches()) >= 24)  # a full batch does not wait for the clock
    assert [b.count for b in kit.batches(valkey.client)] == [8, 4, 8, 4, 8] or all(
        b.count <= 10 for b in kit.batches(valkey.client)
    )
    assert sum(b.count for b in kit.batches(valkey.client)) == 32


async def test_the_next_life_keeps_the_last_words_of_a_killed_one(valkey: Any, pair: "Pair", kit: "Kit") -> None:
    async with kit.running(kit.settings(valkey.url), valkey.client) as bench:
        await bench.publish(pair.record(), pair.profiles)
        await bench.predict()
        await rows_stored(bench, kit, 1)
    stopped = read_ack(valkey.client)
    assert stopped is not None
    assert stopped.ended
    killed = msgspec.structs.replace(stopped, producer="killed", ended=False)
    valkey.client.set(keys.gateway("gw-test"), msgspec.json.encode(killed))
    async with kit.running(kit.settings(valkey.url), valkey.client) as bench:
        await kit.until(lambda: (ack := read_ack(bench.redis)) is not None and ack.producer != "killed")
        kept = bench.redis.get(keys.former_gateway("gw-test", "killed"))
        assert kept is not None
        assert msgspec.json.decode(kept, type=GatewayAck) == msgspec.structs.replace(killed, ended=True)
        assert 0 < bench.redis.ttl(keys.former_gateway("gw-test", "killed")) <= 3600
