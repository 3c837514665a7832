"""Memory while Redis is away or silent, whatever comes and however long; and that every row given up is counted."""

import asyncio
import dataclasses
import resource
import socket
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from kingmaker_contracts import events, keys
from kingmaker_contracts.inference import Tensor
from kingmaker_gateway import runs
from kingmaker_gateway.answerers import Answerer
from kingmaker_gateway.metrics import Metrics
from kingmaker_gateway.recorder import Recorder
from kingmaker_gateway.runs import Run
from kingmaker_gateway.settings import RecorderSettings
from kingmaker_servicekit import redis_client

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Kit

MODEL = "default/flights"
FEATURES = 25
TEN_MINUTES_S = 600
ROWS_A_SECOND = 140_000
FRAME = 256


ANSWERED_US = 1_700_000_000_000_000
ANSWERED: Any = SimpleNamespace(id=bytes(16), mark=(1, 0, "weight", 0, 200), key_hash=0)
"""One answered request of one row."""


class Known:
    """What the recorder is offered, and what it says of it."""

    def __init__(self, url: str, timeout_s: float = 2.0, **settings: Any) -> None:
        self.registry = CollectorRegistry()
        self.redis = redis_client.connect(url, timeout_s=timeout_s)
        self.recorder = Recorder(self.redis, RecorderSettings(**settings), 0, Metrics(self.registry))

    def metric(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"kingmaker_gateway_{name}", labels) or 0.0

    def dropped(self, reason: str) -> float:
        return self.metric("events_dropped_total", model="flights", reason=reason)


def answerer(kit: "Kit", inputs: list[tuple[str, str]], shape: list[int]) -> Answerer:
    profile = kit.profile(inputs)
    features = [msgspec.structs.replace(feature, shape=shape) for feature in profile.inputs]
    profile = msgspec.structs.replace(profile, inputs=features)
    return Answerer(MODEL, 1, 1, "r1", "lr", "3", "champion", ("lr",), kit.sha(profile), profile)


def run_of(by: Answerer, rows: int, width: int) -> Run:
    block = np.random.default_rng(1).random((rows, width)).astype(np.float32)
    outputs = [Tensor("probabilities", "FP32", block[:, :2] if width > 1 else block)]
    return runs.of(by, [ANSWERED] * rows, [0.001] * rows, ANSWERED_US, rows, {"x": block}, outputs)


@asynccontextmanager
async def working(known: Known) -> AsyncIterator[None]:
    known.recorder.start()
    try:
        yield
    finally:
        await known.recorder.close()
        await known.redis.aclose()


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def test_ten_minutes_without_redis_at_full_rate(free_port: int, kit: "Kit") -> None:
    """Eighty-four million rows of 25 features, offered as fast as they can be; Redis refuses every connection."""
    known = Known(f"redis://127.0.0.1:{free_port}/0")
    settings = RecorderSettings()
    run = run_of(answerer(kit, [("x", "FP32")], [-1, FEATURES]), FRAME, FEATURES)
    before = resident_bytes()
    async with working(known):
        frames, most, highest = TEN_MINUTES_S * ROWS_A_SECOND // FRAME, 0.0, 0
        for at in range(frames):
            known.recorder.offer(run)
            if at % 256 == 0:
                await asyncio.sleep(0)
                most = max(most, known.metric("events_buffered"))
                highest = max(highest, resident_bytes())
        await asyncio.sleep(0)
        sent = known.metric("events_sent_total", model="flights")
        assert sent == frames * FRAME
        assert settings.buffer_rows - FRAME < most <= settings.buffer_rows
        assert known.dropped("buffer_full") == sent - known.metric("events_buffered")
        assert highest - before < 2 * settings.buffer_bytes
    assert known.dropped("buffer_full") + known.dropped("shutdown") == sent


async def test_a_silent_redis_keeps_no_request_alive(kit: "Kit") -> None:
    """While a write waits for an answer that does not come, rows are kept in their short form all the same."""
    silent = socket.create_server(("127.0.0.1", 0))
    known = Known(f"redis://127.0.0.1:{silent.getsockname()[1]}/0", timeout_s=60, flush_ms=10)
    by = answerer(kit, [("x", "FP32")], [-1, FEATURES])
    async with working(known):
        with silent:  # closed before the recorder is, which would wait for an answer once more
            known.recorder.offer(run_of(by, 1, FEATURES))
            await kit.until(lambda: known.recorder._unsent)  # now it is being written
            blocks = []
            for _ in range(20):
                run = run_of(by, 4, FEATURES)
                blocks.append(weakref.ref(run.inputs["x"]))
                known.recorder.offer(run)
                del run
                await asyncio.sleep(0.005)
            await kit.until(lambda: not any(block() is not None for block in blocks))
            assert known.metric("events_buffered") == 81
    assert known.dropped("shutdown") == 81


