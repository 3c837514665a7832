"""Who travels together, who is asked again, who has waited too long: the decisions of one variant's traffic.

Requests wait here only while no connection is free; then all of one kind leave in one frame. No timer holds
anybody back. Pure: the clock is an argument, and whoever owns this sends the flights and brings the answers.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from itertools import accumulate
from typing import Any, Protocol

import msgspec

from kingmaker_contracts.inference import Tensor
from kingmaker_gateway import frames
from kingmaker_gateway.batch import Batch
from kingmaker_gateway.errors import UpstreamError, UpstreamTimeout
from kingmaker_gateway.frames import Frame, Slice
from kingmaker_gateway.signature import Signature


class Asker(Protocol):
    """Who wants rows answered: `answered` or `failed` is called, once.
    is_hurried: the deadline is the client's own wish, so missing it says nothing about a server."""

    @property
    def is_hurried(self) -> bool: ...

    def answered(self, answer: Slice) -> None: ...

    def failed(self, error: UpstreamError) -> None: ...


class Ask(msgspec.Struct, eq=False, gc=False):
    """So many rows of a batch on their way, from the first on. deadline: when the asker stops waiting; frame:
    ready-made. A Struct the garbage collector does not look at, for one is made for every request; nothing an ask leads
    to leads back to it.
    """

    batch: Batch
    signature: Signature
    max_rows: int
    deadline: float
    asker: Asker
    rows: int
    first: int = 0
    frame: Frame | None = None
    is_over: bool = False


class Flight(msgspec.Struct, eq=False):
    """One frame on its way. firsts: of each ask's rows in it; tried: endpoints that failed it; moved: it has had its
    second endpoint; repeated: it has been sent again because its connection had ended before; earliest: the first
    deadline of those still waiting; latest: the last of all; since: when it was sent; has_late: some wait no more."""

    asks: list[Ask]
    frame: Frame
    firsts: list[int]
    earliest: float
    latest: float
    since: float = 0.0
    tried: set[Any] = msgspec.field(default_factory=set)
    moved: bool = False
    repeated: bool = False
    has_late: bool = False
    carrier: Any = None


class _Line(msgspec.Struct, eq=False):
    """Those of one kind who wait. rows: of all of them; max_rows: the fewest one of them allows a frame; earliest,
    latest: of their deadlines."""

    asks: list[Ask]
    rows: int
    max_rows: int
    earliest: float
    latest: float

    def add(self, other: "_Line") -> None:
        """Behind all others."""
        self.asks += other.asks
        self.rows += other.rows
        self.max_rows = min(self.max_rows, other.max_rows)
        self.earliest = min(self.earliest, other.earliest)
        self.latest = max(self.latest, other.latest)

    def split(self) -> tuple["_Line", "_Line | None"]:
        """Its head, as much as one frame takes, and the rest."""
        asks = self.asks
        if len(asks) == 1:
            return self, None
        rows = count = 0
        allowed = asks[0].max_rows
        for ask in asks:
            rows, allowed = rows + ask.rows, min(allowed, ask.max_rows)
            if count and rows > allowed:
                break
            count += 1
        else:
            return self, None
        return _line(asks[:count], self.max_rows), _line(asks[count:], self.max_rows)


def _line(asks: Sequence[Ask], max_rows: int) -> _Line:
    if len(asks) == 1:
        [one] = asks
        return _Line([one], one.rows, max_rows, one.deadline, one.deadline)
    deadlines = [ask.deadline for ask in asks]
    return _Line(list(asks), sum([ask.rows for ask in asks]), max_rows, min(deadlines), max(deadlines))


Deliver = Callable[[Frame, list[Ask], list[int]], None]
"""Gives an answered frame to those who still wait for rows of it: their asks, and the first row of each."""


def hand_out(frame: Frame, asks: list[Ask], firsts: list[int]) -> None:
    """Deliver to each asker alone."""
    for ask, first in zip(asks, firsts, strict=True):
        ask.asker.answered(Slice(frame, first, ask.rows))


