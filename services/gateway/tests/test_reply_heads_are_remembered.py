"""What a connection says of replies is the same whether httptools reads their heads or they were met before."""

import asyncio
import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kingmaker_gateway.connection import Connection, Heads, Reply
from kingmaker_gateway.errors import UpstreamError


class Wire(asyncio.Transport):
    """Takes what is written and knows whether it was cut."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = False

    def write(self, data: bytes | bytearray | memoryview) -> None: ...

    def is_closing(self) -> bool:
        return self.cut

    def abort(self) -> None:
        self.cut = True


class Seen:
    """A connection, and all it has told."""

    def __init__(self, known: Heads) -> None:
        self.told: list[Reply | str] = []
        self.wire = Wire()
        self.connection = Connection(self._replied, self._lost, 10_000, known)
        self.connection.connection_made(self.wire)

    def _replied(self, _: Connection, reply: Reply) -> None:
        self.told.append(reply)

    def _lost(self, _: Connection, error: UpstreamError | None) -> None:
        self.told.append(str(error))

    def exchange(self, pieces: Sequence[bytes]) -> list[Reply | str]:
        """What it tells of one reply that comes in these pieces; the connection ends where the bytes were wrong."""
        self.told = []
        self.connection.send(b"ask")
        for piece in pieces:
            self.connection.data_received(piece)
            if self.wire.cut:
                break
        if self.wire.cut or not self.told:
            self.connection.connection_lost(None)
        return self.told


def reply(status: str, body: bytes, *lines: bytes) -> bytes:
    return b"".join([f"HTTP/1.1 {status}\r\n".encode(), *[line + b"\r\n" for line in lines], b"\r\n", body])


def length(body: bytes) -> bytes:
    return b"content-length: %d" % len(body)


CHUNKED = b"5\r\nhello\r\n0\r\n\r\n"
REPLIES = [
    reply("200 OK", b"hello", length(b"hello"), b"inference-header-content-length: 2"),
    reply("200 OK", b"world", length(b"world"), b"inference-header-content-length: 2"),
    reply("200 OK", b"hello", length(b"hello")),
    reply("503 Service Unavailable", b"later", length(b"later")),
    reply("200 OK", b"bye", length(b"bye"), b"connection: close"),
    reply("200 OK", CHUNKED, b"transfer-encoding: chunked"),
    reply("200 OK", b"", b"content-length: 0"),
    reply("100 Continue", b"") + reply("200 OK", b"hello", length(b"hello")),
    reply("200 OK", b"hello", length(b"hello")) + b"more",
    reply("200 OK", b"hell", length(b"hello")),
    reply("200 OK", b"", b"content-length: x"),
    b"\r\n\r\n",
]


@pytest.fixture
def two() -> tuple[Seen, Seen]:
    known = Heads()
    return Seen(known), Seen(known)


def test_a_head_that_was_met_is_not_read_again_and_means_the_same(two: tuple[Seen, Seen]) -> None:
    first, second = two
    for _ in range(2):
        assert first.exchange([REPLIES[0]]) == [Reply(200, b"hello", 2)]
    known = first.connection._known
    assert len(known) == 1
    assert second.exchange([REPLIES[1]]) == [Reply(200, b"world", 2)]
    assert second.exchange([REPLIES[1][:-1], REPLIES[1][-1:]]) == [Reply(200, b"world", 2)]


@given(
    st.lists(
        st.tuples(st.integers(0, len(REPLIES) - 1), st.lists(st.integers(1, 120), max_size=2)), min_size=1, max_size=12
    )
)
def test_whatever_comes_it_is_told_as_if_nothing_were_remembered(steps: list[tuple[int, list[int]]]) -> None:
    known = Heads()
    remembering = Seen(known)
    for which, cuts in steps:
        raw = REPLIES[which]
        places = sorted({0, len(raw), *(cut for cut in cuts if cut < len(raw))})
        pieces = [raw[a:b] for a, b in itertools.pairwise(places)]
        fresh = Seen(Heads())
        assert remembering.exchange(pieces) == fresh.exchange(pieces)
        assert remembering.wire.cut == fresh.wire.cut
        if remembering.wire.cut or not remembering.connection.is_open:
            remembering = Seen(known)


def test_the_end_of_a_head_that_came_in_two_pieces_is_no_head(two: tuple[Seen, Seen]) -> None:
    first, second = two
    end = b"\r\n\r\nhello"
    for _ in range(3):
        assert first.exchange([REPLIES[0][: -len(end)], end]) == [Reply(200, b"hello", 2)]
    assert not [told for told in second.exchange([end]) if isinstance(told, Reply)]


def test_what_comes_after_an_answer_gone_wrong_is_not_read(two: tuple[Seen, Seen]) -> None:
    first, _ = two
    connection = first.connection
    connection.send(b"ask")
    connection.data_received(reply("200 OK", b"", b"content-length: x"))
    connection.data_received(REPLIES[0])
    connection.connection_lost(None)
    assert len(first.told) == 1 and "not HTTP/1.1" in str(first.told[0])


def test_a_connection_is_open_between_its_beginning_and_its_end() -> None:
    seen = Seen(Heads())

    def is_open() -> bool:  # asked anew each time
        return seen.connection.is_open

    assert is_open() and not seen.connection.is_closing()
    seen.wire.cut = True
    assert not is_open()
    seen.wire.cut = False
    seen.connection.connection_lost(None)
    assert not is_open()
    assert not Connection(seen._replied, seen._lost, 1).is_open
