"""A round of the event loop is served once: at once when only one request came, after a second look at the sockets when
several did."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from kingmaker_servicekit.rounds import Rounds


class Line:
    """Sockets whose bytes become items. rounds: those served so far."""

    def __init__(self, stack: ExitStack, size: int) -> None:
        self.rounds: list[list[bytes]] = []
        self._rounds: Rounds[bytes] = Rounds(self._serve, lambda items: len(items) == 1)
        self._served = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.answers: dict[bytes, int] = {}
        self._ends = []
        for _ in range(size):
            ours, theirs = socket.socketpair()
            stack.enter_context(ours)
            stack.enter_context(theirs)
            self._loop.add_reader(ours.fileno(), self._read, ours)
            stack.callback(self._loop.remove_reader, ours.fileno())
            self._ends.append(theirs)

    def say(self, who: int, what: bytes) -> None:
        self._ends[who].send(what)

    def _serve(self, items: list[bytes]) -> None:
        self.rounds.append(items)
        self._served.set()

    def _read(self, end: socket.socket) -> None:
        said = end.recv(100)
        self._rounds.add(said)
        if said in self.answers:  # a client that speaks as soon as this one was read
            self.say(self.answers[said], b"after " + said)

    async def until_served(self, count: int) -> None:
        async with asyncio.timeout(10):
            while sum(map(len, self.rounds)) < count:
                self._served.clear()
                await self._served.wait()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


async def test_several_that_arrive_together_are_served_together(stack: ExitStack) -> None:
    line = Line(stack, 3)
    for who in range(3):
        line.say(who, b"%d" % who)
    await line.until_served(3)
    assert [sorted(round) for round in line.rounds] == [[b"0", b"1", b"2"]]


async def test_those_who_speak_while_a_round_is_read_travel_with_it(stack: ExitStack) -> None:
    line = Line(stack, 3)
    line.answers = {b"0": 2}
    line.say(0, b"0")
    line.say(1, b"1")
    await line.until_served(3)
    assert [sorted(round) for round in line.rounds] == [[b"0", b"1", b"after 0"]]


async def test_looking_again_ends_although_somebody_always_speaks(stack: ExitStack) -> None:
    line = Line(stack, 4)
    line.answers = {b"0": 2, b"after 0": 3}
    line.say(0, b"0")
    line.say(1, b"1")
    await line.until_served(4)
    assert [sorted(round) for round in line.rounds] == [[b"0", b"1", b"after 0"], [b"after after 0"]]


async def test_one_alone_waits_for_nobody(stack: ExitStack) -> None:
    line = Line(stack, 2)
    line.answers = {b"0": 1}
    line.say(0, b"0")
    await line.until_served(2)
    assert line.rounds == [[b"0"], [b"after 0"]]
