"""One request on the fast way in, and how its answer is worded on the wire.

A Call stands in uvicorn's protocol where a RequestResponseCycle would (hence `keep_alive`, `response_complete`,
`disconnected`, `message_event`, uvicorn's own words), so uvicorn's shutdown and pipelining see fast requests without
knowing them. It costs neither a task nor a future.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

Headers = Sequence[tuple[bytes, bytes]]
_REMEMBERED_HEADS = 256
_WITHOUT_BODY = (204, 304)


class Connection(Protocol):
    """What a call needs of the connection it came by."""

    transport: asyncio.Transport

    def send_answer(self, call: "Call", status: int, headers: Headers, body: bytes) -> None: ...


class _NobodyWaits:
    def set(self) -> None:
        """uvicorn wakes its cycles by this event; a fast call has nothing asleep."""


class Call:
    """One whole request. Answered exactly once, now or later, in the event loop.

    headers: names in lower case, in order. arrived: `time.perf_counter()` when the headers were complete.
    """

    __slots__ = (
        "_connection", "arrived", "body", "disconnected", "headers", "keep_alive", "method", "path", "query",
        "response_complete",
    )  # fmt: skip
    message_event: ClassVar[_NobodyWaits] = _NobodyWaits()
    disconnected: bool  # set by uvicorn only; unset until then

    def __init__(  # noqa: PLR0917  by position: keywords cost on every request
        self,
        connection: Connection,
        method: bytes,
        path: bytes,
        query: bytes,
        headers: list[tuple[bytes, bytes]],
        arrived: float,
        keep_alive: bool,
    ) -> None:
        self._connection = connection
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.body = b""
        self.arrived = arrived
        self.keep_alive = keep_alive
        self.response_complete = False

    @property
    def is_open(self) -> bool:
        """Whether an answer would still reach somebody."""
        return not (self.response_complete or self._connection.transport.is_closing())

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header, by its lower-case name."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Send the answer; nothing happens when the client has gone. Give headers as a tuple where they are constant:
        tuples are worded once a second.

        Raises RuntimeError for a second answer, an interim status, or a header that would break the head.
        """
        if self.response_complete:
            raise RuntimeError(f"{self.method.decode()} {self.path!r} was answered already")
        self._connection.send_answer(self, status, headers, body)


Handler = Callable[[Call], None]
"""Called in the event loop once the body is whole; must not block; answers now or later."""


@dataclass(frozen=True, slots=True)
class FastRoute:
    """max_body_bytes: a limit, or one by path; longer bodies are refused with 413."""

    handler: Handler
    max_body_bytes: int | Callable[[bytes], int]

    def body_limit(self, path: bytes) -> int:
        limit = self.max_body_bytes
        return limit if isinstance(limit, int) else limit(path)


class Wording:
    """Writes answers, remembering the heads that are alike until uvicorn's default headers (the date) change."""

    def __init__(self) -> None:
        self._defaults: list[tuple[bytes, bytes]] | None = None
        self._heads: dict[tuple[int, Headers], tuple[bytes, bool]] = {}

    def answer(
        self, defaults: list[tuple[bytes, bytes]], call: Call | None, status: int, headers: Headers, body: bytes
    ) -> tuple[bytes, bool]:
        """(bytes to send, whether the connection stays open). Raises RuntimeError as Call.answer."""
        if defaults is not self._defaults or len(self._heads) > _REMEMBERED_HEADS:
            self._defaults = defaults
            self._heads = {}
        if headers.__class__ is tuple:
            key = (status, headers)
            known = self._heads.get(key)
            if known is None:
                known = self._heads[key] = _head(defaults, status, headers)
        else:
            known = _head(defaults, status, headers)
        head, keep_alive = known
        closing = b"\r\n\r\n"
        if call is None or not call.keep_alive:
            if keep_alive:
                closing = b"\r\nconnection: close\r\n\r\n"
            keep_alive = False
        if status in _WITHOUT_BODY:  # such a head ends in its last header's line break
            return head + closing[2:], keep_alive
        length = b"%d" % len(body)
        if call is not None and call.method == b"HEAD":
            body = b""
        return b"".join((head, length, closing, body)), keep_alive


def _head(defaults: Headers, status: int, headers: Headers) -> tuple[bytes, bool]:
    """(status line and headers up to the number after content-length, whether the headers let the connection live)."""
    if status < 200:
        raise RuntimeError(f"{status} is no final answer")
    keep_alive = True
    lines = [*defaults]
    for name, value in headers:
        lower = name.lower()
        if lower == b"content-length":
            continue
        if lower == b"connection" and b"close" in [token.strip() for token in value.lower().split(b",")]:
            keep_alive = False
        lines.append((lower, value))
    block = b"".join([b"%b: %b\r\n" % line for line in lines])
    if block.count(b"\n") != len(lines) or block.count(b"\r") != len(lines) or b"\0" in block:
        raise RuntimeError("a header of the answer holds a line break or a zero byte")
    if status not in _WITHOUT_BODY:
        block += b"content-length: "
    return STATUS_LINE[status] + block, keep_alive