async def test_wide_rows_are_bounded_in_bytes(free_port: int, kit: "Kit") -> None:
    known = Known(f"redis://127.0.0.1:{free_port}/0", flush_ms=1, buffer_bytes=1_000_000)
    by = answerer(kit, [("x", "FP32")], [-1, 5000])
    async with working(known):
        for _ in range(200):
            known.recorder.offer(run_of(by, 1, 5000))
            known.recorder.encode()
        kept = known.metric("events_buffered")
        assert 1_000_000 / 20_000 * 0.8 <= kept <= 1_000_000 / 20_000
        assert known.dropped("buffer_full") == 200 - kept
    assert known.dropped("shutdown") == kept


def stored_in(valkey: Any, model: str = MODEL) -> list[events.EventBatch]:
    entries = valkey.client.xrange(keys.events(*keys.split_model_id(model), 0))
    return [events.decode(fields[keys.ENTRY_FIELD]) for _, fields in entries]


def has_stored(valkey: Any, model: str, entries: int) -> bool:
    return len(stored_in(valkey, model)) == entries


async def test_frames_whose_rows_differ_in_size_share_an_entry(valkey: Any, kit: "Kit") -> None:
    """What has no fixed size has no column: the feature is missing, and the rows are not."""
    known = Known(valkey.url, flush_ms=60_000)
    by = answerer(kit, [("x", "FP32")], [-1, -1])
    async with working(known):
        for width in (3, 5, 3):
            known.recorder.offer(run_of(by, 2, width))
    [batch] = stored_in(valkey)
    assert batch.features.shape == (1, 6)
    assert np.isnan(batch.features).all()
    assert known.recorder.accounts[MODEL].dropped == 0


async def alone_until_joined(known: Known, by: Answerer, kit: "Kit") -> None:
    """So many requests of one row each as are joined at once."""
    alone = [run_of(by, 1, 3) for _ in range(128)]
    kept = weakref.ref(alone[0].inputs["x"])
    while alone:
        known.recorder.offer(alone.pop())
    await kit.until(lambda: kept() is None)


async def test_requests_that_came_alone_are_joined_a_few_at_a_time(valkey: Any, kit: "Kit") -> None:
    """And are written with the others of the same flush, for each way to Redis costs more than joining them."""
    known = Known(valkey.url, flush_ms=60_000)
    by = answerer(kit, [("x", "FP32")], [-1, 3])
    async with working(known):
        for _ in range(3):
            await alone_until_joined(known, by, kit)
        assert stored_in(valkey) == []
    assert [batch.count for batch in stored_in(valkey)] == [128, 128, 128]


async def test_a_full_batch_is_written_however_its_requests_came(valkey: Any, kit: "Kit") -> None:
    """Else requests that come alone would fill the buffer while Redis has nothing to do."""
    known = Known(valkey.url, flush_ms=60_000, batch_rows=256)
    by = answerer(kit, [("x", "FP32")], [-1, 3])
    async with working(known):
        for _ in range(2):
            await alone_until_joined(known, by, kit)
        await kit.until(lambda: len(stored_in(valkey)) == 2)


async def test_many_requests_of_one_model_make_no_small_entries_of_another(valkey: Any, kit: "Kit") -> None:
    known = Known(valkey.url, flush_ms=60_000)
    busy = answerer(kit, [("x", "FP32")], [-1, 3])
    quiet = dataclasses.replace(busy, model="default/quiet")
    async with working(known):
        for _ in range(2):
            known.recorder.offer(run_of(quiet, 1, 3))
            await alone_until_joined(known, busy, kit)
    assert [batch.count for batch in stored_in(valkey)] == [128, 128]
    assert [batch.count for batch in stored_in(valkey, "default/quiet")] == [2]


async def test_little_traffic_makes_few_entries(valkey: Any, kit: "Kit") -> None:
    """A challenger's rows wait for the clock while its champion's fill one batch after another."""
    known = Known(valkey.url, flush_ms=60_000, batch_rows=100)
    champion = answerer(kit, [("x", "FP32")], [-1, 3])
    challenger = dataclasses.replace(champion, variant="gbm", role="challenger")

    def are_stored(entries: int) -> bool:
        return len(stored_in(valkey)) == entries

    async with working(known):
        for full in range(1, 5):
            for by, rows in ((champion, 60), (challenger, 6), (champion, 40)):
                known.recorder.offer(run_of(by, rows, 3))
            await kit.until(partial(are_stored, full))
    told = [(batch.variant, batch.seq, batch.count) for batch in stored_in(valkey)]
    assert told == [*(("lr", seq, 100) for seq in range(1, 5)), ("gbm", 5, 24)]


