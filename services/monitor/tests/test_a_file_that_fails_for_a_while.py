"""A state file that can neither be written nor read for a while, as on a volume that is away: nothing is left out."""

import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from kingmaker_monitor.store import Store

if TYPE_CHECKING:
    from services.monitor.tests.conftest import Counting, Reading, World


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


@pytest.fixture
async def away(
    reading: "Reading",
    counting: "Counting",
    publish: Callable[..., None],
    valkey: Any,
    world: "World",
    monkeypatch: pytest.MonkeyPatch,
) -> Away:
    """Ten answers are counted; the next round can neither be written nor forgotten."""
    publish(valkey.client, world.plan(), world.batch(1))
    await reading.until(lambda: counting.evidence.events.stored == 10)
    made = Away(monkeypatch)
    made.once("save_progress")
    made.once("load")
    return made


async def test_entries_whose_round_could_neither_be_written_nor_forgotten_are_read_again(
    reading: "Reading",
    counting: "Counting",
    publish: Callable[..., None],
    valkey: Any,
    world: "World",
    away: Away,
) -> None:
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
    reading: "Reading",
    counting: "Counting",
    world: "World",
    away: Away,
) -> None:
    with pytest.raises(sqlite3.OperationalError):
        counting.take(world.batch(2))
    assert away.failed == ["save_progress", "load"]
    await reading.evaluator.step()
    shown = reading.board.snapshot.models["flights"].evidence
    assert shown is not None
    assert shown.events.stored == 10


def test_a_profile_that_could_not_be_written_is_fetched_again(
    new_counting: "Callable[..., Counting]", world: "World"
) -> None:
    counting = new_counting(profile=False)
    counting.take(world.batch(1, first=0), world.labels((0, 1)))
    counting.store.sql.execute("PRAGMA query_only = 1")
    with pytest.raises(sqlite3.OperationalError):
        counting.book.learn(world.schema, world.raw_profile, world.t0)
    counting.store.sql.execute("PRAGMA query_only = 0")
    assert counting.book.profiles.missing(world.schema)
    counting.book.learn(world.schema, world.raw_profile, world.t0)
    assert counting.evidence.variants["lr"].quality.n == 1


def test_a_profile_that_is_damaged_in_the_file_is_replaced(counting: "Counting", world: "World") -> None:
    counting.take(world.batch(1, first=0), world.labels((0, 1)))
    counting.store.sql.execute("UPDATE profiles SET raw = x'00'")
    counting.reopen()
    assert counting.book.profiles.get(world.schema) is None
    counting.book.learn(world.schema, world.raw_profile, world.t0)
    assert counting.evidence.variants["lr"].quality.n == 1, "what was judged by it once is not judged again"
    counting.reopen()
    assert counting.book.profiles.get(world.schema) is not None