class Coalescer:
    """deliver: whose frames are answered; must not raise."""

    def __init__(self, deliver: Deliver) -> None:
        self._deliver = deliver
        self._waiting: dict[Hashable, _Line] = {}
        self._again: list[Flight] = []
        self._out: set[Flight] = set()
        self._earliest_waiting = math.inf

    @property
    def has_work(self) -> bool:
        return bool(self._again or self._waiting)

    @property
    def is_idle(self) -> bool:
        return not (self._again or self._waiting or self._out)

    @property
    def has_new(self) -> bool:
        return bool(self._waiting)

    @property
    def again(self) -> Sequence[Flight]:
        """Those that left before and somebody still waits for, oldest first; `resume` sends one."""
        if self._again:
            self._again = [flight for flight in self._again if any(not ask.is_over for ask in flight.asks)]
        return self._again

    @property
    def out(self) -> set[Flight]:
        return self._out

    def add(self, asks: Sequence[Ask]) -> float:
        """asks: of one signature, allowing frames of the same size. Gives the earliest deadline of those they wait
        with."""
        signature, max_rows = asks[0].signature, asks[0].max_rows
        if signature.is_open:
            kinds = [frames.kind(ask.batch, signature) for ask in asks]
            earliest = min([self._join(kind, _line([ask], max_rows)) for kind, ask in zip(kinds, asks, strict=True)])
        else:
            earliest = self._join(signature, _line(asks, max_rows))
        self._earliest_waiting = min(self._earliest_waiting, earliest)
        return earliest

    def depart(self, asks: list[Ask]) -> Flight | None:
        """What `add` and `next` come to for asks of one signature who wait behind nobody and fit into one frame. None:
        these do not, or no frame can be made of them."""
        one = asks[0]
        if one.signature.is_open:
            return None
        try:
            if len(asks) == 1:
                if one.rows > one.max_rows:
                    return None
                frame = one.frame or frames.join(asks, one.signature)
                flight = Flight(asks, frame, [0], one.deadline, one.deadline)
            else:
                line = _line(asks, one.max_rows)
                if line.rows > line.max_rows:
                    return None
                flight = _joined(line)
            flight.frame.encoded()
        except Exception:  # `next` meets the same, and tells them
            return None
        self._out.add(flight)
        return flight

    def _join(self, kind: Hashable, coming: _Line) -> float:
        line = self._waiting.get(kind)
        if line is None:
            self._waiting[kind] = coming
            return coming.earliest
        line.add(coming)
        return line.earliest

    def resume(self, flight: Flight) -> None:
        """One of `again` leaves."""
        self._again.remove(flight)
        self._out.add(flight)

    def next(self) -> Flight | None:
        """What leaves now for the first time: all of one kind that fit into a frame, oldest first."""
        while self._waiting:
            kind = next(iter(self._waiting))
            leaving = self._waiting.pop(kind)
            if leaving.rows > leaving.max_rows:
                leaving, staying = leaving.split()
                if staying is not None:  # behind all other kinds
                    self._waiting[kind] = staying
            if not self._waiting:
                self._earliest_waiting = math.inf
            try:
                flight = _joined(leaving)
                flight.frame.encoded()
            except Exception as error:  # a mistake of ours, but nobody is to wait for ever
                self._end(leaving.asks, UpstreamError(f"rows that make no frame: {error!r}"))
                continue
            self._out.add(flight)
            return flight
        return None

    def answered(self, flight: Flight, outputs: Sequence[Tensor]) -> None:
        """Give everybody still waiting their own rows; a late member's are thrown away."""
        self._out.discard(flight)
        frame = flight.frame
        frame.outputs = outputs
        asks, firsts = flight.asks, flight.firsts
        if flight.has_late:
            waiting = [(ask, first) for ask, first in zip(asks, firsts, strict=True) if not ask.is_over]
            asks, firsts = [ask for ask, _ in waiting], [first for _, first in waiting]
        if asks:
            self._deliver(frame, asks, firsts)

    def failed(self, flight: Flight, error: UpstreamError) -> None:
        """Members of a joined frame are asked again, each alone and once: the fault may be one neighbour's."""
        self._out.discard(flight)
        asks = [ask for ask in flight.asks if not ask.is_over]
        if len(flight.asks) > 1 and not isinstance(error, UpstreamTimeout):
            for ask in asks:
                alone = _joined(_line([ask], ask.max_rows))
                alone.moved = flight.moved
                self._again.append(alone)
            return
        self._end(asks, error)

    def move(self, flight: Flight) -> None:
        """Send it once more, to somebody else."""
        flight.moved = True
        self._send_again(flight)

    def repeat(self, flight: Flight) -> None:
        """Send it once more, to anybody: it never reached a server."""
        flight.repeated = True
        self._send_again(flight)

    def _send_again(self, flight: Flight) -> None:
        self._out.discard(flight)
        self._again.append(flight)

    def fail_waiting(self, error: UpstreamError) -> None:
        """Nobody can be reached: all who wait are told so."""
        asks = [ask for line in self._waiting.values() for ask in line.asks]
        asks += [ask for flight in self._again for ask in flight.asks]
        self._waiting.clear()
        self._again.clear()
        self._earliest_waiting = math.inf
        self._end(asks, error)

    def expire(self, now: float) -> list[Flight]:
        """Tell everybody whose time is up; gives the flights nobody waits for any more."""
        late: list[Ask] = []
        deserted: list[Flight] = []
        if self._earliest_waiting <= now:
            self._expire_waiting(now, late)
        for flight in (*self._out, *self._again):
            if flight.earliest <= now:
                late += [ask for ask in flight.asks if not ask.is_over and ask.deadline <= now]
                flight.has_late = True
                rest = [ask.deadline for ask in flight.asks if not ask.is_over and ask.deadline > now]
                flight.earliest = min(rest, default=math.inf)
                if not rest and flight in self._out:
                    deserted.append(flight)
        self._out.difference_update(deserted)
        for ask in late:
            ask.is_over = True
        for ask in late:
            ask.asker.failed(UpstreamTimeout("the time for this attempt ran out"))
        return deserted

    def earliest(self) -> float:
        """The next moment somebody's time is up."""
        return min(
            self._earliest_waiting,
            min((flight.earliest for flight in self._out), default=math.inf),
            min((flight.earliest for flight in self._again), default=math.inf),
        )

    @staticmethod
    def _end(asks: Sequence[Ask], error: UpstreamError) -> None:
        for ask in asks:
            if not ask.is_over:
                ask.is_over = True
                ask.asker.failed(error)

    def _expire_waiting(self, now: float, late: list[Ask]) -> None:
        self._earliest_waiting = math.inf
        for kind, line in tuple(self._waiting.items()):
            late += [ask for ask in line.asks if ask.deadline <= now]
            rest = [ask for ask in line.asks if ask.deadline > now]
            if rest:
                self._waiting[kind] = _line(rest, line.max_rows)
                self._earliest_waiting = min(self._earliest_waiting, self._waiting[kind].earliest)
            else:
                del self._waiting[kind]


def _joined(line: _Line) -> Flight:
    asks = line.asks
    if len(asks) == 1:
        frame, firsts = asks[0].frame or frames.join(asks, asks[0].signature), [0]
    else:
        frame = frames.join(asks, asks[0].signature)
        firsts = [0, *accumulate([ask.rows for ask in asks[:-1]])] if line.rows > len(asks) else list(range(len(asks)))
    return Flight(asks, frame, firsts, line.earliest, line.latest)
