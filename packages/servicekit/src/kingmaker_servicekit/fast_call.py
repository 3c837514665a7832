"""One request on the fast way in, and how its answer is worded on the wire.

A Call stands in uvicorn's protocol where a RequestResponseCycle would (hence `keep_alive`, `response_complete`,
`disconnected`, `message_event`, uvicorn's own words), so uvicorn's shutdown and pipelining see fast requests without
knowing them. It costs neither a task nor a future.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol

import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE
from uvicorn.server import ServerState

Headers = Sequence[tuple[bytes, bytes]]
_REMEMBERED_HEADS = 256
_WITHOUT_BODY = (204, 304)
_LENGTH = b"content-length: "
_REMEMBERED_LENGTHS = 1024


class Connection(Protocol):
    """What a call needs of the connection it came by.

    doing: what goes on here. None: nothing, the next bytes begin a request. A call: it is in progress and nothing else
    is, so it wants an answer in the usual words, and then nothing goes on. BUSY: look closer. idle_since:
    `time.perf_counter()` of the last answer.
    """

    transport: asyncio.Transport
    server_state: ServerState
    doing: "Call | None"
    idle_since: float

    @property
    def wording(self) -> "Wording": ...

    def send_answer(self, call: "Call", status: int, headers: Headers, body: bytes, own: bytes) -> None: ...


class _NobodyWaits:
    def set(self) -> None:
        """uvicorn wakes its cycles by this event; a fast call has nothing asleep."""


class Head(msgspec.Struct, eq=False, frozen=True):
    """What comes before a body. headers: names in lower case, in order.

    notes: for what a handler works out of the head alone; later requests with the same head get the same dict. None:
    this head is not remembered.
    """

    method: bytes
    path: bytes
    query: bytes
    headers: list[tuple[bytes, bytes]]
    notes: dict[Any, Any] | None = None


NO_HEAD = Head(b"", b"", b"", [])
"""Of what could not be read."""


class Call(msgspec.Struct, eq=False):
    """One whole request. Answered exactly once, now or later, in the event loop.

    arrived: `time.perf_counter()` when the request was whole.
    A Struct, for one is made for every request, in a third of the time a class of Python takes.
    """

    message_event: ClassVar[_NobodyWaits] = _NobodyWaits()

    connection: Connection
    head: Head
    body: bytes = b""
    arrived: float = 0.0
    keep_alive: bool = True
    response_complete: bool = False
    disconnected: bool = False

    @property
    def path(self) -> bytes:
        return self.head.path

    @property
    def query(self) -> bytes:
        return self.head.query

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Names in lower case, in order."""
        return self.head.headers

    @property
    def is_open(self) -> bool:
        """Whether an answer would still reach somebody."""
        return not (self.response_complete or self.connection.transport.is_closing())

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header, by its lower-case name."""
        for key, value in self.head.headers:
            if key == name:
                return value
        return None

    def answer(self, status: int, headers: Headers, body: bytes, own: bytes = b"") -> None:
        """Send the answer; nothing happens when the client has gone. Give headers as a tuple where they are constant:
        tuples are worded once a second. own: header lines of this answer alone, each ended by CRLF; they are sent as
        they are, so nothing that came from a client belongs there.

        Raises RuntimeError for a second answer, an interim status, or a header that would break the head.
        """
        if self.response_complete:
            raise RuntimeError(f"{self.head.method.decode()} {self.path!r} was answered already")
        self.connection.send_answer(self, status, headers, body, own)


BUSY: Final = Call(None, NO_HEAD)  # type: ignore[arg-type]
"""See Connection.doing. No call that came by a connection."""

Handler = Callable[[Call], None]
"""Called in the event loop once the body is whole; must not block; answers now or later."""


@dataclass(frozen=True, slots=True)
class FastRoute:
    """max_body_bytes: longer bodies are refused with 413. handler_of: asked once about a head that is remembered; what
    it gives handles later requests with that head in place of handler."""

    handler: Handler
    max_body_bytes: int
    handler_of: Callable[[Head], Handler] | None = None


class Leads(dict[int, bytes]):
    """Answers up to the value of a header of their own, by the length of the body: writing the number again and again
    costs as much as sending it."""

    def __init__(self, head: bytes, name: bytes) -> None:
        """head: see Wording; name: of the header."""
        super().__init__()
        self._head = head
        self._name = name

    def __missing__(self, length: int) -> bytes:
        if len(self) >= _REMEMBERED_LENGTHS:
            self.clear()
        lead = self[length] = b"%b%d\r\n%b: " % (self._head, length, self._name)
        return lead


class Wording:
    """Writes answers, remembering the heads that are alike until uvicorn's default headers (the date) change.

    heads: by (status, headers), up to the number after content-length, of answers that leave the connection open.
    last, last_status, last_headers: the one sent last, told by identity: a service mostly sends one kind.
    """

    __slots__ = ("_leads", "defaults", "heads", "last", "last_headers", "last_status")

    def __init__(self) -> None:
        self.defaults: Headers = []
        self.heads: dict[tuple[int, Headers], bytes] = {}
        self._leads: dict[tuple[bytes, bytes], Leads] = {}  # by head and name
        self._forget_last()

    def find(self, defaults: Headers, status: int, headers: Headers) -> bytes | None:
        if defaults is not self.defaults or not isinstance(headers, tuple):
            return None
        head = self.heads.get((status, headers))
        if head is not None:
            self.last, self.last_status, self.last_headers = head, status, headers
        return head

    def leads(self, defaults: Headers, status: int, headers: Headers, name: bytes) -> Leads | None:
        """Of answers that differ in the value of one header and in their bodies. None: `answer` has to word them."""
        head = self.find(defaults, status, headers)
        if head is None:
            return None
        leads = self._leads.get((head, name))
        if leads is None:
            leads = self._leads[head, name] = Leads(head, name)
        return leads

    def answer(  # noqa: PLR0917
        self, defaults: Headers, call: Call | None, status: int, headers: Headers, body: bytes, own: bytes = b""
    ) -> tuple[bytes, bool]:
        """(bytes to send, whether the connection stays open). Raises RuntimeError as Call.answer."""
        head, keep_alive = _head(defaults, status, headers)
        if status not in _WITHOUT_BODY:
            if keep_alive and isinstance(headers, tuple):
                self._remember(defaults, (status, headers), head + _LENGTH)
            head += _LENGTH + b"%d\r\n" % len(body)
        if call is None or not call.keep_alive:
            if keep_alive:
                head += b"connection: close\r\n"
            keep_alive = False
        if status in _WITHOUT_BODY or (call is not None and call.head.method == b"HEAD"):
            body = b""
        return b"".join((head, own, b"\r\n", body)), keep_alive

    def _remember(self, defaults: Headers, key: tuple[int, Headers], head: bytes) -> None:
        if defaults is not self.defaults or len(self.heads) >= _REMEMBERED_HEADS:
            self.defaults = defaults
            self.heads.clear()
            self._leads.clear()
            self._forget_last()
        self.heads[key] = head

    def _forget_last(self) -> None:
        self.last, self.last_status, self.last_headers = b"", 0, ()


def _head(defaults: Headers, status: int, headers: Headers) -> tuple[bytes, bool]:
    """(status line and headers, whether the headers let the connection live)."""
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
    return STATUS_LINE[status] + block, keep_alive
