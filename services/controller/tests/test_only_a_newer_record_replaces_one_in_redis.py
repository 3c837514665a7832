"""The Redis store: compare on (epoch, revision), malformed values, removal, acknowledgements."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from kingmaker_contracts import keys, wire
from kingmaker_contracts.acks import GatewayAck
from kingmaker_contracts.plan import Plan
from kingmaker_contracts.routing import Limits, RoutedVariant, RoutingRecord, Sticky
from kingmaker_controller.errors import StoreUnavailable
from kingmaker_controller.redis_store import Overtaken, RedisStore, Stored
from kingmaker_servicekit import redis_client

NOTHING = Stored(None)
CHAMPION = RoutedVariant("lr", "champion", "1", "flights", ["127.0.0.1:1"], 100, 0, None)


def record(epoch: int, revision: int, generation: int = 1) -> RoutingRecord:
    return RoutingRecord(
        "default", "flights", revision, epoch, generation, "flights-1", "Canary", [CHAMPION], "",
        Sticky("PredictionId", "default/flights"), "Denied", Limits(), "Manual", "2026-11-21T00:00:00.000Z",
    )  # fmt: skip


def plan(of: RoutingRecord) -> Plan:
    return Plan("default", "flights", of.revision, of.epoch, of.rollout_id, [])


@pytest.fixture
async def store(valkey: Any) -> AsyncIterator[RedisStore]:
    built = RedisStore(redis_client.connect(valkey.url))
    yield built
    await built.close()


@pytest.mark.parametrize(
    ("new", "is_taken"),
    [((1, 6), True), ((2, 1), True), ((1, 5), False), ((1, 4), False), ((0, 99), False)],
)
async def test_the_order_of_records(store: RedisStore, new: tuple[int, int], is_taken: bool) -> None:
    stored = record(1, 5)
    await store.replace(stored, plan(stored), NOTHING)
    challenger = record(*new, generation=2)
    if is_taken:
        await store.replace(challenger, plan(challenger), NOTHING)
    else:
        with pytest.raises(Overtaken) as caught:
            await store.replace(challenger, plan(challenger), NOTHING)
        assert (caught.value.epoch, caught.value.revision) == (1, 5)
    found = await store.read("default", "flights", frozenset())
    kept = challenger if is_taken else stored
    assert found.record == kept
    assert found.plan == wire.write_json(plan(kept)), "the plan goes with its record"


async def test_the_same_record_may_be_written_again_to_repair_what_stands_beside_it(
    store: RedisStore, valkey: Any
) -> None:
    mine = record(1, 5)
    await store.replace(mine, plan(mine), NOTHING)
    valkey.client.delete(keys.plan("default", "flights"), keys.MODELS)
    await store.replace(mine, plan(mine), NOTHING)
    found = await store.read("default", "flights", frozenset())
    assert found.plan == wire.write_json(plan(mine))
    assert found.is_indexed


async def test_a_name_in_the_index_that_is_no_text_hides_no_other(store: RedisStore, valkey: Any) -> None:
    valkey.client.sadd(keys.MODELS, b"default/\xff", "default/flights")
    assert await store.indexed() == ["default/flights", "default/\ufffd"]


async def test_only_the_malformed_value_that_was_seen_is_overwritten_whatever_it_claims(
    store: RedisStore, valkey: Any
) -> None:
    raw = b'{"epoch": 50, "revision": 1, "v": 1}'
    valkey.client.set(keys.routing("default", "flights"), raw)
    found = await store.read("default", "flights", frozenset())
    assert found.record is None
    assert "missing required field" in found.malformed
    mine = record(1, 1)
    with pytest.raises(Overtaken):
        await store.replace(mine, plan(mine), Stored(None, raw=b"something else"))
    await store.replace(mine, plan(mine), found)
    assert (await store.read("default", "flights", frozenset())).record == mine


async def test_removal_leaves_profiles_and_respects_a_higher_epoch(store: RedisStore, valkey: Any) -> None:
    mine = record(3, 1)
    await store.replace(mine, plan(mine), NOTHING)
    await store.put_profile("default", "flights", "abc", b"{}")
    assert (await store.read("default", "flights", frozenset({"abc", "xyz"}))).profiles == {"abc"}
    assert await store.remove("default", "flights", 2) is False
    assert await store.remove("default", "flights", 3) is True
    left = {keys.profile("default", "flights", "abc"), keys.withdrawal("default", "flights")}
    assert {name.decode() for name in valkey.client.keys("km:*")} == left


async def test_acknowledgements_are_read_by_model_and_unreadable_ones_left_out(store: RedisStore, valkey: Any) -> None:
    ack = GatewayAck("p", 0, "t", "2026-11-21T00:00:00Z", {"default/flights": 7}, {"default/flights": 2}, {})
    valkey.client.set(keys.gateway("a"), msgspec.json.encode(ack))
    valkey.client.set(keys.gateway("b"), b"{")
    views = await store.gateways(["default/flights", "default/churn"])
    assert [(v.epoch, v.revision) for v in views["default/flights"]] == [(2, 7)]
    assert [(v.epoch, v.revision) for v in views["default/churn"]] == [(0, 0)]


async def test_gateways_of_another_namespace_in_the_same_redis_are_not_waited_for(
    store: RedisStore, valkey: Any
) -> None:
    now = "2026-11-21T00:00:00Z"
    for namespace, model in (("shop", "shop/flights"), ("bank", "bank/loans")):
        ack = GatewayAck(namespace, 0, now, now, {model: 7}, {model: 2}, {}, namespace=namespace)
        valkey.client.set(keys.gateway(f"gateway-of-{namespace}"), msgspec.json.encode(ack))
    older = GatewayAck("older", 0, now, now, {"shop/flights": 7}, {"shop/flights": 2}, {})
    valkey.client.set(keys.gateway("one-that-does-not-say"), msgspec.json.encode(older))
    [*views] = (await store.gateways(["shop/flights"]))["shop/flights"]
    assert sorted(view.id for view in views) == ["km:gateways:gateway-of-shop", "km:gateways:one-that-does-not-say"]


async def test_a_redis_that_is_not_there_is_one_kind_of_error(free_port: int) -> None:
    store = RedisStore(redis_client.connect(f"redis://127.0.0.1:{free_port}/0"))
    with pytest.raises(StoreUnavailable):
        await store.read("default", "flights", frozenset())
    await store.close()
