"""A fast way in: requests a service claims are answered by its own function, without ASGI.

`protocol_class` gives a subclass of uvicorn's httptools protocol for `Listener(http=...)`. uvicorn keeps connections,
keep-alive, TLS and shutdown, and gets every request that is not claimed, unchanged. HTTP is parsed by httptools only.

One request of a connection is in progress at a time, fast or not; what is pipelined behind it waits in uvicorn's
`pipeline` with reading paused. Its entries are (cycle, ASGI app), (Call, handler), or (Call, status) for a request
that will be refused when its turn comes: a refusal must not overtake the answers before it.
After a refusal the client may still be sending; closing at once would reset the connection and could take the answer
with it, so what still comes is thrown away for a bounded while.
"""

import asyncio
import time
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from kingmaker_servicekit.fast_call import Call, FastRoute, Handler, Headers, Wording

__all__ = ["Call", "FastRoute", "Handler", "protocol_class"]

MAX_HEAD_BYTES = 65536
LINGER_S = 2.0
LINGER_BYTES = 64 * 2**20

_CLIENT_ERRORS = (httptools.HttpParserError, httptools.HttpParserInvalidURLError, UnicodeError)

Route = Callable[[bytes, bytes], FastRoute | None]
Refuse = Callable[[int, Call | None], tuple[list[tuple[bytes, bytes]], bytes]]


def protocol_class(route: Route, refuse: Refuse, body_read_s: float = 10) -> type[HttpToolsProtocol]:
    """A protocol in which requests with a FastRoute by `route(method, path)` never reach ASGI.

    refuse(status, call) words the answers the protocol gives itself: 413 for a body over the limit, 408 for a request
    that is not whole after `body_read_s`, 400 for what is no HTTP, 431 for a head over 64 KiB, 500 after a handler
    raised. call is None where the head was not read.
    """
    attributes = {"_route": staticmethod(route), "_refuse": staticmethod(refuse), "_body_read_s": body_read_s}
    return type("FastHttpProtocol", (_FastHttpProtocol,), {**attributes, "_wording": Wording()})


class _Reading(IntEnum):
    """How far the request being parsed is."""

    NOTHING = 0
    HEAD = 1
    FAST_BODY = 2
    ASGI_BODY = 3
    UPGRADE = 4  # a fast request that offers another protocol; parsed again without the offer


class _Stop(Exception):
    """Ends parsing from inside a callback: nothing further on this connection will be answered."""


