"""Write every prediction to Redis without a request ever waiting for it.

The request path leaves answered frames in a bounded buffer, by reference, on piles of one answerer each. One task
encodes a pile as soon as it makes a full batch or has many pieces, and whatever there is every flush_ms, so that no
request is kept for longer. What gets little traffic thus gets few entries: one costs as much as hundreds of its rows.
Another task appends the entries to the model's stream in order, every flush_ms or when a batch is full. A batch that
could not be written is kept and tried again with the same number, so a reader can tell a repeated entry from a lost
one. When the buffer is full, the newest rows are dropped and counted: nothing that has a number is ever given up while
the process lives, hence stored = sent - dropped once the buffer is empty.
"""

import asyncio
import contextlib
import logging
from collections import deque
from dataclasses import dataclass, field

from prometheus_client import Counter
from redis.asyncio import Redis
from redis.exceptions import RedisError

from kingmaker_contracts import events, keys
from kingmaker_contracts.acks import EventAccount
from kingmaker_gateway import envelope
from kingmaker_gateway.answerers import Answerer
from kingmaker_gateway.metrics import Metrics
from kingmaker_gateway.runs import Run
from kingmaker_gateway.settings import RecorderSettings
from kingmaker_servicekit.quick_metrics import Count
from kingmaker_servicekit.redis_errors import is_full

logger = logging.getLogger(__name__)

_ENTRIES_PER_TRIP = 16
_RECENT = 0.02
"""Weight of the newest entry in the mean size of entries."""
_MOST_RUNS = 128
"""Encoded together. Where requests travel alone an entry is made of many small runs, and one request would wait for all
of them to be joined."""
_FINAL_ATTEMPTS = 3
_FINAL_S = 3.0
"""After which no further attempt begins; one takes some seconds when Redis is silent."""


@dataclass(slots=True, frozen=True)
class _Entry:
    key: str
    model: str
    seq: int
    rows: int
    raw: bytes


@dataclass(slots=True)
class _Pile:
    """What becomes one entry: runs of one answerer, all with inputs or all without, in the order they were answered.
    rows: theirs, together."""

    runs: list[Run] = field(default_factory=list)
    rows: int = 0


@dataclass(slots=True)
class _Stream:
    """The accounts of one model's stream. sent: rows offered; encoded: rows that got a sequence number;
    written: rows Redis took; unsent_bytes: of entries it did not take yet; is_refused: though it is there and not full,
    it did not take the last one; mean_bytes: of an entry, lately; growing: piles by answerer and whether there are
    inputs; full: those that get no more."""

    sent: Count
    given_up: dict[str, Counter]
    dropped: int = 0
    encoded: int = 0
    seq: int = 0
    written_seq: int = 0
    written: int = 0
    unsent_bytes: int = 0
    is_refused: bool = False
    mean_bytes: float = 0.0
    growing: dict[tuple[Answerer, bool], _Pile] = field(default_factory=dict)
    full: list[_Pile] = field(default_factory=list)


