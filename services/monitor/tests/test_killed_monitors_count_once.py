"""A monitor killed at any point neither loses nor counts twice."""

import asyncio
import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kingmaker_contracts import events, feedback
from kingmaker_contracts.evidence import Evidence
from kingmaker_monitor.store import Store

if TYPE_CHECKING:
    from services.monitor.tests.conftest import Counting, Process, Reading, World

FAST = 2
"""Seeds of the fast set, killed once each; the slow ones are killed three times."""


def history(world: "World", batches: int = 60) -> list[Any]:
    """Live rows of two variants, copies, labels on time, early, twice and contradicting, a gap and repeated entries."""
    things: list[Any] = []
    sent = 0
    for seq in range(1, batches + 1):
        is_shadow = seq % 4 == 0
        variant = "gbm" if seq % 4 in (0, 3) else "lr"
        shadow = {"reason": "shadow", "assigned": 0, "first": (seq - 3) * 1000} if is_shadow else {}
        batch = world.batch(seq, 5, variant, sent=sent, **shadow)
        sent += 5
        if seq % 10 != 7:
            things.append(batch)
        if seq % 9 == 0:
            things.append(batch)
        if seq % 4 == 2:
            things.append(world.labels((seq * 1000, 1), (seq * 1000 + 1, 0), ((seq + 1) * 1000, 1)))
        if seq % 8 == 2:
            things.append(world.labels((seq * 1000, 0), (seq * 1000 + 1, 0)))
    return things


def facts(evidence: Evidence) -> Any:
    """All of the evidence that does not depend on when it was made; sums to the precision of adding floats."""

    def rounded(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: rounded(inner) for key, inner in value.items() if key not in ("as_of", "late_seconds")}
        return round(value, 9) if isinstance(value, float) else value

    import msgspec

    return rounded(msgspec.to_builtins(evidence))


def expected(new_counting: Callable[..., Any], world: "World", things: list[Any]) -> Any:
    counting = new_counting("expected.db")
    return facts(counting.take(*things, now_ms=round(time.time() * 1000)))


@pytest.mark.parametrize("statement", [1, 2, 4, 7, 11, 16, 23, 31, 47, 60, 81, 100, 130, 160, 200, 240])
def test_killed_between_any_two_statements(new_counting: Callable[..., Any], world: "World", statement: int) -> None:
    things = history(world)
    want = expected(new_counting, world, things)
    counting = new_counting("killed.db")
    now_ms = round(time.time() * 1000)
    counting.take(*things[:20], now_ms=now_ms)
    counting.store.close()
    child = os.fork()
    if child == 0:
        try:
            apply_and_die(new_counting, world, things[20:50], now_ms, statement)
        finally:
            os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    survivor = new_counting("killed.db")
    applied = survivor.state.positions[world.event_stream.key].offset != offset(world, things[:20])
    survivor.take(*things[50 if applied else 20 :], now_ms=now_ms)
    assert facts(survivor.evidence) == want


def apply_and_die(
    new_counting: Callable[..., Any], world: "World", things: list[Any], now_ms: int, statement: int
) -> None:
    counting = new_counting("killed.db")
    left = statement

    def count_down(_: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    counting.store.sql.set_trace_callback(count_down)
    counting.take(*things, now_ms=now_ms)
    os.kill(os.getpid(), signal.SIGKILL)  # fewer statements than that: killed after the commit


@pytest.mark.parametrize("statement", range(1, 40))
def test_killed_while_its_file_is_made(tmp_path: Path, statement: int) -> None:
    """Nothing was lost, and so nothing is said to be."""
    child = os.fork()
    if child == 0:
        try:
            make_and_die(tmp_path / "state.db", statement)
        finally:
            os._exit(0)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    store = Store.open(tmp_path / "state.db")
    assert store.mishaps() == []
    store.close()


def make_and_die(path: Path, statement: int) -> None:
    left = statement
    connect = sqlite3.connect

    def count_down(_: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def traced(*args: Any, **wanted: Any) -> sqlite3.Connection:
        connection = connect(*args, **wanted)
        connection.set_trace_callback(count_down)
        return connection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", traced)
        Store.open(path)
    os.kill(os.getpid(), signal.SIGKILL)  # fewer statements than that


def offset(world: "World", things: list[Any]) -> bytes:
    read = next(read for read in world.read(*things) if read.stream == world.event_stream)
    return bytes(read.entries[-1][0])


@pytest.mark.parametrize(
    "seed", [*range(FAST), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(FAST, 24))]
)
def test_a_process_killed_at_random_moments_ends_with_the_same_evidence(
    seed: int,
    new_counting: "Callable[..., Counting]",
    new_process: "Callable[..., Process]",
    publish: Callable[..., None],
    valkey: Any,
    world: "World",
) -> None:
    things = history(world, 100)
    want = expected(new_counting, world, things)
    publish(valkey.client, world.plan())
    dice = random.Random(seed)
    monitor = new_process(valkey.url)

    def send() -> None:
        client = valkey.client
        for thing in things:
            publish(client, thing)
            time.sleep(0.01)

    monitor.start()
    monitor.until(lambda: monitor.get("/health/ready").status_code == 200)
    sender = threading.Thread(target=send)
    sender.start()

    def has_stored(rows: int) -> bool:
        return bool(monitor.evidence().events.stored >= rows)

    for _ in range(1 if seed < FAST else 3):
        monitor.until(partial(has_stored, dice.randint(20, 250)))
        time.sleep(dice.random() * 0.1)
        monitor.stop(signal.SIGKILL)
        monitor.start()
    sender.join()
    monitor.until(lambda: facts(monitor.evidence()) == want)
    assert monitor.stop() == 0


async def test_a_label_waits_for_a_prediction_that_came_while_the_monitor_was_away(
    new_counting: Callable[..., "Counting"],
    new_reading: Callable[..., "Reading"],
    publish: Callable[..., None],
    valkey: Any,
    world: "World",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counting = new_counting()
    before = new_reading(counting)
    hour_ago = world.t0 - 3_600_000
    valkey.client.xadd(world.event_stream.key, {"b": events.encode(world.batch(1))}, id=f"{hour_ago}-0")
    valkey.client.xadd(world.feedback_stream.key, {"b": feedback.encode(world.labels((2000, 1)))}, id=f"{hour_ago}-0")
    publish(valkey.client, world.plan())
    await before.until(lambda: counting.evidence.feedback.parked == 1 and counting.evidence.events.stored == 10)
    counting.store.sql.execute("UPDATE labels SET arrived = ?", (hour_ago,))
    publish(valkey.client, world.batch(2))
    counting.reopen()
    after = new_reading(counting)
    await after.evaluator.step()
    with monkeypatch.context() as still:
        still.setattr(after.blocking, "xread", lambda *_, **__: asyncio.Event().wait())
        await after.until(lambda: bool(after.reader.standings))
    await after.evaluator.step()
    await after.until(lambda: counting.evidence.events.stored == 20)
    found = counting.evidence.feedback
    assert (found.joined, found.unknown) == (1, 0)
