"""The loop over a real Valkey and a state file, with answers that get lost and writes that fail."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from kingmaker_contracts import keys, served_model
from kingmaker_contracts.status import RoutingStatus
from kingmaker_controller.errors import LeaderLost, LeaseUnavailable, StatusOutdated, StoreUnavailable
from kingmaker_controller.leader import Leader
from kingmaker_controller.loop import Loop, Pace
from kingmaker_controller.metrics import Metrics
from kingmaker_controller.redis_store import RedisStore, Stored
from kingmaker_controller.rollout.facts import Event, Identity, Observed, WantedVariant
from kingmaker_controller.sources import Document, Reading
from kingmaker_controller.state import State, StoredModel
from kingmaker_servicekit import redis_client

LR = {"name": "lr", "model": "models:/flights/1"}
GBM = {"name": "gbm", "model": "models:/flights/2"}


def document(name: str, **spec: Any) -> Document:
    head = {"apiVersion": "kingmaker.dev/v1alpha1", "kind": "ServedModel", "metadata": {"name": name}}
    return Document(served_model.parse({**head, "spec": {"champion": LR, **spec}}))


class Store(RedisStore):
    """Loses the answer of the next write, holds reads of `slow` back, or takes nothing away."""

    loses_answer = is_away = False
    removals = 0
    slow = ""
    is_reading: asyncio.Event
    may_read: asyncio.Event

    async def read(self, namespace: str, name: str, profiles: frozenset[str]) -> Stored:
        found = await super().read(namespace, name, profiles)
        if name == self.slow:
            self.is_reading.set()
            await self.may_read.wait()
        return found

    async def replace(self, *arguments: Any) -> None:
        await super().replace(*arguments)
        if self.loses_answer:
            self.loses_answer = False
            raise StoreUnavailable("timeout")

    async def remove(self, namespace: str, name: str, epoch: int, seen: int | None = None) -> bool:
        self.removals += 1
        if self.is_away:
            raise StoreUnavailable("timeout")
        return await super().remove(namespace, name, epoch, seen)


class Records(State):
    """The next write fails, or the next that tells of a decision; foreign_epoch: what another leader left."""

    failure: Exception | None = None
    is_outdated = False
    foreign_epoch = 0

    async def save(self, stored: StoredModel, events: Sequence[Event], now: datetime) -> None:
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        if self.is_outdated and events:
            raise StatusOutdated("written by another")
        await super().save(stored, events, now)

    async def reload(self, stored: StoredModel) -> StoredModel:
        stored = await super().reload(stored)
        if not self.foreign_epoch:
            return stored
        routing = RoutingStatus(1, self.foreign_epoch, 100, "", [])
        return replace(stored, status=msgspec.structs.replace(stored.status, routing=routing))


class Holder(Leader):
    """holds: how many more times the lease is ours; reading: what the next one waits for."""

    holds = 1_000_000
    is_away = False
    reading: asyncio.Event

    async def hold(self, now: datetime) -> None:
        self.holds -= 1
        if self.holds < 0:
            await self.reading.wait()
            raise LeaderLost("another holds it")

    async def raise_above(self, epoch: int, now: datetime) -> int:
        if self.is_away:
            raise LeaseUnavailable("no answer")
        return await super().raise_above(epoch, now)


class Stand:
    """Every variant runs at once. `applied`: what was wanted last, by model."""

    def __init__(self) -> None:
        self.applied: dict[str, Sequence[WantedVariant]] = {}

    def apply(self, model: str, wanted: Sequence[WantedVariant]) -> None:
        self.applied[model] = wanted

    def observe(self, model: str, pinned: Any) -> dict[Identity, Observed]:
        seen = Observed("Ready", "1", "a" * 64, None, ("127.0.0.1:1",))
        return {Identity(v["name"], v["model"]): seen for v in (LR, GBM)}

    def changed(self) -> tuple[str, ...]:
        return ()

    def profile(self, model: str, sha256: str) -> None:
        return None

    async def close(self) -> None:
        pass


class Around:
    """A loop and what surrounds it. `reading`: what the source says next."""

    def __init__(self, folder: Path, url: str) -> None:
        self.reading: Reading | None = None
        self.store, self.records, self.runtime = Store(redis_client.connect(url)), Records(folder), Stand()
        self.store.is_reading, self.store.may_read = asyncio.Event(), asyncio.Event()
        self.leader = Holder(self.records, "me")
        self.leader.reading = self.store.is_reading
        self.loop = Loop(
            source=self, runtime=self.runtime, store=self.store, state=self.records, leader=self.leader,
            metrics=Metrics(CollectorRegistry()), wake=asyncio.Event(), now=lambda: datetime.now(UTC),
            pace=Pace(0.2, at_once=2),
        )  # fmt: skip

    def poll(self) -> Reading | None:
        reading, self.reading = self.reading, None
        return reading

    def reasons(self, name: str = "flights") -> list[str]:
        return [entry.reason for entry in self.records.audit(keys.model_id("default", name))]


@pytest.fixture
async def around(tmp_path: Path, valkey: Any) -> AsyncIterator[Around]:
    built = Around(tmp_path, valkey.url)
    await built.leader.acquire([], datetime.now(UTC))
    yield built
    await built.store.close()
    built.records.close()


async def test_a_record_of_our_own_whose_answer_got_lost_is_nobody_elses(around: Around) -> None:
    around.reading = Reading({"default/flights": document("flights", challengers=[GBM])})
    await around.loop.step()
    await around.loop.step()
    around.store.loses_answer = True
    around.reading = Reading({"default/flights": document("flights", challengers=[GBM], weights={"gbm": 10})})
    await around.loop.step()
    await around.loop.step()
    found = await around.store.read("default", "flights", frozenset())
    assert not around.store.loses_answer and found.record is not None and found.record.ranges == "gbm:0-999"
    assert "WeightDriftCorrected" not in around.reasons()


@pytest.mark.parametrize("is_gone", [True, False])
async def test_what_the_source_said_is_done_though_it_could_not_be_saved_at_once(
    around: Around, valkey: Any, is_gone: bool
) -> None:
    both = {"default/churn": document("churn"), "default/flights": document("flights", challengers=[GBM])}
    around.reading = Reading(both)
    await around.loop.step()
    around.records.failure = sqlite3.OperationalError("database or disk is full")
    weighed = document("flights", challengers=[GBM], weights={"gbm": 10})
    churn = {} if is_gone else {"default/churn": document("churn", challengers=[GBM])}
    around.reading = Reading({**churn, "default/flights": weighed})
    await around.loop.step()
    await around.loop.step()
    found = await around.store.read("default", "flights", frozenset())
    assert found.record is not None and found.record.ranges == "gbm:0-999"
    if is_gone:
        assert around.runtime.applied["default/churn"] == []
        assert valkey.client.get(keys.routing("default", "churn")) is None
    else:
        assert [v.name for v in around.runtime.applied["default/churn"]] == ["lr", "gbm"]


async def test_who_lost_the_lease_decides_nothing_more(around: Around) -> None:
    around.reading = Reading({"default/churn": document("churn"), "default/flights": document("flights")})
    around.store.slow = "churn"
    around.leader.holds = 2  # of the step and of churn
    with pytest.raises(LeaderLost):
        await around.loop.step()
    around.store.may_read.set()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)
    assert not around.runtime.applied


async def test_a_lease_that_cannot_be_looked_at_breaks_no_other_models_step_off(around: Around) -> None:
    around.reading = Reading({"default/churn": document("churn"), "default/flights": document("flights")})
    await around.loop.step()
    around.records.is_outdated, around.records.foreign_epoch, around.leader.is_away = True, 9, True
    weighed = {"challengers": [GBM], "weights": {"gbm": 10}}
    around.reading = Reading({"default/churn": document("churn", **weighed), "default/flights": document("flights")})
    await around.loop.step()


async def test_routing_of_a_model_that_is_made_again_at_once_is_not_taken_for_somebody_elses(around: Around) -> None:
    weighed = document("flights", challengers=[GBM], weights={"gbm": 10})
    for uid in ("first", "second"):
        around.reading = Reading({"default/flights": replace(weighed, generation=1, uid=uid)})
        await around.loop.step()
        await around.loop.step()
    assert "ModelRemoved" in around.reasons()
    assert "WeightDriftCorrected" not in around.reasons()


async def test_a_redis_that_hangs_is_waited_for_once_a_step_however_many_models_leave(around: Around) -> None:
    names = [f"m{i}" for i in range(5)]
    around.reading = Reading({f"default/{name}": document(name) for name in names})
    await around.loop.step()
    around.store.is_away = True
    around.reading = Reading({})
    await around.loop.step()
    assert around.store.removals == 1
    around.store.is_away = False
    await around.loop.step()
    assert around.store.removals == 1 + len(names)
