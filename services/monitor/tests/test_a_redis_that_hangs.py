"""A Redis that takes questions and answers none: each waits for as long as it may, so few are asked."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import redis

from kingmaker_monitor.app import end
from kingmaker_monitor.ingest.ownership import Leases

if TYPE_CHECKING:
    from services.monitor.tests.conftest import Reading, World


@pytest.mark.parametrize(
    ("error", "asked"), [(redis.TimeoutError("no answer"), 1), (redis.ResponseError("WRONGTYPE"), 3)]
)
async def test_a_look_waits_once_however_many_models_have_evidence(
    reading: "Reading",
    publish: Callable[..., None],
    valkey: Any,
    world: "World",
    monkeypatch: pytest.MonkeyPatch,
    error: redis.RedisError,
    asked: int,
) -> None:
    publish(valkey.client, *[msgspec.structs.replace(world.plan(), name=name) for name in ("ads", "flights", "loans")])
    await reading.until(lambda: len(reading.reader.models) == 3)
    models = []

    async def fail(_: Leases, model: str, *args: Any) -> bool:
        models.append(model)
        raise error

    with monkeypatch.context() as hanging:
        hanging.setattr(Leases, "write", fail)
        await reading.evaluator.step()
    assert len(models) == asked
    await reading.evaluator.step()
    assert len(valkey.client.keys("*:evidence")) == 3


async def test_a_loop_that_was_just_sending_ends_when_it_is_told_to() -> None:
    """As redis-py sends: a cancellation that comes with the end of what is waited for is taken for nothing."""
    sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def loop() -> None:
        await asyncio.wait_for(sent, 60)
        await asyncio.Event().wait()

    task = asyncio.create_task(loop())
    await asyncio.sleep(0)
    sent.set_result(None)
    async with asyncio.timeout(10):
        await end(task)
    assert task.cancelled()
