"""What alerts are made of: a gauge follows what it speaks of, and a counter is there before it counts."""

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from kingmaker_gateway import models
from tests.fakes.fake_model_server import Fault

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Bench, Kit, Pair


async def test_a_model_is_ready_while_its_champion_can_be_asked(bench: "Bench", pair: "Pair", kit: "Kit") -> None:
    await bench.publish(pair.record(), pair.profiles)
    assert bench.metric("ready", model="flights") == 1
    await pair.champion.stop()
    await bench.predict()
    await kit.until(lambda: bench.metric("ready", model="flights") == 0)


async def test_a_variant_that_left_takes_its_open_breaker_with_it(valkey: Any, pair: "Pair", kit: "Kit") -> None:
    async with kit.running(kit.settings(valkey.url, breaker={"failures": 3}), valkey.client) as bench:
        await bench.publish(pair.record(ranges="gbm:0-9999"), pair.profiles)
        await bench.challenger_is_up("gbm")
        pair.challenger.fault = Fault.ERROR
        for _ in range(3):
            await bench.predict([kit.full_row])
        gbm = {"model": "flights", "variant": "gbm"}
        assert bench.metric("breaker_state", **gbm) == 2
        alone = pair.record(revision=2).variants[:1]
        await bench.publish(kit.record(alone, revision=2), pair.profiles)
        assert bench.registry.get_sample_value("kingmaker_gateway_breaker_state", gbm) is None
        assert bench.registry.get_sample_value("kingmaker_gateway_fallbacks_total", gbm) == 3
        await bench.publish(pair.record(revision=3), pair.profiles)
        assert bench.registry.get_sample_value("kingmaker_gateway_breaker_state", gbm) == 0


async def test_a_challenger_that_is_crowned_has_no_open_breaker(valkey: Any, pair: "Pair", kit: "Kit") -> None:
    """Nobody asks a champion's breaker, so that it would stay open for as long as the champion reigns."""
    async with kit.running(kit.settings(valkey.url, breaker={"failures": 3}), valkey.client) as bench:
        await bench.publish(pair.record(ranges="gbm:0-9999"), pair.profiles)
        await bench.challenger_is_up("gbm")
        pair.challenger.fault = Fault.ERROR
        for _ in range(3):
            await bench.predict([kit.full_row])
        gbm = {"model": "flights", "variant": "gbm"}
        assert bench.metric("breaker_state", **gbm) == 2
        crowned = msgspec.structs.replace(pair.record().variants[1], role="champion")
        await bench.publish(kit.record([crowned], revision=2), pair.profiles)
        assert bench.metric("breaker_state", **gbm) == 0


async def test_a_champion_that_was_only_prepared_leaves_no_breaker_behind(
    valkey: Any, pair: "Pair", kit: "Kit", monkeypatch: Any, free_port: int
) -> None:
    """And does not stand before the breaker of a variant that has its name."""
    monkeypatch.setattr(models, "_PATIENCE_S", 60.0)
    async with kit.running(kit.settings(valkey.url, breaker={"failures": 3}), valkey.client) as bench:
        await bench.publish(pair.record(ranges="gbm:0-9999"), pair.profiles)
        await bench.challenger_is_up("gbm")
        pair.challenger.fault = Fault.ERROR
        for _ in range(3):
            await bench.predict([kit.full_row])
        labels = [{"model": "flights", "variant": name} for name in ("gbm", "xgb")]

        def states() -> list[float | None]:
            return [bench.registry.get_sample_value("kingmaker_gateway_breaker_state", label) for label in labels]

        assert states() == [2, None]
        gbm = pair.record().variants[1]
        for revision, name in enumerate(("gbm", "xgb"), 2):
            heir = msgspec.structs.replace(
                gbm, name=name, role="champion", version="9", endpoints=[f"127.0.0.1:{free_port}"]
            )
            bench.store(kit.record([heir], revision=revision), pair.profiles)
            await asyncio.sleep(0.3)  # it is met, and waited for
        await bench.publish(pair.record(ranges="gbm:0-9999", revision=4), pair.profiles)
        assert states() == [2, None]


async def test_losses_stand_at_zero_before_the_first(bench: "Bench", pair: "Pair") -> None:
    await bench.publish(pair.record(), pair.profiles)
    await bench.predict()
    zeros = [("events_dropped_total", {"model": "flights", "reason": r}) for r in ("buffer_full", "shutdown")]
    zeros += [("routing_ignored_total", {"reason": r}) for r in ("malformed", "lower")]
    zeros += [("background_errors_total", {"loop": "recorder"})]
    for name, labels in zeros:
        assert bench.registry.get_sample_value(f"kingmaker_gateway_{name}", labels) == 0, (name, labels)
    assert bench.metric("events_sent_total", model="flights") == 1
