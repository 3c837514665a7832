"""The loop that turns counts into evidence, shows it, and writes it to Redis when there is news.

Evidence is written at least every REFRESH_S although nothing changed: its `as_of` says that the monitor
still looks. Redis being away costs the write and nothing else.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec
import redis

from kingmaker_contracts import keys
from kingmaker_contracts.evidence import Evidence
from kingmaker_contracts.plan import Plan
from kingmaker_contracts.report import ModelReport
from kingmaker_contracts.wire import write_json
from kingmaker_monitor import evidence, health, reports
from kingmaker_monitor.ingest.ownership import Leases
from kingmaker_monitor.ingest.reader import REDIS_ERRORS, Reader
from kingmaker_monitor.ingest.rounds import Book
from kingmaker_monitor.reports import Reports
from kingmaker_monitor.snapshot import Board, ModelView, Snapshot
from kingmaker_monitor.state import ModelState
from kingmaker_monitor.steady_clock import SteadyClock

logger = logging.getLogger(__name__)

REFRESH_S: Final = 5.0
TIDY_S: Final = 5.0


@dataclass(slots=True, frozen=True)
class _Written:
    version: int
    at: float


@dataclass(slots=True, frozen=True)
class _Slow:
    reports: Reports
    plan: Plan
    at: float


class Evaluator:
    """Owns the board and the evidence keys."""

    def __init__(
        self,
        book: Book,
        reader: Reader,
        leases: Leases,
        *,
        executor: Executor,
        board: Board,
        every_s: float,
        drift_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._book = book
        self._reader = reader
        self._leases = leases
        self._executor = executor
        self._board = board
        self._every_s = every_s
        self._drift_s = drift_s
        self._slow: dict[str, _Slow] = {}
        self._steady = SteadyClock()
        self._clock = clock
        self._seen: dict[str, tuple[int, Evidence]] = {}
        self._written: dict[str, _Written] = {}
        self._failures = 0
        self._tidied = -TIDY_S

    async def run(self) -> None:
        while True:
            started = time.monotonic()
            try:
                await self.step()
            except Exception:  # the loop outlives a fault: /metrics then shows an old evaluation
                logger.exception("evaluation failed")
                self._failures += 1
            await asyncio.sleep(max(0.05, self._every_s - (time.monotonic() - started)))

    async def step(self) -> None:
        """Look once, and write what is new."""
        loop = asyncio.get_running_loop()
        self._board.snapshot = await loop.run_in_executor(self._executor, self._look)
        for name, view in self._board.snapshot.models.items():
            if view.evidence is not None and not await self._write(name, view):
                break  # the others would wait as long

    def _look(self) -> Snapshot:
        """In the book's thread."""
        if self._book.is_stale:
            self._book.load()
        now = self._clock()
        if self._steady.is_so(now, time.monotonic()):
            self._book.slide(round(now * 1000))
            is_due = self._book.is_overdue or time.monotonic() - self._tidied >= TIDY_S
            if is_due and self._reader.read_until is not None:
                self._book.tidy(round(now * 1000), self._reader.read_until)
                self._tidied = time.monotonic()
        models = self._reader.models
        for known in (self._seen, self._slow):
            for model in known.keys() - set(models):
                del known[model]  # should it be made again, it is another, whose versions begin anew
        views = {keys.split_model_id(model)[1]: self._view(model, now) for model in models}
        return Snapshot(views, now, bool(self._reader.redis_up), self._failures, self._steady.jumps)

    def _view(self, model: str, now: float) -> ModelView:
        state = self._book.models[model]
        tally = state.tally
        late = None if tally.late_ms < 0 else tally.late_ms / 1000
        pipeline = health.of_model(
            state,
            self._book.profiles,
            {stream.key: found for stream, found in self._reader.standings.items() if stream.model == model},
            self._book.mishaps,
            redis_up=bool(self._reader.redis_up),
            clock_jumps=self._steady.jumps,
        )
        if state.plan is None:
            return ModelView(None, b"", tally.unusable, tally.unlabelled, late, None, pipeline)
        as_of = _text(now)
        seen = self._seen.get(model)
        if seen is None or seen[0] != state.version:
            found = evidence.of_model(state, state.plan, self._book.profiles, as_of)
        else:
            found = msgspec.structs.replace(seen[1], as_of=as_of)
        self._seen[model] = state.version, found
        slow = self._reports(state, state.plan, as_of)
        report = ModelReport(
            **{name: getattr(found, name) for name in Evidence.__struct_fields__},
            drift_as_of=slow.as_of,
            windows=slow.windows,
            segments=slow.segments,
            pipeline=pipeline,
        )
        return ModelView(found, write_json(found), tally.unusable, tally.unlabelled, late, report, pipeline)

    def _reports(self, state: ModelState, plan: Plan, as_of: str) -> Reports:
        """Looked at every drift_s, and at once when the plan is another."""
        known = self._slow.get(state.name)
        if known is None or known.plan != plan or time.monotonic() - known.at >= self._drift_s:
            known = _Slow(reports.of_model(state, plan, self._book.profiles, as_of), plan, time.monotonic())
            self._slow[state.name] = known
        return known.reports

    async def _write(self, name: str, view: ModelView) -> bool:
        """Whether Redis answered, so that it may be asked for the next one."""
        assert view.evidence is not None  # noqa: S101 - the caller looked
        namespace = view.evidence.namespace
        version = self._seen[keys.model_id(namespace, name)][0]
        last = self._written.get(name)
        if last is not None and last.version == version and time.monotonic() - last.at < REFRESH_S:
            return True
        try:
            model = keys.model_id(namespace, name)
            if not await self._leases.write(model, keys.evidence(namespace, name), view.body):
                return True  # another monitor has the lease, or nobody since ours ran out: the reader takes it anew
        except REDIS_ERRORS as error:
            self._failures += 1
            return isinstance(error, redis.ResponseError)
        self._written[name] = _Written(version, time.monotonic())
        return True


def _text(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
