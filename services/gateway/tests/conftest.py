"""A gateway in the test's own loop on real sockets, real model servers behind it, a real Valkey beside it."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import redis
import uvicorn
from prometheus_client import CollectorRegistry

from conftest import take_free_port
from kingmaker_contracts import events, keys, profile, wire
from kingmaker_contracts.labels import Role
from kingmaker_contracts.profile import (
    CategoricalReference,
    Feature,
    NumericReference,
    Output,
    Profile,
    Reference,
    Score,
)
from kingmaker_contracts.routing import Limits, RoutedVariant, RoutingRecord, Sticky
from kingmaker_gateway import app
from kingmaker_gateway.event_loop import EventLoop
from kingmaker_gateway.settings import Settings
from kingmaker_servicekit import serving
from tests.fakes.fake_model_server import FakeModelServer

CHAMPION_INPUTS = [("distance", "FP32"), ("carrier", "BYTES")]
CHALLENGER_INPUTS = [*CHAMPION_INPUTS, ("gain", "FP32")]
ROW = {"distance": 1400, "carrier": "UA"}
FULL_ROW = {**ROW, "gain": 2.5}


def make_profile(
    inputs: list[tuple[str, str]], nullable: frozenset[str] = frozenset(), categories: tuple[str, ...] = ("AA", "UA")
) -> Profile:
    """A profile of a FakeModelServer's model; BYTES inputs are categorical."""
    numbers = [name for name, datatype in inputs if datatype != "BYTES"]
    texts = [name for name, datatype in inputs if datatype == "BYTES"]
    return Profile(
        name="fake",
        onnx_sha256="0" * 64,
        inputs=[
            Feature(name, datatype, [-1, 1], "categorical" if datatype == "BYTES" else "numeric", name in nullable)
            for name, datatype in inputs
        ],
        outputs=[Output("label", "INT64", [-1]), Output("probabilities", "FP32", [-1, 2])],
        score=Score("binary", "probabilities", 1, "1", ["0", "1"], "label"),
        reference=Reference(
            rows=2,
            numeric={name: NumericReference([0.5], [1, 1], 0, 0.0, 1.0, 0.5, 0.5) for name in numbers},
            categorical={name: CategoricalReference(list(categories), [1] * len(categories), 0, 0) for name in texts},
        ),
        quality=None,
        parity=None,
        created_at="2026-01-01T00:00:00Z",
    )


def make_record(variants: list[RoutedVariant], **changes: Any) -> RoutingRecord:
    fields: dict[str, Any] = {
        "namespace": "default",
        "name": "flights",
        "revision": 1,
        "epoch": 1,
        "generation": 1,
        "rollout_id": "r1",
        "mode": "Canary",
        "variants": variants,
        "ranges": "",
        "sticky": Sticky("PredictionId", "default/flights"),
        "overrides": "Allowed",
        "limits": Limits(deadline_ms=8000),  # what is too late is a test's own choice, never a busy machine's
        "source": "test",
        "updated_at": "2026-01-01T00:00:00Z",
    }
    return RoutingRecord(**{**fields, **changes})


def variant(
    server: FakeModelServer,
    name: str,
    role: Role = "challenger",
    *,
    mirror: int = 0,
    sha: str | None = None,
    v: str = "1",
) -> RoutedVariant:
    return RoutedVariant(name, role, v, server.name, [server.address], 0, mirror, sha)


@dataclass
class Bench:
    """Everything one test needs. publish: put a record into force as the controller would."""

    client: httpx.AsyncClient
    own_redis: "redis.Redis | None"
    registry: CollectorRegistry
    settings: Settings
    gateway: app.Gateway
    models: list[str] = field(default_factory=list)

    @property
    def redis(self) -> "redis.Redis":
        assert self.own_redis is not None, "this gateway was given none"
        return self.own_redis

    def store(self, record: RoutingRecord, profiles: list[Profile] = []) -> None:  # noqa: B006 - not changed
        store(self.redis, record, profiles)

    async def publish(self, record: RoutingRecord, profiles: list[Profile] = []) -> None:  # noqa: B006 - not changed
        self.store(record, profiles)
        wanted = float(record.revision)
        await until(lambda: self.metric("routing_revision", model=record.name) == wanted)
        await until(self.is_ready)

    async def is_ready(self) -> bool:
        return (await self.client.get("/v2/health/ready")).status_code == 200

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"kingmaker_gateway_{name}", labels) or 0.0

    async def predict(self, rows: list[Any] | None = None, **kwargs: Any) -> httpx.Response:
        body = {"instances": [ROW] if rows is None else rows}
        return await self.client.post("/v1/models/flights:predict", json=body, **kwargs)

    async def challenger_is_up(self, name: str) -> None:
        async def ready() -> bool:
            return (await self.client.get(f"/v2/models/flights/versions/{name}/ready")).status_code == 200

        await until(ready)

    def batches(self, partition: int = 0) -> list[events.EventBatch]:
        return read_batches(self.redis, partition)


