"""Records from Redis: a change reaches traffic, nothing bad is applied, and a missing Redis changes nothing."""

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from kingmaker_contracts import keys, wire
from kingmaker_contracts.profile import Profile
from kingmaker_contracts.routing import RoutingRecord
from kingmaker_gateway.metrics import Metrics
from kingmaker_gateway.routes import Routes
from kingmaker_gateway.snapshot import SnapshotFile
from kingmaker_servicekit import redis_client

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Bench, Kit, Pair

IN_NO_TIME = {"x-kingmaker-timeout-ms": "400"}
"""Less than one attempt at a Redis that is away takes. Who waits for it is late each time; who does not may be late now
and then, on a busy machine."""


async def variant_of(bench: "Bench", kit: "Kit") -> str:
    return str((await bench.predict([kit.full_row])).headers.get("x-variant"))


async def test_a_weight_edit_reaches_traffic_at_once(valkey: Any, pair: "Pair", kit: "Kit") -> None:
    # polling alone would take a minute: it is the announcement that is fast
    async with kit.running(kit.settings(valkey.url, routes={"poll_ms": 60_000}), valkey.client) as bench:
        await bench.publish(pair.record(), pair.profiles)
        await bench.challenger_is_up("gbm")
        assert await variant_of(bench, kit) == "lr"
        bench.store(pair.record(ranges="gbm:0-9999", revision=2))

        async def moved() -> bool:
            return await variant_of(bench, kit) == "gbm"

        await kit.until(moved)


async def test_a_record_that_nobody_announced_is_polled(bench: "Bench", pair: "Pair", kit: "Kit") -> None:
    await bench.publish(pair.record(), pair.profiles)
    await bench.challenger_is_up("gbm")
    raw = wire.write_json(pair.record(ranges="gbm:0-9999", revision=2))
    bench.redis.set(keys.routing("default", "flights"), raw)

    async def moved() -> bool:
        return await variant_of(bench, kit) == "gbm"

    await kit.until(moved)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"revision": 4, "epoch": 3}, "lower"),
        ({"revision": 9, "epoch": 2}, "lower"),
        ({"revision": 5, "epoch": 3, "ranges": "gbm:0-9999"}, "lower"),
        (b"not json", "malformed"),
        (b'{"v": 2}', "malformed"),
        ({"revision": 9, "name": "other"}, "malformed"),
        ({"revision": 9, "ranges": "gbm:0-10000"}, "malformed"),
        ({"revision": 9, "ranges": "stranger:0-1"}, "malformed"),
    ],
)
async def test_what_is_malformed_or_older_is_not_applied(
    bench: "Bench", pair: "Pair", kit: "Kit", change: Any, reason: str
) -> None:
    await bench.publish(pair.record(revision=5, epoch=3), pair.profiles)
    await bench.challenger_is_up("gbm")
    raw = change
    if isinstance(change, dict):
        plain = msgspec.to_builtins(pair.record(revision=5, epoch=3))
        raw = msgspec.json.encode({**plain, "ranges": "gbm:0-9999", **change})
    bench.redis.set(keys.routing("default", "flights"), raw)
    bench.redis.publish(keys.ROUTING_CHANNEL, "default/flights")
    await kit.until(lambda: bench.metric("routing_ignored_total", reason=reason) == 1)
    assert await variant_of(bench, kit) == "lr"
    assert bench.metric("routing_revision", model="flights") == 5
    bench.store(pair.record(ranges="gbm:0-9999", revision=10, epoch=3))
    await kit.until(lambda: bench.metric("routing_revision", model="flights") == 10)
    assert bench.metric("routing_ignored_total", reason=reason) == 1  # counted once, not every poll


async def test_a_record_that_vanishes_changes_nothing(bench: "Bench", pair: "Pair", kit: "Kit") -> None:
    await bench.publish(pair.record(), pair.profiles)
    bench.redis.flushall()
    read_before = bench.metric("routing_age_seconds")
    await kit.until(lambda: bench.metric("routing_age_seconds") < max(read_before, 0.05))
    assert await variant_of(bench, kit) == "lr"


