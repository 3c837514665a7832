"""Send copies of answered requests to a shadow without making any client wait.

Whole frames are copied: the champion's arrays, and its very bytes where the shadow takes the same inputs. The queue
is bounded: when the shadow falls behind, copies are dropped and counted, because a late comparison is worth less
than a slow client. So many frames in flight are the whole load a shadow can cause; each has a time limit, after
which its connection is closed. A shadow that is known to be away is not called at all.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from kingmaker_contracts.problems import HTTP_STATUS, Code
from kingmaker_gateway import frames, runs
from kingmaker_gateway.answerers import Answerer
from kingmaker_gateway.batch import Batch
from kingmaker_gateway.coalescer import Ask
from kingmaker_gateway.errors import UpstreamError, UpstreamTimeout
from kingmaker_gateway.frames import Frame, Part, Slice
from kingmaker_gateway.metrics import VariantMetrics
from kingmaker_gateway.runs import Answered, Run
from kingmaker_gateway.settings import ShadowSettings
from kingmaker_gateway.signature import Signature
from kingmaker_gateway.upstream import Upstream


class Copied(Answered, Protocol):
    """With its rows."""

    @property
    def rows(self) -> int: ...
    @property
    def batch(self) -> Batch: ...


@dataclass(slots=True, eq=False)
class _Copies:
    """Requests that travel together. runs: what is recorded of them; parts: frames that are theirs together, empty when
    they have none yet."""

    requests: Sequence[Copied]
    runs: list[Run]
    rows: int
    parts: list[Frame]
    signature: Signature
    by: Answerer
    max_rows: int
    is_retry: bool = False

    @property
    def frame(self) -> Frame:
        """Of their own, made when first asked for."""
        if len(self.parts) > 1:
            self.parts = [frames.joined(self.parts, self.signature)]
        elif not self.parts:
            members = [Part(request.batch, 0, request.rows) for request in self.requests]
            self.parts = [frames.join(members, self.signature)]
        return self.parts[0]

    def alone(self, request: Copied, is_retry: bool) -> "_Copies":
        """One of them."""
        own = [_run_of([request], self.by)]
        return _Copies([request], own, request.rows, [], self.signature, self.by, self.max_rows, is_retry)


class Shadow:
    """One variant's copies. record: told what became of them."""

    def __init__(
        self, upstream: Upstream, settings: ShadowSettings, counts: VariantMetrics, record: Callable[[Run], None]
    ) -> None:
        self._upstream = upstream
        self._timeout_s = settings.timeout_ms / 1000
        self._queue_size = settings.queue_size
        self._max_in_flight = settings.connections
        self._counts = counts
        self._record = record
        self._queue: deque[_Copies] = deque()
        self._queued = 0
        self._in_flight = 0
        self._failures = 0
        self._closed = False
        self._compared: tuple[Signature, Signature] | None = None
        self._takes_the_same = False

    @property
    def upstream(self) -> Upstream:
        return self._upstream

    def offer(  # noqa: PLR0917 - once a frame
        self,
        requests: Sequence[Copied],
        run: Run | None,
        frame: Frame | None,
        signature: Signature,
        by: Answerer,
        max_rows: int,
    ) -> None:
        """Queue copies of answered requests, or drop and count them. run, frame: the champion's, of exactly these."""
        room = 0 if self._closed else max(0, self._queue_size - self._queued)  # copies tried again may be more
        leave_at_once = not (self._closed or self._queue) and self._in_flight < self._max_in_flight
        if len(requests) > room and not leave_at_once:
            self._counts.shadow_dropped.inc(len(requests) - room)
            requests, run, frame = requests[:room], None, None
        if not requests:
            return
        if run is None:
            run = _run_of(requests, by)
        parts = [] if frame is None or not self._takes(signature, frame.signature) else [frame]
        self._push(_Copies(requests, [run], run.rows, parts, signature, by, max_rows))
        self._pump()

    async def close(self) -> None:
        """Stop now; copies not sent are dropped and counted."""
        self._closed = True
        self._counts.shadow_dropped.inc(self._queued)
        self._queue.clear()
        self._queued = 0
        await self._upstream.close()

    def _push(self, copies: _Copies) -> None:
        if copies.signature.is_open and len(copies.requests) > 1:
            for request in copies.requests:
                self._push(copies.alone(request, is_retry=False))
            return
        self._queue.append(copies)
        self._queued += len(copies.requests)

    def _pump(self) -> None:
        while self._queue and self._in_flight < self._max_in_flight and not self._closed:
            copies = self._queue.popleft()
            self._queued -= len(copies.requests)
            self._join(copies)
            self._send(copies)

    def _join(self, copies: _Copies) -> None:
        """Take along what waits behind, as much as a frame holds."""
        while self._queue and not copies.signature.is_open and not copies.is_retry:
            following = self._queue[0]
            if (
                following.signature is not copies.signature
                or following.by is not copies.by
                or following.is_retry
                or copies.rows + following.rows > copies.max_rows
            ):
                return
            self._queue.popleft()
            self._queued -= len(following.requests)
            copies.requests = [*copies.requests, *following.requests]
            copies.rows += following.rows
            copies.runs = [*copies.runs, *following.runs]
            copies.parts = [*copies.parts, *following.parts] if copies.parts and following.parts else []

    def _send(self, copies: _Copies) -> None:
        self._counts.shadow_sent.inc(len(copies.requests) * (not copies.is_retry))
        flight = _Flight(self, copies)
        if self._upstream.is_down:
            self._done(flight, None, UpstreamError("the shadow is away"))
            return
        frame = copies.frame
        batch = Batch(copies.rows, frame.arrays, frozenset())
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        # the champion's frame holds the champion's answer: the copy shares only what was asked
        asked = Frame(copies.signature, copies.rows, frame.arrays, body=frame.body)
        ask = Ask(batch, copies.signature, copies.max_rows, deadline, flight, copies.rows, frame=asked)
        self._in_flight += 1
        flight.is_sent = True
        self._upstream.ask(ask)

    def _done(self, flight: "_Flight", answer: Slice | None, error: UpstreamError | None) -> None:
        copies = flight.copies
        if flight.is_sent:
            self._in_flight -= 1
        if answer is not None:
            self._failures = 0
            self._tell(copies, 200, flight.started, answer)
        elif self._is_worth_a_second_try(copies, error):
            for request in reversed(copies.requests):
                self._queue.appendleft(copies.alone(request, is_retry=True))
                self._queued += 1
        else:
            self._failures += 1
            self._counts.shadow_failed.inc(len(copies.requests))
            is_late = isinstance(error, UpstreamTimeout)
            status = HTTP_STATUS[Code.DEADLINE_EXCEEDED if is_late else Code.UPSTREAM_FAILED]
            self._tell(copies, status, flight.started, None)
        if self._queue:
            asyncio.get_running_loop().call_soon(self._pump)

    def _is_worth_a_second_try(self, copies: _Copies, error: UpstreamError | None) -> bool:
        """One neighbour's rows may be at fault, unless this shadow fails whatever it is sent."""
        is_joined = len(copies.requests) > 1 and not self._upstream.is_down
        if isinstance(error, UpstreamTimeout) or not is_joined or self._failures or self._closed:
            return False
        self._failures = 1  # until one has succeeded
        return True

    def _tell(self, copies: _Copies, status: int, started: float, answer: Slice | None) -> None:
        latency_s = time.perf_counter() - started
        rows, arrays, now_us = copies.rows, copies.frame.arrays, time.time_ns() // 1000
        outputs = answer.tensors if answer is not None else None
        self._record(runs.of_copies(copies.by, copies.runs, now_us, rows, arrays, outputs, latency_s, status))

    def _takes(self, mine: Signature, champions: Signature) -> bool:
        """Whether a frame for the champion is, byte for byte, a frame for the shadow; remembered, for they seldom
        change."""
        if self._compared is None or self._compared[0] is not mine or self._compared[1] is not champions:
            self._compared = mine, champions
            self._takes_the_same = _takes_the_same(mine, champions)
        return self._takes_the_same


class _Flight:
    """Asker of one frame of copies."""

    __slots__ = ("_shadow", "copies", "is_sent", "started")

    def __init__(self, shadow: Shadow, copies: _Copies) -> None:
        self._shadow = shadow
        self.copies = copies
        self.started = time.perf_counter()
        self.is_sent = False

    @property
    def is_hurried(self) -> bool:
        return False

    def answered(self, answer: Slice) -> None:
        self._shadow._done(self, answer, None)

    def failed(self, error: UpstreamError) -> None:
        self._shadow._done(self, None, error)


def _run_of(requests: Sequence[Copied], by: Answerer) -> Run:
    """What will be recorded of them, packed; when and what the shadow answered comes later."""
    return runs.of(by, requests, [0.0] * len(requests), 0, sum([request.rows for request in requests]), {}, None)


def _takes_the_same(mine: Signature, champions: Signature) -> bool:
    return [(s.name, s.datatype, s.tail) for s in mine.inputs.values()] == [
        (s.name, s.datatype, s.tail) for s in champions.inputs.values()
    ]
