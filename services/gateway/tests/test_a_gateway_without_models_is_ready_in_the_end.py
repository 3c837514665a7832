"""An installation is waited for before its first model exists; an emptied Redis must not look like that."""

import time
from typing import TYPE_CHECKING, Any

import httpx
from prometheus_client import CollectorRegistry

from kingmaker_contracts import keys, wire
from kingmaker_contracts.routing import Withdrawal
from kingmaker_gateway.metrics import Metrics
from kingmaker_gateway.routes import Routes
from kingmaker_servicekit import redis_client

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Bench, Kit, Pair


def admin_of(bench: "Bench") -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(bench.gateway.admin), base_url="http://admin")


async def is_ready(admin: httpx.AsyncClient) -> bool:
    return (await admin.get("/health/ready")).status_code == 200


async def test_it_is_ready_once_redis_has_named_no_model_for_a_while(valkey: Any, kit: "Kit") -> None:
    valkey.client.sadd(keys.MODELS, "elsewhere/flights")
    settings = kit.settings(valkey.url, routes={"poll_ms": 20, "settle_ms": 100})
    async with kit.running(settings, valkey.client) as bench, admin_of(bench) as admin:
        await kit.until(lambda: is_ready(admin))
        assert not await bench.is_ready(), "to clients it says that nothing is served"


async def test_it_is_not_ready_at_once(bench: "Bench", kit: "Kit") -> None:
    async with admin_of(bench) as admin:
        await kit.until(lambda: bench.metric("redis_up") == 1)
        assert not await is_ready(admin)


async def test_it_is_not_ready_while_redis_is_away(free_port: int, kit: "Kit") -> None:
    settings = kit.settings(f"redis://127.0.0.1:{free_port}/0", routes={"poll_ms": 20, "settle_ms": 0})
    async with kit.running(settings, None) as bench, admin_of(bench) as admin:
        await kit.until(lambda: bench.registry.get_sample_value("kingmaker_gateway_redis_up") == 0)
        assert not await is_ready(admin)


async def test_a_redis_that_said_so_once_and_went_away_has_not_said_so_for_long(valkey: Any, kit: "Kit") -> None:
    class Leaving:
        looks = 0

        async def smembers(self, _: str) -> set[bytes]:
            self.looks += 1
            if self.looks > 1:
                raise ConnectionError("gone")
            return set()

    leaving, blocking = Leaving(), redis_client.connect_blocking(valkey.url)
    routes = Routes(
        leaving,  # type: ignore[arg-type]  # a stand-in
        blocking,
        namespace="default",
        poll_s=0.02,
        settle_s=0.3,
        snapshot=None,
        metrics=Metrics(CollectorRegistry()),
        adopt=lambda *_: None,
        awaits=lambda *_: False,
        withdraw=lambda _: None,
    )
    routes.start()
    await kit.until(lambda: leaving.looks > 1)
    settled = time.monotonic() + 0.3
    await kit.until(lambda: time.monotonic() > settled)
    assert not routes.is_empty_for_good
    await routes.close()
    await blocking.aclose()


async def test_a_model_that_is_named_is_waited_for(valkey: Any, kit: "Kit") -> None:
    settings = kit.settings(valkey.url, routes={"poll_ms": 20, "settle_ms": 100})
    async with kit.running(settings, valkey.client) as bench, admin_of(bench) as admin:
        await kit.until(lambda: is_ready(admin))
        valkey.client.sadd(keys.MODELS, "default/flights")

        async def is_waiting() -> bool:
            return not await is_ready(admin)

        await kit.until(is_waiting)


async def test_an_emptied_redis_leaves_a_serving_gateway_ready(valkey: Any, pair: "Pair", kit: "Kit") -> None:
    settings = kit.settings(valkey.url, routes={"poll_ms": 20, "settle_ms": 0})
    async with kit.running(settings, valkey.client) as bench, admin_of(bench) as admin:
        await bench.publish(pair.record(), pair.profiles)
        valkey.client.flushall()
        await kit.until(lambda: bench.metric("routing_age_seconds") < 0.05)
        assert await is_ready(admin) and await bench.is_ready()


async def test_a_gateway_whose_last_model_was_deleted_waits_for_nothing(valkey: Any, pair: "Pair", kit: "Kit") -> None:
    settings = kit.settings(valkey.url, routes={"poll_ms": 20, "settle_ms": 60_000})
    async with kit.running(settings, valkey.client) as bench, admin_of(bench) as admin:
        await bench.publish(pair.record(), pair.profiles)
        said = wire.write_json(Withdrawal("default", "flights", 1))
        valkey.client.set(keys.withdrawal("default", "flights"), said)
        valkey.client.srem(keys.MODELS, "default/flights")

        async def is_withdrawn() -> bool:
            return not await bench.is_ready()

        await kit.until(is_withdrawn)
        assert await is_ready(admin)