async def test_without_redis_the_last_record_serves_and_the_next_is_taken_when_it_is_back(
    own_valkey: Any, pair: "Pair", kit: "Kit"
) -> None:
    async with kit.running(kit.settings(own_valkey.url), own_valkey.client) as bench:
        await bench.publish(pair.record(), pair.profiles)
        await bench.challenger_is_up("gbm")
        own_valkey.stop()
        await kit.until(lambda: bench.metric("redis_up") == 0)
        answers = [await bench.predict([kit.full_row], headers=IN_NO_TIME) for _ in range(20)]
        assert {a.headers["x-variant"] for a in answers} == {"lr"}
        assert [a.status_code for a in answers].count(200) > 10
        assert await bench.is_ready()
        own_valkey.start()
        bench.store(pair.record(ranges="gbm:0-9999", revision=2))
        await kit.until(lambda: bench.metric("routing_revision", model="flights") == 2)
        assert bench.metric("redis_up") == 1
        assert await variant_of(bench, kit) == "gbm"


async def test_a_redis_that_hangs_holds_up_no_prediction(own_valkey: Any, pair: "Pair", kit: "Kit") -> None:
    async with kit.running(kit.settings(own_valkey.url), own_valkey.client) as bench:
        await bench.publish(pair.record(), pair.profiles)
        os.kill(own_valkey._process.pid, signal.SIGSTOP)
        try:
            await kit.until(lambda: bench.metric("redis_up") == 0)
            answers = [await bench.predict(headers=IN_NO_TIME) for _ in range(20)]
            label = {"prediction_id": answers[0].headers["x-prediction-id"], "label": 1}
            feedback = await bench.client.post("/v1/models/flights/feedback", json=[label])
        finally:
            os.kill(own_valkey._process.pid, signal.SIGCONT)
        assert [a.status_code for a in answers].count(200) > 10
        assert (feedback.status_code, feedback.json()["code"]) == (503, "feedback_unavailable")
        await kit.until(lambda: sum(b.count for b in bench.batches()) >= 20)


async def test_a_gateway_may_start_before_redis(own_valkey: Any, pair: "Pair", kit: "Kit") -> None:
    own_valkey.stop()
    async with kit.running(kit.settings(own_valkey.url), own_valkey.client) as bench:
        await kit.until(lambda: bench.metric("redis_up") == 0)
        assert (await bench.client.get("/v2/health/live")).status_code == 200
        ready = await bench.client.get("/v2/health/ready")
        assert (ready.status_code, ready.json()) == (503, {"ready": False})
        assert (await bench.predict()).status_code == 404
        own_valkey.start()
        await bench.publish(pair.record(), pair.profiles)
        assert (await bench.predict()).status_code == 200


async def test_a_gateway_starts_from_its_snapshot_when_redis_is_away(
    own_valkey: Any, pair: "Pair", kit: "Kit", tmp_path: Path
) -> None:
    snapshot = tmp_path / "deep" / "routing.json"
    settings = kit.settings(own_valkey.url, snapshot_file=snapshot)
    async with kit.running(settings, own_valkey.client) as bench:
        await bench.publish(pair.record(ranges="gbm:0-9999", revision=3), pair.profiles)
        await kit.until(snapshot.exists)
    own_valkey.stop()
    pair.champion.serve_metadata = pair.challenger.serve_metadata = False  # only the stored profiles can tell
    async with kit.running(settings, own_valkey.client) as bench:
        assert bench.metric("routing_revision", model="flights") == 3
        await bench.challenger_is_up("gbm")
        null_gain = await bench.predict([{**kit.full_row, "gain": None}])  # nullable is known from the profile alone
        assert (null_gain.status_code, null_gain.headers["x-variant"]) == (200, "gbm")


async def test_a_damaged_snapshot_does_not_keep_a_gateway_from_starting(
    valkey: Any, pair: "Pair", kit: "Kit", tmp_path: Path
) -> None:
    file = tmp_path / "routing.json"
    file.write_bytes(b'{"records": [')
    async with kit.running(kit.settings(valkey.url, snapshot_file=file), valkey.client) as bench:
        await bench.publish(pair.record(), pair.profiles)
        assert (await bench.predict()).status_code == 200


async def test_a_profile_that_comes_late_replaces_what_the_model_server_said(
    bench: "Bench", pair: "Pair", kit: "Kit"
) -> None:
    await bench.publish(pair.record())  # no profiles yet
    await bench.challenger_is_up("gbm")
    row = {**kit.full_row, "gain": None}
    strict = await bench.predict([row], headers={"x-kingmaker-variant": "gbm"})
    assert strict.status_code == 400
    bench.store(pair.record(), pair.profiles)

    async def allowed() -> bool:
        return (await bench.predict([row], headers={"x-kingmaker-variant": "gbm"})).status_code == 200

    await kit.until(allowed)


