"""What stands in a routing record, in Redis or in the DNS may be odd; it costs nobody else anything."""

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from kingmaker_contracts import keys, wire
from kingmaker_gateway.addresses import Addresses
from kingmaker_gateway.metrics import Metrics
from kingmaker_gateway.routes import Routes
from kingmaker_servicekit import redis_client

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Bench, Kit, Pair


async def test_a_version_no_header_can_hold_is_shown_without_its_line_breaks(
    bench: "Bench", pair: "Pair", kit: "Kit"
) -> None:
    record = pair.record()
    lr, gbm = record.variants
    odd = msgspec.structs.replace(lr, version="3\r\nx-evil: 1\x00é")
    await bench.publish(msgspec.structs.replace(record, variants=[odd, gbm]), pair.profiles)
    async with asyncio.timeout(20):
        answers = await asyncio.gather(*(bench.predict() for _ in range(5)))
    assert {answer.status_code for answer in answers} == {200}
    assert "x-evil" not in answers[0].headers
    assert bench.metric("in_flight", model="flights") == 0


@pytest.mark.parametrize("key", ["routing", "profile"])
async def test_a_key_of_another_type_hides_no_other_model(bench: "Bench", pair: "Pair", kit: "Kit", key: str) -> None:
    await bench.publish(pair.record(), pair.profiles)
    other = msgspec.structs.replace(pair.record(), name="airports")  # read before flights
    bench.redis.sadd(keys.MODELS, keys.model_id("default", "airports"))
    if key == "routing":
        bench.redis.rpush(keys.routing("default", "airports"), "not a string")
    else:
        for variant in other.variants:
            assert variant.profile is not None
            bench.redis.rpush(keys.profile("default", "airports", variant.profile), "not a string")
        bench.redis.set(keys.routing("default", "airports"), wire.write_json(other))
    await bench.publish(pair.record(revision=2))
    assert (await bench.predict()).headers["x-variant"] == "lr"
    await kit.until(lambda: bench.metric("redis_up") == 1)


async def test_a_profile_with_rows_nobody_can_send_hides_no_other_model(
    bench: "Bench", pair: "Pair", kit: "Kit"
) -> None:
    await bench.publish(pair.record(), pair.profiles)
    [first, *_] = pair.profiles[0].inputs
    wide = msgspec.structs.replace(pair.profiles[0], inputs=[msgspec.structs.replace(first, shape=[-1, 10**30])])
    champion = kit.variant(pair.champion, "lr", "champion", sha=kit.sha(wide))
    bench.store(kit.record([champion], name="airports"), [wide])  # read before flights
    await bench.publish(pair.record(revision=2))
    assert bench.metric("background_errors_total", loop="routes") == 0
    answer = await bench.client.post("/v1/models/airports:predict", json={"instances": [[1.0]]})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_input")


async def test_a_record_is_applied_though_redis_failed_between_it_and_its_profile(
    bench: "Bench", pair: "Pair", kit: "Kit"
) -> None:
    """The very same bytes are read again: they were seen before, but never put into force."""

    class Failing:
        def __init__(self, redis: Any) -> None:
            self._redis = redis
            self.failures = 0

        async def smembers(self, key: str) -> Any:
            return await self._redis.smembers(key)

        async def get(self, key: str) -> Any:
            if "profile" in key and not self.failures:
                self.failures += 1
                raise ConnectionError("gone in the middle")
            return await self._redis.get(key)

    adopted: list[int] = []
    redis = redis_client.connect(bench.settings.redis_url)
    failing = Failing(redis)
    metrics = Metrics(CollectorRegistry())
    routes = Routes(
        failing,  # type: ignore[arg-type]  # a stand-in
        redis,
        namespace="default",
        poll_s=0.02,
        settle_s=15.0,
        snapshot=None,
        metrics=metrics,
        adopt=lambda record, _: adopted.append(record.revision),
        awaits=lambda *_: False,
        withdraw=lambda _: None,
    )
    bench.store(pair.record(), pair.profiles)
    routes.start()
    await kit.until(lambda: adopted == [1])
    assert failing.failures == 1
    await routes.close()
    await redis.aclose()


@pytest.mark.parametrize(
    "endpoint", ["a\0b:80", "a..b:80", ".:80", f"{'x' * 70}.y:80", f"{'x.' * 200}:80", "%:80", "-:1"]
)
async def test_a_name_nobody_can_look_up_leaves_the_others_alone(kit: "Kit", endpoint: str) -> None:
    told: list[list[str]] = []
    addresses = Addresses(0.01, told.append, asyncio.get_running_loop().getaddrinfo)
    addresses.use([endpoint, "localhost:80"])
    await kit.until(lambda: any("127.0.0.1:80" in known for known in told))
    await asyncio.sleep(0.05)
    assert addresses._tasks and not any(task.done() for task in addresses._tasks)
    addresses.stop()


async def test_a_new_name_takes_over_only_when_it_is_known(kit: "Kit") -> None:
    answers: dict[str, list[str]] = {"old": ["10.0.0.1"]}

    async def look_up(host: str, port: int, **_: Any) -> list[Any]:
        if host not in answers:
            raise OSError("no such host")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answers[host]]

    told: list[list[str]] = []
    addresses = Addresses(0.01, told.append, look_up)
    addresses.use(["old:80"])
    await kit.until(lambda: told[-1:] == [["10.0.0.1:80"]])
    addresses.use(["new:80"])
    await asyncio.sleep(0.05)
    assert told[-1] == ["10.0.0.1:80"]
    answers["new"] = ["10.0.0.2"]
    await kit.until(lambda: told[-1] == ["10.0.0.2:80"])
    addresses.use(["10.0.0.3:80"])
    assert told[-1] == ["10.0.0.3:80"]
    addresses.stop()
