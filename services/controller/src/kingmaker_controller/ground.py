"""What leading a file and leading a cluster have in common, and the small things both do with it."""

import asyncio
import contextlib
import socket
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from prometheus_client import CollectorRegistry

from kingmaker_contracts import keys
from kingmaker_controller.errors import StoreUnavailable
from kingmaker_controller.metrics import Metrics
from kingmaker_controller.redis_store import RedisStore
from kingmaker_controller.settings import Settings
from kingmaker_controller.state import StoredModel

DRAIN_S: Final = 1.0
"""What requests to the API get at SIGTERM."""


@dataclass(frozen=True, slots=True)
class Ground:
    """listening: the bound socket of the API; token: what /api asks for."""

    settings: Settings
    token: str
    registry: CollectorRegistry
    metrics: Metrics
    store: RedisStore
    listening: socket.socket


def now() -> datetime:
    return datetime.now(UTC)


async def epochs(models: Iterable[StoredModel], store: RedisStore) -> list[int]:
    """Every epoch anyone may have seen. Without Redis the statuses and the lease must do; a record with a
    higher one raises ours when it is met."""
    known = list(models)
    found = [m.status.routing.epoch for m in known if m.status.routing]
    with contextlib.suppress(StoreUnavailable):
        for model in known:
            stored = await store.read(*keys.split_model_id(model.model), frozenset())
            found += [stored.record.epoch] if stored.record else []
        acknowledged = await store.gateways([model.model for model in known])
        found += [gateway.epoch for gateways in acknowledged.values() for gateway in gateways]
    return found


async def together(*work: Coroutine[Any, Any, None], last_words_s: float = 3.0) -> None:
    """All of it, until one ends; the others end with it. What ended first is raised if it failed.

    One that was told to end and has not after last_words_s is told again: wait_for of Python 3.11, which redis-py sends
    with, swallows a cancellation that comes just after what it waits for.
    """
    tasks = [asyncio.create_task(each) for each in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        left = set(tasks)
        while left:
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=last_words_s)
        await asyncio.gather(*tasks, return_exceptions=True)  # so that none is said to be never retrieved
    for task in done:
        task.result()
