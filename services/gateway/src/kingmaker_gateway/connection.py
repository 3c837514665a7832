"""One persistent HTTP/1.1 connection to a model server: one exchange at a time, parsed by httptools.

Not httpx: as a proxy it costs a hundred times more processor time than this (docs: performance). There is
no pipelining, so giving up an answer means closing the connection, which also tells the server to stop.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

import httptools
import msgspec

from kingmaker_gateway.errors import ConnectionLost, UpstreamError, UpstreamGarbage
from kingmaker_servicekit.recurring import Recurring

_LENGTH_OF_NAME: Final = len(b"inference-header-content-length")
_END: Final = b"\r\n\r\n"
_MOST_HEADS: Final = 256
_LONGEST_HEAD: Final = 2048
_MOST_BARE_BYTES: Final = 256 * 1024
"""Received one after another without a byte of the body; what the parser buffers, it copies with every piece."""


class Reply(msgspec.Struct, frozen=True):
    """One HTTP answer. head_length: the value of Inference-Header-Content-Length, None without that header."""

    status: int
    body: bytes
    head_length: int | None


class Head(msgspec.Struct, frozen=True):
    """What a reply's head says. length: of the body."""

    status: int
    head_length: int | None
    length: int


class Heads(Recurring[Head]):
    """Of replies that came whole, alone and plain, by their bytes: a server says the same head again and again, and the
    same bytes mean the same. httptools has read each of them before."""

    def __init__(self) -> None:
        super().__init__(_MOST_HEADS, _LONGEST_HEAD)


class Connection(asyncio.Protocol):
    """Idle, or busy with one exchange.

    on_reply(connection, reply): the exchange is over, and the connection free again if it is still open;
    on_lost(connection, error): it is closed, error tells what became of the exchange, None when it was idle;
    known: heads met before, by this connection or others to the same server;
    is_closing(): the transport's own answer, for every exchange asks twice;
    cargo: whatever its user is busy with; kept: it has been idle, so the server may have closed it meanwhile.
    """

    def __init__(
        self,
        on_reply: Callable[["Connection", Reply], None],
        on_lost: Callable[["Connection", UpstreamError | None], None],
        max_bytes: int,
        known: Heads | None = None,
    ) -> None:
        self._known = Heads() if known is None else known
        self._on_reply = on_reply
        self._on_lost = on_lost
        self._max_bytes = max_bytes
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._busy = False
        self._excess = False
        self._keep_alive = False
        self._error: UpstreamError | None = None
        self._await_reply()
        self.is_closing: Callable[[], bool] = _yes
        self.kept = False
        self.cargo: Any = None

    def send(self, request: bytes) -> None:
        """Begin an exchange; the connection is idle. Raises ConnectionLost when it has been closed meanwhile."""
        if self._transport is None:
            raise ConnectionLost("the connection ended before it was used", untouched=True)
        self._busy = True
        self._transport.write(request)

    def abort(self) -> None:
        """Close at once; on_lost follows."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def is_open(self) -> bool:
        return not self.is_closing()

    @property
    def is_to_itself(self) -> bool:
        """Nobody listens, and the system chose the very port it should connect to."""
        transport = self._transport
        return transport is not None and transport.get_extra_info("sockname") == transport.get_extra_info("peername")

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one without saying so
        self.is_closing = transport.is_closing

    def data_received(self, data: bytes) -> None:
        if not self._busy:
            self.abort()  # bytes nobody asked for: what follows cannot be trusted
            return
        if self._touched:
            self._read(data, None)
            return
        head, end, body = data.partition(_END)
        known = self._known.get(head)
        if known is not None and end and len(body) == known.length:
            self._busy = False
            self.kept = True
            self._on_reply(self, Reply(known.status, body, known.head_length))
        else:
            self._read(data, head)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport, self.is_closing = None, _yes
        error = self._error
        if self._busy and error is None:
            error = ConnectionLost(f"the connection ended before the answer did: {exc}", untouched=not self._touched)
        self._busy = False
        self._on_lost(self, error)

    def _await_reply(self) -> None:
        """Nothing of the next reply has been read."""
        self._complete = False
        self._body: list[bytes] = []
        self._head_length: int | None = None
        self._size = 0
        self._bare = 0
        self._touched = False

    def _read(self, data: bytes, head: bytes | None) -> None:
        """What httptools makes of it. head: of a reply that begins here, None in the middle of one."""
        self._touched = True
        before = self._size
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, ValueError) as error:
            self._fail(UpstreamGarbage(f"the answer is not HTTP/1.1: {error}"))
            return
        if self._complete and self._error is None:
            # only now, when the parser has returned: the answer may at once be followed by another exchange
            self._replied(data, head)
        elif not self._complete:
            self._bare = self._bare + len(data) if self._size == before else 0
            if self._bare > _MOST_BARE_BYTES:
                self._fail(UpstreamGarbage("a head, interim answers or trailers without end"))

    def _replied(self, data: bytes, head: bytes | None) -> None:
        """The reply has come whole. data, head: what came last, see _read."""
        self._busy = False
        reply = Reply(self._parser.get_status_code(), b"".join(self._body), self._head_length)
        self._await_reply()
        if self._excess or not self._keep_alive:
            self.abort()
        elif head is not None and len(head) + len(_END) + len(reply.body) == len(data):
            self._remember(head, reply)
        self.kept = True
        self._on_reply(self, reply)

    def _remember(self, head: bytes, reply: Reply) -> None:
        if self._known.is_worth_it(head):
            self._known.keep(head, Head(reply.status, reply.head_length, len(reply.body)))

    # httptools callbacks

    def on_message_begin(self) -> None:
        if self._complete:
            self._excess = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(name) == _LENGTH_OF_NAME and not self._complete and name.lower() == b"inference-header-content-length":
            self._head_length = int(value)  # a ValueError reaches data_received

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > self._max_bytes:
            self._fail(UpstreamGarbage(f"the answer is longer than {self._max_bytes} bytes"))
        elif not self._complete:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < 200:  # 100 Continue and its like: the answer is still to come
            self._body.clear()
            return
        self._complete = True
        self._keep_alive = self._parser.should_keep_alive()  # the parser forgets it when this returns

    def _fail(self, error: UpstreamError) -> None:
        if self._error is None:
            self._error = error
        self._busy = False  # what still comes is not read
        self.abort()


def _yes() -> bool:
    return True