class Recorder:
    """Owns the two tasks. offer() belongs to the request path, everything else runs behind it."""

    def __init__(self, redis: Redis, settings: RecorderSettings, partition: int, metrics: Metrics) -> None:
        self._redis = redis
        self._settings = settings
        self._partition = partition
        self._metrics = metrics
        self._streams: dict[str, _Stream] = {}
        self._unsent: deque[_Entry] = deque()
        self._buffered = 0
        self._unsent_bytes = 0
        self._full = asyncio.Event()
        self._has_unsent = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._failing = False
        self._stop = asyncio.Event()
        self.producer = envelope.new_producer()
        metrics.events_buffered.set_function(lambda: self._buffered)

    @property
    def accounts(self) -> dict[str, EventAccount]:
        return {
            model: EventAccount(s.sent.value, s.dropped, s.written_seq, s.written) for model, s in self._streams.items()
        }

    def offer(self, run: Run) -> None:
        """Keep answered requests for writing, or drop and count their rows. Never waits."""
        model, rows = run.by.model, run.rows
        stream = self._streams.get(model) or self._begin(model)
        stream.sent.value += rows
        if self._buffered + rows > self._settings.buffer_rows or (stream.is_refused and self._is_too_much()):
            self._drop(model, rows, "buffer_full")
            return
        self._buffered += rows
        most, kind = self._settings.batch_rows, (run.by, bool(run.inputs))
        pile = stream.growing.get(kind)
        if pile is None or pile.rows + rows > most:
            pile = self._begin_pile(stream, kind, pile)
        pile.runs.append(run)
        pile.rows += rows
        if pile.rows >= most or len(pile.runs) >= _MOST_RUNS:
            self._end_pile(stream, kind)

    def lose(self, model: str, rows: int) -> None:
        """Count answered rows of which nothing can be kept."""
        stream = self._streams.get(model) or self._begin(model)
        stream.sent.value += rows
        self._drop(model, rows, "unencodable")

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._encode_all(), name="recorder encodes"),
            asyncio.create_task(self._write_all(), name="recorder writes"),
        ]

    async def close(self) -> None:
        """Write what is left; what Redis does not take now is dropped and counted."""
        self._stop.set()
        last_moment = asyncio.get_running_loop().time() + _FINAL_S
        self._full.set()
        self._has_unsent.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.encode()
        for _ in range(_FINAL_ATTEMPTS):
            if await self.write():
                return
            if asyncio.get_running_loop().time() >= last_moment:
                break
        while self._unsent:
            entry = self._unsent.popleft()
            self._forget(entry)
            self._drop(entry.model, entry.rows, "shutdown")

    def _begin(self, model: str) -> _Stream:
        stream = self._streams[model] = _Stream(*self._metrics.events(keys.split_model_id(model)[1]))
        return stream

    def _begin_pile(self, stream: _Stream, kind: tuple[Answerer, bool], grown: _Pile | None) -> _Pile:
        if grown is not None:
            self._end_pile(stream, kind)
        pile = stream.growing[kind] = _Pile()
        return pile

    def _end_pile(self, stream: _Stream, kind: tuple[Answerer, bool]) -> None:
        stream.full.append(stream.growing.pop(kind))
        self._full.set()

    async def _encode_all(self) -> None:
        clock = asyncio.get_running_loop().time
        flush_s = self._settings.flush_ms / 1000
        due = clock() + flush_s
        while not self._stop.is_set():
            try:
                async with asyncio.timeout_at(due):
                    await self._full.wait()
            except TimeoutError:
                is_due = True  # the clock, which counts milliseconds, may be behind the timer by a rounding
            else:
                is_due = clock() >= due
            self._full.clear()
            self.encode(only_full=not is_due)
            if is_due:
                due = clock() + flush_s
            if self._unsent and (is_due or self._buffered >= self._settings.batch_rows):
                self._has_unsent.set()

    async def _write_all(self) -> None:
        while not self._stop.is_set():
            await self._has_unsent.wait()
            self._has_unsent.clear()
            try:
                is_done = await self.write()
            except Exception:
                is_done = False
                self._metrics.loop_errors.labels("recorder").inc()
                logger.exception("the recorder failed unexpectedly")
            if not is_done:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._settings.flush_ms / 1000):
                        await self._stop.wait()
                self._has_unsent.set()

    def encode(self, *, only_full: bool = False) -> None:
        """Turn waiting predictions into numbered entries. only_full: piles that may grow wait for company."""
        for model, stream in self._streams.items():
            piles, stream.full = stream.full, []
            if not only_full:
                piles += stream.growing.values()
                stream.growing.clear()
            for pile in piles:
                self._encode(model, stream, pile.runs, pile.rows)

    def _encode(self, model: str, stream: _Stream, group: list[Run], rows: int) -> None:
        sent = stream.encoded + stream.dropped
        try:
            batch = envelope.build(group, self.producer, stream.seq + 1, sent=sent, dropped=stream.dropped)
            raw = events.encode(batch)
        except Exception:  # rows that are not understood must not cost the others their place
            self._buffered -= rows
            self._drop(model, rows, "unencodable")
            logger.exception("predictions could not be encoded", extra={"model": model, "rows": rows})
            return
        if self._unsent_bytes + len(raw) > self._settings.buffer_bytes:
            self._buffered -= rows
            self._drop(model, rows, "buffer_full")
            return
        self._unsent_bytes += len(raw)
        stream.unsent_bytes += len(raw)
        stream.mean_bytes += (len(raw) - stream.mean_bytes) * (_RECENT if stream.seq else 1)
        stream.seq += 1
        stream.encoded += rows
        key = keys.events(*keys.split_model_id(model), self._partition)
        self._unsent.append(_Entry(key, model, stream.seq, rows, raw))

    async def write(self) -> bool:
        """Append entries in order until none is left or Redis fails; whether none is left."""
        while self._unsent:
            entries = [self._unsent[i] for i in range(min(_ENTRIES_PER_TRIP, len(self._unsent)))]
            pipeline = self._redis.pipeline(transaction=False)
            for entry in entries:
                pipeline.xadd(
                    entry.key,
                    {keys.ENTRY_FIELD: entry.raw},
                    maxlen=self._max_entries(self._streams[entry.model]),
                    approximate=True,
                )
            try:
                results = await pipeline.execute(raise_on_error=False)
            except (RedisError, OSError) as error:
                self._told(failing=True, reason=str(error))
                return False
            if not self._settle(entries, results):
                return False
        self._told(failing=False, reason="")
        return True

    def _max_entries(self, stream: _Stream) -> int:
        """How long a stream may be so that it holds neither too many entries nor too many bytes."""
        by_size = int(self._settings.max_stream_bytes / max(1.0, stream.mean_bytes))
        return max(1, min(self._settings.max_stream_entries, by_size))

    def _settle(self, entries: list[_Entry], results: list[object]) -> bool:
        """Forget what Redis took; keep what it refused, and everything behind it in the same stream."""
        refused: list[_Entry] = []
        models: set[str] = set()
        takes_nothing = False
        for entry, result in zip(entries, results, strict=True):
            self._unsent.popleft()
            if entry.model in models or isinstance(result, Exception):
                models.add(entry.model)
                takes_nothing = takes_nothing or (isinstance(result, Exception) and is_full(result))
                refused.append(entry)
                self._told(failing=True, reason=str(result))
                continue
            self._forget(entry)
            stream = self._streams[entry.model]
            stream.written_seq = entry.seq
            stream.written += entry.rows
            stream.is_refused = False
        for model in models:
            self._streams[model].is_refused = not takes_nothing
        if refused:  # behind all other streams, which are not to be held up
            others = [entry for entry in self._unsent if entry.model not in models]
            theirs = [entry for entry in self._unsent if entry.model in models]
            self._unsent = deque([*others, *refused, *theirs])
        return not refused

    def _forget(self, entry: _Entry) -> None:
        self._buffered -= entry.rows
        self._unsent_bytes -= len(entry.raw)
        self._streams[entry.model].unsent_bytes -= len(entry.raw)

    def _is_too_much(self) -> bool:
        """Whether streams that are refused hold more than half of the buffer: the others would lose all their rows."""
        refused = [stream for stream in self._streams.values() if stream.is_refused]
        rows = sum(stream.sent.value - stream.dropped - stream.written for stream in refused)
        size = sum(stream.unsent_bytes for stream in refused)
        return rows > self._settings.buffer_rows // 2 or size > self._settings.buffer_bytes // 2

    def _drop(self, model: str, rows: int, reason: str) -> None:
        stream = self._streams[model]
        stream.dropped += rows
        stream.given_up[reason].inc(rows)

    def _told(self, failing: bool, reason: str) -> None:
        if failing and not self._failing:
            logger.warning("events cannot be written, keeping them", extra={"reason": reason})
        if self._failing and not failing:
            logger.info("events are written again")
        self._failing = failing
