"""A small world to monitor: one profile, batches as a gateway writes them, a book to count them, a real process."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from kingmaker_contracts import events, feedback, keys, prediction_ids
from kingmaker_contracts.acks import EventAccount, GatewayAck
from kingmaker_contracts.evidence import Evidence
from kingmaker_contracts.labels import REASONS
from kingmaker_contracts.plan import Plan, PlannedVariant, Retention
from kingmaker_contracts.profile import (
    CategoricalReference,
    Feature,
    NumericReference,
    Output,
    Profile,
    Reference,
    Score,
    sha256_of,
)
from kingmaker_contracts.wire import write_json
from kingmaker_monitor import evidence
from kingmaker_monitor.app import end
from kingmaker_monitor.evaluate import Evaluator
from kingmaker_monitor.ingest.decoding import Read, Stream, decode
from kingmaker_monitor.ingest.discovery import Discovery
from kingmaker_monitor.ingest.ownership import Leases
from kingmaker_monitor.ingest.reader import Reader
from kingmaker_monitor.ingest.rounds import Book
from kingmaker_monitor.profiles import Profiles
from kingmaker_monitor.snapshot import Board
from kingmaker_monitor.store import Store
from kingmaker_servicekit import redis_client

MODEL = "default/flights"
T0 = round(time.time()) * 1000 - 60_000
"""A minute ago: a real monitor expires what is older than its retention."""


class World:
    """Makes what the rest of Kingmaker would send. Everything is a function of its arguments."""

    model = MODEL
    t0 = T0
    event_stream = Stream(MODEL, "events", 0)
    feedback_stream = Stream(MODEL, "feedback", 0)

    def __init__(self) -> None:
        dice = np.random.default_rng(1)
        distance = dice.normal(1000, 200, 20_000).astype(np.float32)
        score = dice.beta(1, 5, 20_000).astype(np.float32)
        self.profile = Profile(
            name="flights",
            onnx_sha256="0" * 64,
            inputs=[
                Feature("distance", "FP32", [-1, 1], "numeric"),
                Feature("carrier", "BYTES", [-1, 1], "categorical", nullable=True),
            ],
            outputs=[Output("probabilities", "FP32", [-1, 2])],
            score=Score("binary", "probabilities", 1, "1", ["0", "1"]),
            reference=Reference(
                rows=20_000,
                numeric={"distance": self.reference(distance)},
                categorical={"carrier": CategoricalReference(["UA", "DL"], [12_000, 7_000], 900, 100)},
                score=self.reference(score),
            ),
            quality=None,
            parity=None,
            created_at="2026-01-01T00:00:00Z",
        )
        self.raw_profile = write_json(self.profile)
        self.schema = sha256_of(self.raw_profile)

    @staticmethod
    def reference(values: NDArray[np.float32], bins: int = 100) -> NumericReference:
        edges = np.unique(np.quantile(values.astype(np.float64), np.linspace(0, 1, bins + 1)[1:-1]))
        counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)
        return NumericReference(
            edges.tolist(),
            counts.tolist(),
            0,
            float(values.min()),
            float(values.max()),
            float(values.mean()),
            float(values.std()),
        )

    def plan(self, rollout: str = "r1", retention: Retention | None = None, **versions: str) -> Plan:
        versions = versions or {"lr": "1", "gbm": "2"}
        variants = [
            PlannedVariant(name, "challenger" if number else "champion", version, self.schema)
            for number, (name, version) in enumerate(versions.items())
        ]
        return Plan("default", "flights", 1, 1, rollout, variants, retention=retention or Retention())

    def id(self, number: int, unix_ms: int = T0) -> bytes:
        return prediction_ids.new(unix_ms, number.to_bytes(9, "big"), 0)

    def batch(self, seq: int, count: int = 10, variant: str = "lr", **wanted: Any) -> events.EventBatch:
        """A batch as a gateway writes it. wanted: fields of the header, columns, ids (numbers), features.

        Without `first`, ids follow from seq; sent follows from seq when every batch has `count` rows.
        """
        dice = np.random.default_rng(seq * 1000 + (variant == "gbm"))
        first = wanted.pop("first", seq * 1000)
        ids = np.array([self.id(first + i) for i in range(count)], "V16")
        score = dice.beta(1, 5, count).astype("<f4")
        columns: dict[str, NDArray[Any]] = {
            "id": ids,
            "row": np.zeros(count, "<u2"),
            "assigned": np.full(count, variant == "gbm", "<u1"),
            "reason": np.zeros(count, "<u1"),
            "eligible": np.ones(count, "<u1"),
            "key_hash": np.zeros(count, "<u8"),
            "dt": np.arange(count, dtype="<u4"),
            "latency": dice.integers(500, 9000, count).astype("<u4"),
            "status": np.full(count, 200, "<u2"),
            "score": score,
            "label": (score >= 0.5).astype("<u1"),
        }
        for name in list(wanted):
            if name == "reason":
                codes = [REASONS.index(reason) for reason in np.broadcast_to(wanted.pop(name), count).tolist()]
                columns[name] = np.array(codes, "<u1")
            elif name in columns:
                columns[name] = np.array(np.broadcast_to(wanted.pop(name), count), events.COLUMNS[name])
        distance = dice.normal(1000, 200, count)
        carrier = dice.choice([0.0, 1.0], count)
        header: dict[str, Any] = {
            "producer": "gw-1",
            "seq": seq,
            "sent": (seq - 1) * count,
            "dropped": 0,
            "t0": T0,
            "revision": 1,
            "rollout": "r1",
            "variant": variant,
            "version": {"lr": "1", "gbm": "2"}.get(variant, "1"),
            "role": "champion" if variant == "lr" else "challenger",
            "schema": self.schema,
            "variants": ["lr", "gbm"],
            "features": np.array([distance, carrier], np.float32),
        }
        return events.EventBatch(columns=columns, **(header | wanted))

    def labels(self, *labels: tuple[Any, ...], received_at: int = T0) -> feedback.FeedbackBatch:
        """labels: (number of the id, label[, observed_at[, source]])."""
        rows = [feedback.LabelEvent(self.id(number), None, *rest) for number, *rest in labels]
        return feedback.FeedbackBatch(received_at, rows)

    def read(self, *things: Any, acks: dict[str, EventAccount] | None = None, first: int = 1) -> list[Read]:
        """Reads of one round: batches and labels, each on its stream."""
        parts: dict[Stream, list[tuple[bytes, dict[bytes, bytes]]]] = {self.event_stream: [], self.feedback_stream: []}
        for number, thing in enumerate(things, first):
            is_event = isinstance(thing, events.EventBatch)
            raw = events.encode(thing) if is_event else feedback.encode(thing)
            parts[self.event_stream if is_event else self.feedback_stream].append((b"%d-0" % number, {b"b": raw}))
        return [
            Read(stream, entries, (acks or {}) if stream is self.event_stream else {})
            for stream, entries in parts.items()
            if entries or (acks and stream is self.event_stream)
        ]


class Counting:
    """A book on a file of its own, and what it makes of what it is given."""

    def __init__(
        self, world: World, path: Path, plan: Plan | None = None, profile: bool = True, closed_lives: int = 100
    ) -> None:
        self.world, self.path, self._closed_lives = world, path, closed_lives
        self.store = Store.open(path)
        self.book = Book(self.store, Profiles(time.monotonic), closed_lives)
        self.book.follow({MODEL: plan or world.plan()}, {MODEL: 1})
        if profile:
            self.book.learn(world.schema, world.raw_profile, T0)

    def take(self, *things: Any, now_ms: int = T0, acks: dict[str, EventAccount] | None = None) -> Evidence:
        self.book.apply([decode(read) for read in self.world.read(*things, acks=acks)], now_ms)
        return self.evidence

    @property
    def state(self) -> Any:
        return self.book.models[MODEL]

    @property
    def evidence(self) -> Evidence:
        return evidence.of_model(self.state, self.state.plan, self.book.profiles, "now")

    def reopen(self) -> None:
        self.store.close()
        self.store = Store.open(self.path)
        self.book = Book(self.store, Profiles(time.monotonic), self._closed_lives)


@pytest.fixture(scope="session")
def world() -> World:
    return World()


@pytest.fixture
def new_counting(world: World, tmp_path: Path) -> Iterator[Callable[..., Counting]]:
    made: list[Counting] = []

    def make(name: str = "state.db", **wanted: Any) -> Counting:
        made.append(Counting(world, tmp_path / name, **wanted))
        return made[-1]

    yield make
    for one in made:
        one.store.close()


@pytest.fixture
def counting(new_counting: Callable[..., Counting]) -> Counting:
    return new_counting()


class Reading:
    """A reader and an evaluator of a book, on one loop with the test."""

    def __init__(self, counting: Counting, url: str) -> None:
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
            await end(reading)
            await asyncio.get_running_loop().run_in_executor(self.executor, int)  # what the thread had begun is over


@pytest.fixture
async def new_reading(valkey: Any) -> AsyncIterator[Callable[[Counting], Reading]]:
    made: list[Reading] = []

    def make(counting: Counting) -> Reading:
        made.append(Reading(counting, valkey.url))
        return made[-1]

    yield make
    for one in made:
        one.executor.shutdown()
        await one.short.aclose()
        await one.blocking.aclose()


@pytest.fixture
def reading(counting: Counting, new_reading: Callable[[Counting], Reading]) -> Reading:
    return new_reading(counting)


class Process:
    """A real monitor, started, killed and started again on one state file."""

    def __init__(self, folder: Path, redis_url: str, port: int, **settings: str) -> None:
        self.folder, self.port = folder, port
        self.state_file = folder / "monitor.db"
        self.log = folder / "monitor.log"
        self.env = {
            **os.environ,
            "KINGMAKER_MONITOR_REDIS_URL": redis_url,
            "KINGMAKER_MONITOR_STATE_FILE": str(self.state_file),
            "KINGMAKER_MONITOR_PORT": str(port),
            "KINGMAKER_MONITOR_EVALUATE_SECONDS": "0.2",
            **{f"KINGMAKER_MONITOR_{name.upper()}": value for name, value in settings.items()},
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kingmaker_monitor"], env=self.env, stdout=log, stderr=log
            )

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(30)
        self.process = None
        return code

    def run(self) -> tuple[int, str]:
        """Start one that ends by itself; its exit code and what it said."""
        done = subprocess.run(
            [sys.executable, "-m", "kingmaker_monitor"], env=self.env, capture_output=True, timeout=30, check=False
        )
        return done.returncode, done.stderr.decode()

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=20)

    def evidence(self) -> Evidence:
        return msgspec.json.decode(self.get("/api/models/flights").content, type=Evidence)

    def until(self, condition: Callable[[], Any], seconds: float = 30) -> Any:
        """Poll until the condition holds; answers that are not there yet are no."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                found = condition()
                if found:
                    return found
            except (httpx.HTTPError, msgspec.DecodeError):
                pass
            if time.monotonic() > deadline:
                raise AssertionError(f"still not so after {seconds} s; log:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.03)


@pytest.fixture
def new_process(tmp_path: Path, free_port: int) -> Iterator[Callable[..., Process]]:
    made: list[Process] = []

    def make(redis_url: str, **settings: str) -> Process:
        made.append(Process(tmp_path, redis_url, int(settings.pop("port", free_port)), **settings))
        return made[-1]

    yield make
    for one in made:
        one.stop(signal.SIGKILL)


@pytest.fixture
def publish(world: World) -> Callable[..., None]:
    """Write into a Valkey what controller and gateways would: `publish(client, *batches or labels)`."""

    def write(client: Any, *things: Any) -> None:
        for thing in things:
            if isinstance(thing, Plan):
                client.sadd(keys.MODELS, keys.model_id(thing.namespace, thing.name))
                client.set(keys.plan(thing.namespace, thing.name), write_json(thing))
                client.set(keys.profile(thing.namespace, thing.name, world.schema), world.raw_profile)
            elif isinstance(thing, GatewayAck):
                client.set(keys.gateway(thing.producer), write_json(thing))
            elif isinstance(thing, events.EventBatch):
                client.xadd(world.event_stream.key, {keys.ENTRY_FIELD: events.encode(thing)})
            else:
                client.xadd(world.feedback_stream.key, {keys.ENTRY_FIELD: feedback.encode(thing)})

    return write
