"""A state file that can neither be written nor read for a while, as on a volume that is away: nothing is left out."""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from kingmaker_monitor.evaluate import Evaluator
from kingmaker_monitor.ingest.discovery import Discovery
from kingmaker_monitor.ingest.ownership import Leases
from kingmaker_monitor.ingest.reader import Reader
from kingmaker_monitor.snapshot import Board
from kingmaker_monitor.store import Store
from kingmaker_servicekit import redis_client

if TYPE_CHECKING:
    from services.monitor.tests.conftest import Counting, World


class Reading:
    """A reader and an evaluator of a book, on one loop with the test."""

    def __init__(self, counting: "Counting", url: str) -> None:
        self.executor = ThreadPoolExecutor(1)
        self.short, self.blocking = redis_client.connect(url), redis_client.connect_blocking(url)
        leases = Leases(self.short, counting.store.id, seconds=60)
        discovery = Discovery(self.short, "default")
        self.reader = Reader(counting.book, discovery, leases, self.blocking, executor=self.executor, partitions=1)
        self.board = Board()
        self.evaluator = Evaluator(
            counting.book, self.reader, leases, executor=self.executor, board=self.board, every_s=1, drift_s=1
        )

    async def until(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        """Read until the condition holds."""
        reading = asyncio.create_task(self.reader.run())
        deadline = time.monotonic() + seconds
        try:
            while not condition():
                assert not reading.done()
                assert time.monotonic() < deadline
                await asyncio.sleep(0.01)
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading
            await asyncio.get_running_loop().run_in_executor(self.executor, int)  # what the thread had begun is over


@pytest.fixture
async def reading(counting: "Counting", valkey: Any) -> AsyncIterator[Reading]:
    made = Reading(counting, valkey.url)
    yield made
    made.executor.shutdown()
    await made.short.aclose()
    await made.blocking.aclose()


class Away:
    """Makes methods of every store fail once from now on, as SQLite does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.failed: list[str] = []

    def once(self, name: str) -> None:
        works = getattr(Store, name)

        def fail(*args: Any, **kwargs: Any) -> Any:
            if name in self.failed:
                return works(*args, **kwargs)
            self.failed.append(name)
            raise sqlite3.OperationalError("disk I/O error")

        self._monkeypatch.setattr(Store, name, fail)


async def test_entries_whose_round_could_neither_be_written_nor_forgotten_are_read_again(
    reading: Reading,
    counting: "Counting",
    publish: Callable[..., None],
    valkey: Any,
    world: "World",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publish(valkey.client, world.plan(), world.batch(1))
    await reading.until(lambda: counting.evidence.events.stored == 10)
    away = Away(monkeypatch)
    away.once("save_progress")
    away.once("load")
    publish(valkey.client, world.batch(2, variant="gbm"))
    await reading.until(lambda: away.failed == ["save_progress", "load"])
    publish(valkey.client, world.labels((1000, 1), (2000, 1)))
    await reading.until(lambda: counting.evidence.feedback.received == 2)
    counting.reopen()
    evidence = counting.evidence
    assert (evidence.events.stored, evidence.events.duplicates) == (20, 0)
    assert (evidence.feedback.joined, evidence.feedback.parked) == (2, 0)
    assert evidence.variants["gbm"].answered == 10


async def test_no_evidence_is_made_of_a_round_that_was_not_written(
    reading: Reading,
    counting: "Counting",
    publish: Callable[..., None],
    valkey: Any,
    world: "World",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    publish(valkey.client, world.plan(), world.batch(1))
    await reading.until(lambda: counting.evidence.events.stored == 10)
    away = Away(monkeypatch)
    away.once("save_progress")
    away.once("load")
    with pytest.raises(sqlite3.OperationalError):
        counting.take(world.batch(2))
    await reading.evaluator.step()
    shown = reading.board.snapshot.models["flights"].evidence
    assert shown is not None
    assert shown.events.stored == 10
