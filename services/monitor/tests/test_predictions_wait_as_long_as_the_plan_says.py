"""How long a prediction waits for its label is the resource's to say, and to change while the monitor runs."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np

from kingmaker_contracts.feedback import FeedbackBatch, LabelEvent
from kingmaker_contracts.plan import Plan, Retention

if TYPE_CHECKING:
    from services.monitor.tests.conftest import Counting, Process, World

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def plan(world: "World", seconds: int) -> Plan:
    return world.plan(retention=Retention(pending_seconds=seconds))


def aged(world: "World", seq: int, count: int, age_ms: int, **more: Any) -> Any:
    """A batch of predictions of that age."""
    ids = np.array([world.id(seq * 100_000 + i, world.t0 - age_ms) for i in range(count)], "V16")
    return world.batch(seq, count, id=ids, t0=world.t0 - age_ms, sent=0, producer=f"gw-{seq}", **more)


def label(world: "World", seq: int, age_ms: int, row: int = 0) -> FeedbackBatch:
    """Of one prediction of `aged`."""
    return FeedbackBatch(world.t0, [LabelEvent(world.id(seq * 100_000 + row, world.t0 - age_ms), None, 1)])


def held(counting: "Counting", table: str = "predictions") -> int:
    (count,) = counting.store.sql.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(count)


def test_a_shorter_wait_forgets_at_once_what_is_older_and_nothing_else(
    new_counting: "Callable[..., Counting]", world: "World"
) -> None:
    counting = new_counting(plan=plan(world, 30 * 86_400))
    counting.take(aged(world, 1, 10, 3 * DAY_MS), aged(world, 2, 7, HOUR_MS), label(world, 1, 3 * DAY_MS))
    counting.book.tidy(world.t0)
    assert (held(counting), held(counting, "labels"), counting.evidence.feedback.pending) == (17, 1, 16)
    counting.book.follow({world.model: plan(world, 86_400)}, {world.model: 1})
    late = counting.take(label(world, 3, 3 * DAY_MS)).feedback
    assert (late.expired, late.parked) == (1, 0), "a label is held against the new time before anything is forgotten"
    counting.book.tidy(world.t0)
    assert (held(counting), held(counting, "labels"), counting.evidence.feedback.pending) == (7, 0, 7)
    assert counting.state.tally.unlabelled == 9
    found = counting.take(label(world, 1, 3 * DAY_MS, row=1), label(world, 2, HOUR_MS)).feedback
    assert (found.received, found.joined, found.expired) == (4, 2, 2)
    assert counting.evidence.variants["lr"].quality.n == 2, "what was labelled in time stays counted"


def test_a_longer_wait_keeps_what_is_still_there(new_counting: "Callable[..., Counting]", world: "World") -> None:
    counting = new_counting(plan=plan(world, 86_400))
    counting.take(aged(world, 1, 10, 30 * HOUR_MS), aged(world, 2, 7, HOUR_MS))
    counting.book.tidy(world.t0)
    counting.book.follow({world.model: plan(world, 3 * 86_400)}, {world.model: 1})
    counting.book.tidy(world.t0 + 2 * DAY_MS)
    assert (held(counting), counting.evidence.feedback.pending) == (7, 7)
    found = counting.take(label(world, 2, HOUR_MS), now_ms=world.t0 + 2 * DAY_MS).feedback
    assert (found.joined, found.expired) == (1, 0)
    counting.book.tidy(world.t0 + 3 * DAY_MS)
    assert held(counting) == 0


def test_the_time_outlives_a_restart_without_redis(new_counting: "Callable[..., Counting]", world: "World") -> None:
    counting = new_counting(plan=plan(world, 3600))
    counting.take(aged(world, 1, 10, 2 * HOUR_MS), aged(world, 2, 7, HOUR_MS // 2))
    counting.reopen()
    counting.book.tidy(world.t0)
    assert held(counting) == 7


def test_a_great_many_are_forgotten_in_pieces_and_every_model_gets_its_turn(
    new_counting: "Callable[..., Counting]", world: "World"
) -> None:
    """5,000 every five seconds, as it was once, let the file of a busy model grow without end."""
    month, day, other = plan(world, 30 * 86_400), plan(world, 86_400), "default/boats"
    counting = new_counting(plan=month)
    counting.book.follow({world.model: month, other: day}, {world.model: 1, other: 1})
    for seq in range(1, 7):
        counting.take(aged(world, seq, 20_000, 2 * DAY_MS))
    counting.take(aged(world, 7, 50, HOUR_MS), label(world, 7, HOUR_MS))
    counting.take(*(label(world, 6, 2 * DAY_MS, row) for row in range(200)))
    counting.store.sql.execute(
        "INSERT INTO predictions(model, id, row, arm, kind, code, at) VALUES(?, ?, 0, 1, 0, 0, 0)",
        (counting.book.models[other].number, world.id(9, world.t0 - 2 * DAY_MS)),
    )
    counting.book.follow({world.model: day}, {world.model: 1})
    left = []
    while counting.book.is_overdue:
        counting.book.tidy(world.t0)
        left.append((held(counting), counting.book.models[other].tally.unlabelled))
    assert left == [(70_050, 1), (20_050, 1), (50, 1)], "50,000 at a time, the other model's one among the first"
    assert (held(counting, "labels"), counting.evidence.feedback.pending) == (1, 49)


def test_a_running_monitor_obeys_the_plan_both_ways(
    new_process: "Callable[..., Process]", publish: Callable[..., None], valkey: Any, world: "World"
) -> None:
    monitor = new_process(valkey.url)
    publish(valkey.client, plan(world, 30 * 86_400), aged(world, 1, 40, 2 * DAY_MS), aged(world, 2, 5, HOUR_MS))
    monitor.start()
    monitor.until(lambda: monitor.evidence().feedback.pending == 45)
    publish(valkey.client, plan(world, 86_400))
    monitor.until(lambda: monitor.evidence().feedback.pending == 5)
    publish(valkey.client, plan(world, 7 * 86_400), aged(world, 4, 4, 2 * DAY_MS))
    monitor.until(lambda: monitor.evidence().feedback.pending == 9)
    publish(valkey.client, label(world, 4, 2 * DAY_MS))
    monitor.until(lambda: monitor.evidence().feedback.joined == 1)
    monitor.stop()
    with closing(sqlite3.connect(monitor.state_file)) as file:
        assert file.execute("SELECT count(*) FROM predictions").fetchone() == (9,)