async def test_other_namespaces_are_none_of_its_business(bench: "Bench", pair: "Pair", kit: "Kit") -> None:
    bench.store(pair.record(namespace="elsewhere", name="theirs"), pair.profiles)
    await bench.publish(pair.record(), pair.profiles)
    assert (await bench.client.get("/v2/models")).json() == {"models": ["flights"]}


class Between:
    """Between routes and Redis: get says what a key holds."""

    def __init__(self, redis: Any, get: Callable[[str], bytes | None]) -> None:
        self.smembers = redis.smembers
        self._get = get

    async def get(self, key: str) -> Any:
        return self._get(key)


@asynccontextmanager
async def following(
    bench: "Bench",
    get: Callable[[str], bytes | None],
    adopt: Callable[[RoutingRecord, dict[str, Profile]], None],
    snapshot: SnapshotFile | None = None,
) -> AsyncIterator[None]:
    redis = redis_client.connect(bench.settings.redis_url)
    blocking = redis_client.connect_blocking(bench.settings.redis_url)
    routes = Routes(
        Between(redis, get),  # type: ignore[arg-type]  # a stand-in
        blocking,
        namespace="default",
        poll_s=0.02,
        settle_s=15.0,
        snapshot=snapshot,
        metrics=Metrics(CollectorRegistry()),
        adopt=adopt,
        awaits=lambda *_: False,
        withdraw=lambda _: None,
    )
    routes.start()
    try:
        yield
    finally:
        await routes.close()
        await redis.aclose()
        await blocking.aclose()


async def test_what_was_applied_is_on_disk_though_redis_went_away_before_all_was_read(
    bench: "Bench", pair: "Pair", kit: "Kit", tmp_path: Path
) -> None:
    """That is when it will be needed: a gateway that starts now would begin with an older routing."""
    file = SnapshotFile(tmp_path / "routing.json")
    first = msgspec.structs.replace(pair.record(), name="airports")  # read before flights
    bench.redis.sadd(keys.MODELS, "default/airports", "default/flights")

    def get(key: str) -> bytes | None:
        if key == keys.routing("default", "flights"):
            raise ConnectionError("gone in the middle")
        return wire.write_json(first) if key == keys.routing("default", "airports") else None

    async with following(bench, get, lambda *_: None, file):
        await kit.until(lambda: (kept := file.load()) is not None and kept.records == [first])


async def test_a_snapshot_that_could_not_be_written_is_written_when_it_can_be(
    bench: "Bench", pair: "Pair", kit: "Kit", tmp_path: Path
) -> None:
    folder = tmp_path / "volume"
    folder.write_text("not mounted yet")
    file = SnapshotFile(folder / "routing.json")
    record, adopted = pair.record(), list[int]()
    bench.redis.sadd(keys.MODELS, "default/flights")
    asked = 0

    def get(key: str) -> bytes | None:
        nonlocal asked
        asked += key == keys.routing("default", "flights")
        return wire.write_json(record) if key == keys.routing("default", "flights") else None

    async with following(bench, get, lambda record, _: adopted.append(record.revision), file):
        await kit.until(lambda: adopted and asked > 3)  # the attempt at the first has failed
        folder.unlink()
        await kit.until(lambda: (kept := file.load()) is not None and kept.records == [record])
    assert adopted == [1]


async def test_a_profile_that_comes_late_is_taken_though_redis_fails_at_the_next_one(
    bench: "Bench", pair: "Pair", kit: "Kit"
) -> None:
    """The next one is not there at all, and will be no reason to apply the record once more."""
    record = pair.record()
    raws = {keys.profile("default", "flights", kit.sha(known)): wire.write_json(known) for known in pair.profiles}
    bench.redis.sadd(keys.MODELS, "default/flights")
    adopted: list[int] = []
    asked: list[str] = []

    def get(key: str) -> bytes | None:
        if key not in raws:
            return wire.write_json(record) if key == keys.routing("default", "flights") else None
        if not adopted:
            return None
        asked.append(key)
        if len(asked) == 2:
            raise ConnectionError("gone in the middle")
        return raws[key] if key == asked[0] else None

    async with following(bench, get, lambda _, known: adopted.append(len(known))):
        await kit.until(lambda: len(adopted) > 1)
    assert adopted == [0, 1]