def store(client: "redis.Redis", record: RoutingRecord, profiles: list[Profile]) -> None:
    for known in profiles:
        raw = wire.write_json(known)
        client.set(keys.profile(record.namespace, record.name, profile.sha256_of(raw)), raw)
    model = keys.model_id(record.namespace, record.name)
    client.set(keys.routing(record.namespace, record.name), wire.write_json(record))
    client.sadd(keys.MODELS, model)
    client.publish(keys.ROUTING_CHANNEL, model)


def read_batches(client: "redis.Redis", partition: int = 0) -> list[events.EventBatch]:
    # annotated with every answer of every protocol; this connection's are bytes
    entries: Any = client.xrange(keys.events("default", "flights", partition))
    return [events.decode(fields[keys.ENTRY_FIELD]) for _, fields in entries]


def sha_of(known: Profile) -> str:
    return profile.sha256_of(wire.write_json(known))


async def until(condition: Callable[[], Any], within_s: float = 30.0) -> None:
    """Poll until a condition (plain or async) holds."""
    deadline = time.monotonic() + within_s
    while True:
        result = condition()
        if isinstance(result, Awaitable):
            result = await result
        if result:
            return
        assert time.monotonic() < deadline, f"did not happen within {within_s} s"
        await asyncio.sleep(0.02)


@asynccontextmanager
async def running(settings: Settings, client: "redis.Redis | None") -> AsyncIterator[Bench]:
    """A gateway on a real socket, in this loop."""
    registry = CollectorRegistry()
    gateway = app.build(settings, registry)
    sock = serving.bind("127.0.0.1", 0)
    config = uvicorn.Config(
        gateway.public,
        http=gateway.http,
        lifespan="on",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=2,
        ws="none",
    )
    server = serving._Server(config)
    task = asyncio.create_task(server.serve(sockets=[sock]))
    await until(lambda: server.started or task.done())
    address = f"http://127.0.0.1:{sock.getsockname()[1]}"
    try:
        async with httpx.AsyncClient(base_url=address, timeout=30) as http:
            yield Bench(http, client, registry, settings, gateway)
    finally:
        server.should_exit = True
        await task


def make_settings(url: str, **changes: Any) -> Settings:
    sections: dict[str, Any] = {"recorder": {"flush_ms": 20}, "routes": {"poll_ms": 200}}
    return Settings(redis_url=url, gateway_id="gw-test", **{**sections, **changes})


def pytest_asyncio_loop_factories(config: Any, item: Any) -> dict[str, Callable[[], Any]]:
    """The loop the gateway runs on: its transports differ from asyncio's."""
    return {"uvloop": EventLoop}


@pytest.fixture
async def bench(valkey: Any) -> AsyncIterator[Bench]:
    async with running(make_settings(valkey.url), valkey.client) as running_bench:
        yield running_bench


@dataclass
class Pair:
    """Champion `lr` and challenger `gbm`, which needs one more input, with their profiles."""

    champion: FakeModelServer
    challenger: FakeModelServer
    profiles: list[Profile]

    def record(self, *, mirror: int = 0, **changes: Any) -> RoutingRecord:
        first, second = (sha_of(known) for known in self.profiles)
        variants = [
            variant(self.champion, "lr", "champion", sha=first, v="3"),
            variant(self.challenger, "gbm", mirror=mirror, sha=second, v="4"),
        ]
        return make_record(variants, **changes)


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    async with AsyncExitStack() as stack:
        champion = await stack.enter_async_context(
            FakeModelServer(CHAMPION_INPUTS, 1.0, name="lr-upstream", port=take_free_port())
        )
        challenger = await stack.enter_async_context(
            FakeModelServer(CHALLENGER_INPUTS, 7.0, name="gbm-upstream", port=take_free_port())
        )
        nullable = frozenset({"gain"})
        profiles = [make_profile(CHAMPION_INPUTS), make_profile(CHALLENGER_INPUTS, nullable)]
        yield Pair(champion, challenger, profiles)


class Kit:
    """The helpers of this file, for tests that build their own records or gateways."""

    record = staticmethod(make_record)
    variant = staticmethod(variant)
    profile = staticmethod(make_profile)
    sha = staticmethod(sha_of)
    settings = staticmethod(make_settings)
    running = staticmethod(running)
    store = staticmethod(store)
    batches = staticmethod(read_batches)
    until = staticmethod(until)
    row = ROW
    full_row = FULL_ROW
    champion_inputs = CHAMPION_INPUTS
    challenger_inputs = CHALLENGER_INPUTS


@pytest.fixture
def kit() -> Kit:
    return Kit()
