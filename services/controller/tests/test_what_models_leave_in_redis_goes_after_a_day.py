"""Leftovers: the streams and profiles of a model that is gone, and the profiles of versions it has no more."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from kingmaker_contracts import keys, wire
from kingmaker_contracts.plan import Plan, PlannedVariant
from kingmaker_contracts.routing import Limits, RoutedVariant, RoutingRecord, Sticky, Withdrawal
from kingmaker_controller.errors import StoreUnavailable
from kingmaker_controller.leftovers import STAY_S
from kingmaker_controller.redis_store import RedisStore
from kingmaker_servicekit import redis_client

FLIGHTS = ("default", "flights")
STREAMS = [keys.events(*FLIGHTS, 0), keys.feedback(*FLIGHTS, 0), keys.events(*FLIGHTS, 255)]
OLD, NEW = (keys.profile(*FLIGHTS, sha256) for sha256 in ("old", "new"))
FOR_EVER = -1


def record(revision: int) -> RoutingRecord:
    champion = RoutedVariant("lr", "champion", "1", "flights", ["127.0.0.1:1"], 100, 0, None)
    return RoutingRecord(
        *FLIGHTS, revision, 1, 1, "flights-1", "Canary", [champion], "",
        Sticky("PredictionId", "default/flights"), "Denied", Limits(), "Manual", "2026-11-21T00:00:00.000Z",
    )  # fmt: skip


def plan(revision: int, profile: str) -> Plan:
    return Plan(*FLIGHTS, revision, 1, "flights-1", [PlannedVariant("lr", "champion", "1", profile)])


class Model:
    """A model in Redis, with what its gateways and its versions left there."""

    def __init__(self, store: RedisStore, client: Any) -> None:
        self.store, self.client = store, client

    async def serve(self, revision: int, profile: str) -> None:
        stored = await self.store.read(*FLIGHTS, frozenset())
        await self.store.put_profile(*FLIGHTS, profile, b"{}")
        await self.store.replace(record(revision), plan(revision, profile), stored)

    def write_streams(self) -> None:
        for stream in STREAMS:
            self.client.xadd(stream, {"b": b"entry"})

    def times(self, *names: str) -> list[int]:
        """Seconds until they go; FOR_EVER, or -2 for what is not there."""
        return [self.client.ttl(name) for name in names]


@pytest.fixture
async def model(valkey: Any) -> AsyncIterator[Model]:
    store = RedisStore(redis_client.connect(valkey.url))
    made = Model(store, valkey.client)
    await made.serve(1, "old")
    made.write_streams()
    yield made
    await store.close()


def is_a_day(seconds: int) -> bool:
    return STAY_S - 60 < seconds <= STAY_S


async def test_what_a_deleted_model_leaves_goes_after_a_day(model: Model) -> None:
    assert model.times(*STREAMS, OLD) == [FOR_EVER] * 4
    await model.store.remove(*FLIGHTS, 1)
    assert all(map(is_a_day, model.times(*STREAMS, OLD)))


async def test_a_withdrawal_says_that_it_was_deleted_until_it_is_made_again(model: Model) -> None:
    withdrawal = keys.withdrawal(*FLIGHTS)
    await model.store.remove(*FLIGHTS, 3)
    assert wire.read_json(model.client.get(withdrawal), Withdrawal) == Withdrawal(*FLIGHTS, 3)
    assert is_a_day(model.client.ttl(withdrawal))
    await model.serve(2, "old")
    assert model.client.get(withdrawal) is None


async def test_a_leader_that_lost_its_lease_withdraws_nothing(model: Model) -> None:
    assert not await model.store.remove(*FLIGHTS, 0)
    assert model.times(*STREAMS, OLD, keys.withdrawal(*FLIGHTS)) == [FOR_EVER] * 4 + [-2]


async def test_what_is_newer_than_what_was_seen_is_not_removed(model: Model) -> None:
    """An orphan that was made again meanwhile, by this same leader."""
    await model.serve(2, "old")
    assert not await model.store.remove(*FLIGHTS, 1, seen=1)
    assert (await model.store.read(*FLIGHTS, frozenset())).record == record(2)
    assert await model.store.remove(*FLIGHTS, 1, seen=2)


async def test_a_lease_of_the_monitor_is_left_alone(model: Model) -> None:
    lease, token = keys.monitor_lease(*FLIGHTS), keys.monitor_token(*FLIGHTS)
    model.client.set(lease, "somebody:1", ex=10)
    model.client.set(token, "1")
    await model.store.remove(*FLIGHTS, 1)
    assert model.times(lease, token) == [10, FOR_EVER]


async def test_a_model_that_is_made_again_keeps_what_it_left(model: Model) -> None:
    await model.store.remove(*FLIGHTS, 1)
    await model.serve(2, "old")
    assert model.times(*STREAMS, OLD) == [FOR_EVER] * 4


async def test_a_model_is_not_in_the_index_before_it_keeps_what_it_left(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    await model.store.remove(*FLIGHTS, 1)
    stored = await model.store.read(*FLIGHTS, frozenset())

    async def broken_off(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("kingmaker_controller.leftovers.Leftovers.of_versions", broken_off)
        with pytest.raises(KeyboardInterrupt):
            await model.store.replace(record(2), plan(2, "old"), stored)
    stored = await model.store.read(*FLIGHTS, frozenset())
    assert stored.record == record(2) and not stored.is_indexed
    await model.store.replace(record(2), plan(2, "old"), stored)
    assert model.times(*STREAMS, OLD) == [FOR_EVER] * 4


async def test_a_removal_that_was_broken_off_is_finished_by_the_next(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken_off(*args: Any, **kwargs: Any) -> None:
        raise ConnectionError("away")

    with monkeypatch.context() as patch:
        patch.setattr("kingmaker_controller.leftovers.Leftovers.of_model", broken_off)
        with pytest.raises(StoreUnavailable):
            await model.store.remove(*FLIGHTS, 1)
    assert await model.store.indexed() == ["default/flights"], "so that somebody tries again"
    assert await model.store.remove(*FLIGHTS, 1)
    assert all(map(is_a_day, model.times(*STREAMS, OLD)))
    assert model.client.exists(keys.routing(*FLIGHTS), keys.plan(*FLIGHTS)) == 0


async def test_a_version_that_is_served_no_more_leaves_its_profile_for_a_day(model: Model) -> None:
    await model.serve(2, "new")
    [old, *others] = model.times(OLD, NEW, *STREAMS)
    assert is_a_day(old) and others == [FOR_EVER] * 4
    await model.serve(3, "old")
    [new, *others] = model.times(NEW, OLD, *STREAMS)
    assert is_a_day(new) and others == [FOR_EVER] * 4


async def test_a_time_once_set_is_not_begun_anew(model: Model) -> None:
    await model.store.remove(*FLIGHTS, 1)
    model.client.expire(STREAMS[0], 100)
    await model.store.remove(*FLIGHTS, 1)
    assert 90 < model.client.ttl(STREAMS[0]) <= 100


async def test_a_controller_without_the_right_removes_the_model_all_the_same(
    model: Model, valkey: Any, caplog: pytest.LogCaptureFixture
) -> None:
    valkey.client.execute_command("ACL", "SETUSER", "default", "-expire", "-persist")
    try:
        assert await model.store.remove(*FLIGHTS, 1)
        await model.serve(2, "new")
        assert await model.store.remove(*FLIGHTS, 1)
    finally:
        valkey.client.execute_command("ACL", "SETUSER", "default", "+@all")
    assert model.times(*STREAMS) == [FOR_EVER] * 3
    assert [one.getMessage() for one in caplog.records] == ["what models leave in Redis stays there"]