async def test_an_entry_has_no_more_rows_than_a_batch_unless_one_frame_has(valkey: Any, kit: "Kit") -> None:
    known = Known(valkey.url, flush_ms=60_000, batch_rows=100)
    by = answerer(kit, [("x", "FP32")], [-1, 3])
    async with working(known):
        for rows in (60, 41, 59, 250, 3):
            known.recorder.offer(run_of(by, rows, 3))
    assert [batch.count for batch in stored_in(valkey)] == [60, 100, 250, 3]


async def test_a_flush_is_taken_once(free_port: int, kit: "Kit") -> None:
    """The loop's clock may be a rounding behind the timer that has just run."""
    known = Known(f"redis://127.0.0.1:{free_port}/0", flush_ms=100)
    turns, encode = 0, known.recorder.encode

    def counted(*, only_full: bool = False) -> None:
        nonlocal turns
        turns += 1
        encode(only_full=only_full)

    known.recorder.encode = counted  # type: ignore[method-assign]
    clock = asyncio.get_running_loop().time
    began = clock()
    async with working(known):
        await kit.until(lambda: clock() > began + 0.5)
        assert 1 <= turns <= (clock() - began) / 0.1 + 1


async def test_rows_without_inputs_share_no_entry_with_others(valkey: Any, kit: "Kit") -> None:
    """There they would pass for rows whose features are missing."""
    known = Known(valkey.url, flush_ms=60_000)
    by = answerer(kit, [("x", "FP32")], [-1, 3])
    async with working(known):
        for inputs in (True, False, True, False):
            run = run_of(by, 2, 3)
            known.recorder.offer(run if inputs else msgspec.structs.replace(run, inputs={}))
    whole, without = stored_in(valkey)
    assert [(batch.count, batch.seq, batch.features.shape) for batch in (whole, without)] == [
        (4, 1, (3, 4)),
        (4, 2, (0, 4)),
    ]
    assert not np.isnan(whole.features).any()
    assert known.recorder.accounts[MODEL].dropped == 0


async def test_rows_that_cannot_be_encoded_are_counted_and_cost_no_other(valkey: Any, kit: "Kit") -> None:
    known = Known(valkey.url, flush_ms=60_000)
    good = answerer(kit, [("x", "FP32")], [-1, 3])
    odd = dataclasses.replace(good, revision=2)
    broken = run_of(odd, 2, 3)
    broken.outputs = [Tensor("probabilities", "FP32", np.zeros((3, 1), np.float32))]  # of other rows than these
    async with working(known):
        for run in (broken, run_of(good, 4, 3)):
            known.recorder.offer(run)
    account = known.recorder.accounts[MODEL]
    assert (account.sent, account.dropped, account.last_seq) == (6, 2, 1)
    assert [batch.count for batch in stored_in(valkey)] == [4]
    assert known.dropped("unencodable") == 2
    assert known.metric("events_buffered") == 0


async def test_a_stream_that_is_refused_holds_up_no_other(valkey: Any, kit: "Kit") -> None:
    """One shard of a cluster may be full, or a key be of another type, and the rest of Redis well."""
    known = Known(valkey.url, flush_ms=10)
    bad = answerer(kit, [("x", "FP32")], [-1, 3])
    good = dataclasses.replace(bad, model="default/good")
    stream = keys.events(*keys.split_model_id(MODEL), 0)
    valkey.client.set(stream, "not a stream")
    async with working(known):
        for _ in range(40):  # more than go to Redis at once
            known.recorder.offer(run_of(bad, 1, 3))
            known.recorder.encode()
        known.recorder.offer(run_of(good, 1, 3))
        await kit.until(lambda: len(stored_in(valkey, "default/good")) == 1)
        valkey.client.delete(stream)
        await kit.until(lambda: len(stored_in(valkey)) == 40)
    assert [batch.seq for batch in stored_in(valkey)] == list(range(1, 41))
    assert known.recorder.accounts[MODEL].dropped == 0


