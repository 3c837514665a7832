"""A request that has not come whole: how much may come before it is, and how long that may take.

A head, trailers and the extensions of chunks are bounded in bytes, a body by its route's limit; head and body in time.
What is over a bound gets its refusal when its turn comes.
"""

import asyncio
from typing import Any

import httptools

from kingmaker_servicekit.fast_call import Call
from kingmaker_servicekit.fast_turns import TakingTurns

MAX_HEAD_BYTES = 65536

# How far the request being parsed is; bare numbers, for an enum's members cost 80 ns each time they are named.
NOTHING, HEAD, FAST_BODY, ASGI_BODY = range(4)
UPGRADE = 4  # a request that offers a protocol nobody here speaks; parsed again without the offer


class Waiting(TakingTurns):
    """Watches what is read. Reading it is the subclass's. _body_read_s: how long a request may take to come."""

    __slots__ = (
        "_bare_bytes", "_body_awaited", "_body_grew", "_body_size", "_head_bytes", "_head_may_be_long", "_limit",
        "_parts", "_read_timer", "_size", "_stage",
    )  # fmt: skip
    _body_read_s: float

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._stage = NOTHING
        self._limit = 0
        self._size = 0
        self._parts: list[bytes] = []
        self._body_awaited = False
        self._bare_bytes = 0  # received since the body last grew
        self._body_size = 0  # when it did
        self._body_grew = False  # the same of a request for ASGI
        self._head_bytes = 0
        self._head_may_be_long = False
        self._read_timer: asyncio.TimerHandle | None = None

    def _break_off(self, error: httptools.HttpParserError) -> None:
        """Nothing that comes after this can be understood."""
        raise NotImplementedError

    def _is_reading(self) -> bool:
        return self._stage in (HEAD, FAST_BODY)

    def _stop_reading(self) -> None:
        self._stage = NOTHING
        self._stop_read_timer()
        self._forget_body()

    def _await_rest(self, received: int) -> None:
        """The bytes ended inside a request."""
        if self._stage == HEAD:
            self._head_may_be_long = True
            self._head_bytes += received if self._head_bytes else 1  # the first bytes may be mostly earlier requests
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse_in_turn(431, None)
                return
        elif self._call is not None:
            if self._is_without_end(self._call, received):
                self._refuse_in_turn(431, self._call)
            elif not (self._body_awaited or self.pipeline):
                self._ask_for_body(self._call)
            if self._ended:
                return
        else:
            if self._stage == ASGI_BODY:
                self._bare_bytes = 0 if self._body_grew else self._bare_bytes + received
                self._body_grew = False
                if self._bare_bytes > MAX_HEAD_BYTES:
                    self._break_off(httptools.HttpParserError("trailers without end"))
            return
        if self._read_timer is None:
            self._start_read_timer()

    def _is_without_end(self, call: Call, received: int) -> bool:
        """Whether the client goes on sending what is no body: trailers, or extensions of a chunk."""
        size = self._size if self._parts else len(call.body)
        if size != self._body_size or self._read_timer is None:  # the first bytes are mostly head
            self._body_size, self._bare_bytes = size, 0
            return False
        self._bare_bytes += received
        return self._bare_bytes > MAX_HEAD_BYTES

    def _await_body(self, call: Call) -> None:
        """Nothing was read while it waited for its turn, so its time begins now."""
        self._stop_read_timer()
        self._start_read_timer()
        self._ask_for_body(call)

    def _ask_for_body(self, call: Call) -> None:
        """The body of the request whose turn it is has not come whole: refuse it early, or ask for it."""
        self._body_awaited = True
        length = call.header(b"content-length")
        if length is not None and int(length) > self._limit:
            self._refuse_in_turn(413, call)
        elif (
            not call.body
            and (call.header(b"expect") or b"").lower() == b"100-continue"
            and self.parser.get_http_version() != "1.0"
        ):
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _on_read_timeout(self) -> None:
        self._read_timer = None
        its_turn = not self._is_busy() if self._stage == HEAD else not self.pipeline
        if its_turn:
            self._refuse_in_turn(408, self._call)
        else:
            self._start_read_timer()

    def _start_read_timer(self) -> None:
        self._read_timer = self.loop.call_later(self._body_read_s, self._on_read_timeout)

    def _stop_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None
        self._body_awaited = False
        self._body_size = 0

    def _forget_body(self) -> None:
        self._parts = []
        self._size = 0