class _FastHttpProtocol(HttpToolsProtocol):
    _route: Route
    _refuse: Refuse
    _body_read_s: float
    _wording: Wording

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._stage = _Reading.NOTHING
        self._call: Call | None = None  # the fast request being read
        self._handler: Handler = _unclaimed
        self._limit = 0
        self._size = 0
        self._parts: list[bytes] = []
        self._body_awaited = False
        self._head_bytes = 0
        self._head_may_be_long = False
        self._read_timer: asyncio.TimerHandle | None = None
        self._idle_since = 0.0
        self._advancing = False
        self._blocked_by_writing = False
        self._ended = False  # the last answer was given or queued; what comes now is thrown away
        self._thrown_away = 0

    # What uvicorn calls

    def data_received(self, data: bytes) -> None:
        if self._ended:
            self._throw_away(len(data))
            return
        if len(data) > MAX_HEAD_BYTES:
            self._head_may_be_long = True
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._take_upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError as error:
            self._break_off(error)
            return
        if self._stage:
            self._await_rest(len(data))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._stop_read_timer()
        self.pipeline.clear()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._blocked_by_writing:
            self._blocked_by_writing = False
            self._advance()

    def timeout_keep_alive_handler(self) -> None:
        """Runs less often than requests come: answers only note the time, and this looks at it."""
        self.timeout_keep_alive_task = None
        if self._is_busy() or self._stage in (_Reading.HEAD, _Reading.FAST_BODY):
            return  # the next answer starts it again
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0.001:
            self.timeout_keep_alive_task = self.loop.call_later(left, self.timeout_keep_alive_handler)
        else:
            self._give_up()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.pipeline:
            self._advance()
        elif not self.transport.is_closing():
            self._rest()

    # What the parser calls

    def on_message_begin(self) -> None:
        if self._ended:
            raise _Stop
        self._stage = _Reading.HEAD
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        url = self.url
        parser = self.parser
        if self._head_may_be_long:
            self._check_head_size()
        method = parser.get_method()
        if not url.startswith(b"/") or b"#" in url:
            path, query = _split_url(method, url)
        else:
            path, _, query = url.partition(b"?")
        route = self._route(method, path) if path.isascii() else None
        if route is None or self._is_over_concurrency():
            self._to_asgi()
            return
        if parser.should_upgrade():
            self._stage = _Reading.UPGRADE
            return
        keep_alive = parser.should_keep_alive() and parser.get_http_version() != "1.0"
        call = Call(self, method, path, query, self.headers, time.perf_counter(), keep_alive)
        self.headers = []  # for trailers, which must not pass for headers
        before = self.cycle
        self.cycle = call  # type: ignore[assignment]
        self._call = call
        self._stage = _Reading.FAST_BODY
        self._handler = route.handler
        self._limit = route.body_limit(path)
        if before is not None and not before.response_complete:
            self._queue(call, route.handler)

    def on_body(self, body: bytes) -> None:
        call = self._call
        if call is None:
            super().on_body(body)
            return
        if not call.body:
            size = len(body)
            call.body = body
        else:
            size = self._size + len(body)
            if not self._parts:
                size += len(call.body)
                self._parts.append(call.body)
            self._parts.append(body)
            self._size = size
        if size > self._limit:
            self._refuse_in_turn(413, call)
            raise _Stop

    def on_message_complete(self) -> None:
        call = self._call
        if call is None:
            if self._stage != _Reading.UPGRADE:
                self._stage = _Reading.NOTHING
                super().on_message_complete()
            return
        self._call = None
        self._stage = _Reading.NOTHING
        if self._parts:
            call.body = b"".join(self._parts)
            self._forget_body()
        if self._read_timer is not None:
            self._stop_read_timer()
        handler = self._handler
        if self.pipeline:
            return  # waits there already
        if self.flow.write_paused:
            self._blocked_by_writing = True
            self._queue(call, handler)
            return
        self._handle(call, handler)

    # Reading

    def _to_asgi(self) -> None:
        """Hands the head to uvicorn as if it had read it itself."""
        self._stop_read_timer()
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        self.headers.extend(headers)  # the scope holds this list
        self.expect_100_continue = any(n == b"expect" and v.lower() == b"100-continue" for n, v in headers)
        super().on_headers_complete()
        self._stage = _Reading.ASGI_BODY

    def _is_over_concurrency(self) -> bool:
        limit = self.limit_concurrency
        return limit is not None and (len(self.connections) >= limit or len(self.tasks) >= limit)

    def _await_rest(self, received: int) -> None:
        """The bytes ended inside a request."""
        if self._stage == _Reading.HEAD:
            self._head_may_be_long = True
            self._head_bytes += received if self._head_bytes else 1  # the first bytes may be mostly earlier requests
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse_in_turn(431, None)
                return
        elif self._call is not None:
            if not (self._body_awaited or self.pipeline):
                self._await_body(self._call)
            if self._ended:
                return
        else:
            return
        if self._read_timer is None:
            self._read_timer = self.loop.call_later(self._body_read_s, self._on_read_timeout)

    def _await_body(self, call: Call) -> None:
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
        its_turn = not self._is_busy() if self._stage == _Reading.HEAD else not self.pipeline
        if its_turn:
            self._refuse_in_turn(408, self._call)
        else:
            self._read_timer = self.loop.call_later(self._body_read_s, self._on_read_timeout)

    def _stop_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None
        self._body_awaited = False

    def _forget_body(self) -> None:
        self._parts = []
        self._size = 0

    def _check_head_size(self) -> None:
        self._head_bytes = 0
        if len(self.url) + sum([len(name) + len(value) + 4 for name, value in self.headers]) > MAX_HEAD_BYTES:
            self._refuse_in_turn(431, None)
            raise _Stop

    def _break_off(self, error: httptools.HttpParserError) -> None:
        """Nothing after a parser's error can be understood."""
        if self._ended:
            return
        status = 400
        cause = error.__context__
        if isinstance(error, httptools.HttpParserCallbackError) and not isinstance(cause, _CLIENT_ERRORS):
            self.logger.error("Exception while reading a request", exc_info=cause)
            status = 500
        if self._stage != _Reading.ASGI_BODY:
            self._refuse_in_turn(status, self._call)
        elif self._is_queued(self.cycle):
            self.pipeline.popleft()
            self._refuse_in_turn(status, None)
        else:
            self._ended = True
            if self.cycle.response_started:
                self.transport.close()
            else:
                self.send_400_response("Invalid HTTP request received.")

    def _take_upgrade(self, rest: bytes) -> None:
        """httptools has no body for a request that offers an upgrade (Java's client offers h2c with every POST), so
        a fast one is read again without the offer, which HTTP lets a server ignore."""
        if self._stage == _Reading.UPGRADE:
            head = [
                b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
            ]
            head += [b"%b: %b\r\n" % (name, value) for name, value in self.headers if name != b"upgrade"]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self.data_received(b"".join([*head, b"\r\n", rest]))
        elif self._should_upgrade():
            self.handle_websocket_upgrade()
        else:
            self._unsupported_upgrade_warning()

    # Taking turns

    def _is_busy(self) -> bool:
        return bool(self.pipeline) or (self.cycle is not None and not self.cycle.response_complete)

    def _is_queued(self, cycle: Any) -> bool:
        """Only ever asked of the last request read."""
        return bool(self.pipeline) and self.pipeline[0][0] is cycle

    def _queue(self, call: Call, what: Handler | int) -> None:
        self.flow.pause_reading()
        self.pipeline.appendleft((call, what))  # type: ignore[arg-type]

    def _advance(self) -> None:
        """Start what waits, until something is not answered at once. A loop, not a recursion through answers."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while self.pipeline and not self.transport.is_closing():
                if self.flow.write_paused:
                    self._blocked_by_writing = True
                    return
                waiting: tuple[Any, Any] = self.pipeline.pop()
                if not self.pipeline:
                    self.flow.resume_reading()
                if not self._start(*waiting):
                    return
        finally:
            self._advancing = False

    def _start(self, cycle: Any, what: Any) -> bool:
        """Whether it is done already."""
        if cycle.__class__ is not Call:
            self._start_asgi_task(cycle, what)
        elif cycle is self._call:
            self._await_body(cycle)
        elif isinstance(what, int):
            cycle.response_complete = True
            self._refuse_now(what, cycle if cycle.method else None)
        else:
            self._handle(cycle, what)
        return bool(cycle.response_complete)

    def _handle(self, call: Call, handler: Handler) -> None:
        try:
            handler(call)
        except Exception as error:  # the outermost handler of a fast request
            self.logger.error("Exception in a fast handler", exc_info=error)
            if not call.response_complete:
                self._refuse_now(500, call)

    # Answering

    def send_answer(self, call: Call, status: int, headers: Headers, body: bytes) -> None:
        transport = self.transport
        if transport.is_closing():
            call.response_complete = True
            return
        data, keep_alive = self._wording.answer(self.server_state.default_headers, call, status, headers, body)
        call.response_complete = True
        transport.write(data)
        if not keep_alive:
            self._ended = True
            transport.close()
        self.on_response_complete()

    def _rest(self) -> None:
        """Nothing is in progress."""
        flow = self.flow
        if flow.read_paused:
            flow.resume_reading()
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _refuse_in_turn(self, status: int, call: Call | None) -> None:
        """The last answer of this connection: now, or after those before it. call: the one being read, if any."""
        self._ended = True
        self._call = None
        self._stage = _Reading.NOTHING
        self._stop_read_timer()
        self._forget_body()
        if call is not None and self._is_queued(call):
            self.pipeline[0] = (call, status)  # type: ignore[assignment]
        elif call is None and self._is_busy():
            nobody = Call(self, b"", b"", b"", [], time.perf_counter(), keep_alive=False)
            self.cycle = nobody  # type: ignore[assignment]
            self._queue(nobody, status)
        else:
            self._refuse_now(status, call)

    def _refuse_now(self, status: int, call: Call | None) -> None:
        self._ended = True
        if call is not None:
            call.response_complete = True
            call.keep_alive = False
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        headers, body = self._refuse(status, call)
        data, _ = self._wording.answer(self.server_state.default_headers, call, status, headers, body)
        self.transport.write(data)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self.timeout_keep_alive_task = self.loop.call_later(LINGER_S, self._give_up)

    def _throw_away(self, received: int) -> None:
        self._thrown_away += received
        if self._thrown_away > LINGER_BYTES:
            self._give_up()

    def _give_up(self) -> None:
        """Close; at once where the client does not read, for closing would wait for it."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()


def _unclaimed(_: Call) -> None:
    raise AssertionError("no fast request is being read")


def _split_url(method: bytes, url: bytes) -> tuple[bytes, bytes]:
    """(path, query) of an absolute form, or of what only CONNECT and OPTIONS may ask for: an empty path."""
    if method == b"CONNECT" or url == b"*":
        return b"", b""
    parsed = httptools.parse_url(url)
    return parsed.path or b"", parsed.query or b""