@pytest.mark.parametrize(
    ("bound", "width", "kept"),
    [({"buffer_rows": 100}, 3, range(50, 51)), ({"buffer_bytes": 1_000_000}, 5000, range(20, 28))],
    ids=["rows", "bytes"],
)
async def test_a_stream_that_is_refused_for_long_leaves_room_for_others(
    valkey: Any, kit: "Kit", bound: dict[str, int], width: int, kept: range
) -> None:
    known = Known(valkey.url, flush_ms=10, **bound)
    bad = answerer(kit, [("x", "FP32")], [-1, width])
    good = dataclasses.replace(bad, model="default/good")
    stream = keys.events(*keys.split_model_id(MODEL), 0)
    valkey.client.set(stream, "not a stream")
    async with working(known):
        known.recorder.offer(run_of(bad, 1, width))
        await kit.until(lambda: known.recorder._failing)
        for _ in range(200):
            known.recorder.offer(run_of(bad, 1, width))
            known.recorder.encode()
        assert known.metric("events_buffered") in kept
        for number in range(1, 4):
            known.recorder.offer(run_of(good, 10, width))
            await kit.until(partial(has_stored, valkey, "default/good", number))
        valkey.client.delete(stream)
        await kit.until(lambda: known.metric("events_buffered") == 0)
        known.recorder.offer(run_of(bad, 10, width))
    found = known.recorder.accounts
    assert found["default/good"].dropped == 0
    assert found[MODEL].sent - found[MODEL].dropped == sum(batch.count for batch in stored_in(valkey))
    assert found[MODEL].sent - found[MODEL].dropped - 10 in kept


async def test_a_full_redis_that_takes_nobody_s_events_leaves_nobody_half_a_buffer(own_valkey: Any, kit: "Kit") -> None:
    known = Known(own_valkey.url, flush_ms=10, buffer_rows=100)
    by = answerer(kit, [("x", "FP32")], [-1, 3])
    own_valkey.client.config_set("maxmemory", 1)
    async with working(known):
        known.recorder.offer(run_of(by, 1, 3))
        await kit.until(lambda: known.recorder._failing)
        for _ in range(200):
            known.recorder.offer(run_of(by, 1, 3))
        assert known.metric("events_buffered") == 100
        own_valkey.client.config_set("maxmemory", 0)
        await kit.until(lambda: known.metric("events_buffered") == 0)
    assert sum(batch.count for batch in stored_in(own_valkey)) == 100


async def test_stopping_does_not_wait_for_the_next_attempt(free_port: int, kit: "Kit") -> None:
    known = Known(f"redis://127.0.0.1:{free_port}/0", flush_ms=60_000, batch_rows=4)
    async with asyncio.timeout(15), working(known):
        known.recorder.offer(run_of(answerer(kit, [("x", "FP32")], [-1, FEATURES]), 4, FEATURES))
        await kit.until(lambda: known.recorder._unsent and known.recorder._failing)
    assert known.dropped("shutdown") == 4


async def test_a_prediction_of_25_features_takes_150_bytes_of_redis(valkey: Any, kit: "Kit") -> None:
    """As Redis counts them, in entries as a busy gateway writes them."""
    known = Known(valkey.url, flush_ms=60_000)
    by = answerer(kit, [("x", "FP32")], [-1, FEATURES])
    async with working(known):
        for _ in range(4):
            for _ in range(8):
                known.recorder.offer(run_of(by, FRAME, FEATURES))
            known.recorder.encode()
    rows = sum(batch.count for batch in stored_in(valkey))
    assert rows == 32 * FRAME
    assert valkey.client.memory_usage(keys.events(*keys.split_model_id(MODEL), 0), samples=0) / rows <= 150


@pytest.mark.parametrize("rows", [20, 400])
async def test_a_stream_nobody_reads_is_bounded_in_bytes(own_valkey: Any, kit: "Kit", rows: int) -> None:
    """Whatever an entry's size: a full Redis would refuse routing as well."""
    bound = 2**20
    known = Known(own_valkey.url, max_stream_bytes=bound, batch_rows=rows)
    run = run_of(answerer(kit, [("x", "FP32")], [-1, FEATURES]), rows, FEATURES)
    for _ in range(4 * bound // (rows * FEATURES * 4)):
        known.recorder.offer(run)
        known.recorder.encode()
        assert await known.recorder.write()
    await known.redis.aclose()
    stream = keys.events("default", "flights", 0)
    # Redis trims whole nodes of its list, which hold up to 100 entries or 4 kB
    assert 0.5 * bound < own_valkey.client.memory_usage(stream, samples=0) < 1.5 * bound
    assert known.dropped("buffer_full") == 0
