"""Send copies of answered requests to a shadow without making any client wait.

Whole frames are copied: the champion's arrays, and its very bytes where the shadow takes the same inputs. Nothing else
of a request is kept for a copy: its memory is the next request's at once, while the processor still has it at hand.
Copies wait a moment for others to travel with, for a frame costs a gateway more than a row of it, and nobody waits for
a copy. The queue is bounded: when the shadow falls behind, copies are dropped and counted, because a late comparison is
worth less than a slow client. So many frames in flight are the whole load a shadow can cause; each has a time limit,
after which its connection is closed. A shadow that is known to be away is not called at all.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from kingmaker_contracts.inference import Tensor
from kingmaker_contracts.problems import HTTP_STATUS, Code
from kingmaker_gateway import frames, runs
from kingmaker_gateway.answerers import Answerer
from kingmaker_gateway.batch import Batch
from kingmaker_gateway.coalescer import Ask
from kingmaker_gateway.errors import UpstreamError, UpstreamTimeout, UpstreamUnreachable
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
    """Requests that travel together. requests: how many; runs: what is recorded of them; parts: the frames of their
    rows."""

    requests: int
    runs: list[Run]
    rows: int
    parts: list[Frame]
    signature: Signature
    by: Answerer
    max_rows: int
    is_retry: bool = False

    @property
    def frame(self) -> Frame:
        """Of their own."""
        if len(self.parts) > 1:
            self.parts = [frames.joined(self.parts, self.signature)]
        return self.parts[0]

    def takes(self, following: "_Copies") -> bool:
        """Whether those behind may travel with these."""
        return (
            following.signature is self.signature
            and following.by is self.by
            and not (self.signature.is_open or self.is_retry or following.is_retry)
            and self.rows + following.rows <= self.max_rows
        )

    def take(self, following: "_Copies") -> None:
        self.requests += following.requests
        self.rows += following.rows
        self.runs = [*self.runs, *following.runs]
        self.parts = [*self.parts, *following.parts]

    def each_alone(self) -> "list[_Copies]":
        """To be tried again."""
        frame, first, alone = self.frame, 0, []
        for run in self.runs:
            for one in runs.parted(run):
                arrays = {name: array[first : first + one.rows] for name, array in frame.arrays.items()}
                own = Frame(self.signature, one.rows, arrays)
                alone.append(_Copies(1, [one], one.rows, [own], self.signature, self.by, self.max_rows, True))
                first += one.rows
        return alone


class Shadow:
    """One variant's copies. record: told what became of them."""

    def __init__(
        self, upstream: Upstream, settings: ShadowSettings, counts: VariantMetrics, record: Callable[[Run], None]
    ) -> None:
        self._upstream = upstream
        self._timeout_s = settings.timeout_ms / 1000
        self._queue_size = settings.queue_size
        self._max_in_flight = settings.connections
        self._gather_s = settings.gather_ms / 1000
        self._gathering: asyncio.TimerHandle | None = None
        self._counts = counts
        self._record = record
        self._queue: deque[_Copies] = deque()
        self._queued = 0
        self._queued_rows = 0
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
        if self._upstream.is_down and not self._closed:
            self._turn_away(len(requests), run or _run_of(requests, by), by)
            return
        room = 0 if self._closed else max(0, self._queue_size - self._queued)  # copies tried again may be more
        leave_at_once = not (self._closed or self._queue) and self._in_flight < self._max_in_flight
        if len(requests) > room and not leave_at_once:
            self._counts.shadow_dropped.inc(len(requests) - room)
            requests, run, frame = requests[:room], None, None
        if not requests:
            return
        if run is None:
            run = _run_of(requests, by)
        if frame is not None and not self._takes(signature, frame.signature):
            frame = None
        self._push(requests, run, frame, signature, by, max_rows)
        if self._queued_rows >= max_rows or self._queued >= self._queue_size or not self._gather_s:
            self._pump()
        elif self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(self._gather_s, self._pump)

    async def close(self) -> None:
        """Stop now; copies not sent are dropped and counted, those that were to be tried again have failed."""
        self._closed = True
        while self._queue:
            copies = self._pop()
            if copies.is_retry:
                self._failed(copies, 0.0, Code.UPSTREAM_FAILED)
            else:
                self._counts.shadow_dropped.inc(copies.requests)
        await self._upstream.close()

    def _push(  # noqa: PLR0917 - as offer
        self,
        requests: Sequence[Copied],
        run: Run,
        frame: Frame | None,
        signature: Signature,
        by: Answerer,
        max_rows: int,
    ) -> None:
        if signature.is_open and len(requests) > 1:
            for request in requests:
                self._push([request], _run_of([request], by), None, signature, by, max_rows)
            return
        if frame is None:
            frame = frames.join([Part(request.batch, 0, request.rows) for request in requests], signature)
        self._queue.append(_Copies(len(requests), [run], run.rows, [frame], signature, by, max_rows))
        self._queued += len(requests)
        self._queued_rows += run.rows

    def _pump(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        while self._queue and self._in_flight < self._max_in_flight and not self._closed:
            copies = self._pop()
            while self._queue and copies.takes(self._queue[0]):
                copies.take(self._pop())
            self._send(copies)

    def _pop(self) -> _Copies:
        copies = self._queue.popleft()
        self._queued -= copies.requests
        self._queued_rows -= copies.rows
        return copies

    def _send(self, copies: _Copies) -> None:
        self._counts.shadow_sent.inc(copies.requests * (not copies.is_retry))
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
        copies, latency_s = flight.copies, time.perf_counter() - flight.started
        if flight.is_sent:
            self._in_flight -= 1
        if not flight.is_sent or isinstance(error, UpstreamUnreachable):
            latency_s = 0.0
        if answer is not None:
            self._failures = 0
            self._tell(copies.by, copies.runs, copies.rows, latency_s, 200, copies.frame.arrays, answer.tensors)
        elif self._is_worth_a_second_try(copies, error):
            for one in reversed(copies.each_alone()):
                self._queue.appendleft(one)
                self._queued += 1
                self._queued_rows += one.rows
        else:
            self._failures += 1
            code = Code.DEADLINE_EXCEEDED if isinstance(error, UpstreamTimeout) else Code.UPSTREAM_FAILED
            self._failed(copies, latency_s, code)
        if self._queue and self._gathering is None:
            asyncio.get_running_loop().call_soon(self._pump)

    def _is_worth_a_second_try(self, copies: _Copies, error: UpstreamError | None) -> bool:
        """One neighbour's rows may be at fault, unless this shadow fails whatever it is sent."""
        is_joined = copies.requests > 1 and not self._upstream.is_down
        if isinstance(error, UpstreamTimeout) or not is_joined or self._failures or self._closed:
            return False
        self._failures = 1  # until one has succeeded
        return True

    def _failed(self, copies: _Copies, latency_s: float, code: Code) -> None:
        self._counts.shadow_failed.inc(copies.requests)
        self._tell(copies.by, copies.runs, copies.rows, latency_s, HTTP_STATUS[code])

    def _turn_away(self, requests: int, run: Run, by: Answerer) -> None:
        self._failures += 1
        self._counts.shadow_sent.inc(requests)
        self._counts.shadow_failed.inc(requests)
        self._tell(by, [run], run.rows, 0.0, HTTP_STATUS[Code.UPSTREAM_FAILED])

    def _tell(  # noqa: PLR0917 - once a frame
        self,
        by: Answerer,
        copied: list[Run],
        rows: int,
        latency_s: float,
        status: int,
        inputs: Mapping[str, NDArray[Any]] | None = None,
        outputs: Sequence[Tensor] | None = None,
    ) -> None:
        """Inputs go with outputs only: the champion's record holds what a failed copy asked, but for inputs only this
        shadow takes."""
        now_us = time.time_ns() // 1000
        self._record(runs.of_copies(by, copied, now_us, rows, inputs or {}, outputs, latency_s, status))

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
