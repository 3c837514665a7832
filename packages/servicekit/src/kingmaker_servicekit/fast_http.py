"""A fast way in: requests a service claims are answered by its own function, without ASGI.

`protocol_class` gives a subclass of uvicorn's httptools protocol for `Listener(http=...)`. uvicorn keeps connections,
keep-alive, TLS and shutdown, and gets every request that is not claimed, unchanged. HTTP is parsed by httptools only,
and a head that came before not again (`fast_heads`).
Heads and trailers are bounded for all requests, heads in time too, for nobody knows whose they will be. uvicorn's
access log does not see fast requests.
"""

from collections.abc import Callable
from time import perf_counter
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from kingmaker_servicekit.fast_call import BUSY, Call, FastRoute, Handler, Head, Wording
from kingmaker_servicekit.fast_heads import END, Heads
from kingmaker_servicekit.fast_leaving import Leaving
from kingmaker_servicekit.fast_turns import Refuse
from kingmaker_servicekit.fast_waiting import (
    ASGI_BODY,
    FAST_BODY,
    HEAD,
    MAX_HEAD_BYTES,
    NOTHING,
    UPGRADE,
    Waiting,
)

__all__ = ["Call", "FastRoute", "Handler", "protocol_class"]

_CLIENT_ERRORS = (httptools.HttpParserError, httptools.HttpParserInvalidURLError, UnicodeError)

Route = Callable[[bytes, bytes], FastRoute | None]


def protocol_class(
    route: Route, refuse: Refuse, body_read_s: float = 10, last_call_s: float = 0, heads: Heads | None = None
) -> type[HttpToolsProtocol]:
    """A protocol in which requests with a FastRoute by `route(method, path)` never reach ASGI.

    refuse(status, call) words the answers the protocol gives itself: 413 for a body over the limit, 408 for a request
    that is not whole after `body_read_s`, 400 for what is no HTTP, 431 for a head or trailers over 64 KiB, 500 after a
    handler raised. call is None where the head was not read.
    last_call_s: how long an idle connection is kept for one more answer when the server stops (`fast_leaving`).
    heads: where heads are remembered with the route they took; its owner clears it when `route` says something else.
    """
    attributes = {"_route": staticmethod(route), "_refuse": staticmethod(refuse), "_body_read_s": body_read_s}
    shared = {"_wording": Wording(), "_heads": Heads() if heads is None else heads}
    attributes |= {"_last_call_s": last_call_s}
    return type("FastHttpProtocol", (Leaving, _FastHttpProtocol), attributes | shared)


class _Stop(Exception):
    """Ends parsing from inside a callback: nothing further on this connection will be answered."""


class _FastHttpProtocol(Waiting):
    _route: Route
    _heads: Heads
    __slots__ = ("_claimed", "_known_heads", "_new_head", "_received", "_split", "_version_is_known")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._claimed = _UNCLAIMED  # the route of the fast request being read
        self._known_heads = self._heads  # the class's, in a slot for speed
        self._version_is_known = False
        self._split = (b"", b"", b"")  # the last URL, its path and its query
        self._new_head: bytes | None = None  # bytes that may be the whole head of the request being read
        self._received = 0  # how many bytes they came with

    # What uvicorn calls

    def data_received(self, data: bytes) -> None:
        if self.doing is None:
            raw, _, body = data.partition(END)
            known = self._known_heads.get(raw)
            if known is None:
                self._new_head, self._received = raw, len(data)
            elif len(body) == known.length:
                self.cycle = self.doing = call = Call(self, known.head, body, perf_counter())  # type: ignore[assignment]
                try:  # _handle, written out
                    known.handler(call)
                except Exception as error:
                    self._blame_handler(call, error)
                return
        elif self._ended:
            self._throw_away(len(data))
            return
        if len(data) > MAX_HEAD_BYTES:
            self._head_may_be_long = True
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if not self._reads_on(memoryview(data), upgrade):
                return
        except httptools.HttpParserError as error:
            self._break_off(error)
            return
        if self._stage:
            self._await_rest(len(data))

    # What the parser calls

    def on_message_begin(self) -> None:
        if self._ended:
            raise _Stop
        self._stage = HEAD
        self.doing = BUSY
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self._head_may_be_long:
            self._check_head_size()
        parser = self.parser
        method = parser.get_method()
        url, path, query = self._split
        if self.url != url:
            path, query = _split_url(method, self.url)
            self._split = (self.url, path, query)
        route = self._route(method, path)
        if route is None or (self.limit_concurrency is not None and self._is_over_concurrency()):
            if parser.should_upgrade() and method != b"CONNECT" and not self._should_upgrade():
                self._stage = UPGRADE
            else:
                self._to_asgi()
            return
        if parser.should_upgrade():
            self._stage = UPGRADE
            return
        keep_alive = parser.should_keep_alive() and not self._is_leaving
        # Asked once a connection, for it costs as much as a Call: after HTTP/1.1 a connection is known to persist, so
        # a later 1.0 request that wishes to keep it may.
        if not self._version_is_known:
            keep_alive = keep_alive and parser.get_http_version() != "1.0"
            self._version_is_known = True
        call = Call(self, Head(method, path, query, self.headers), keep_alive=keep_alive)
        self.headers = []  # for trailers, which must not pass for headers
        before = self.cycle
        self.cycle = call  # type: ignore[assignment]
        self._call = call
        self._stage = FAST_BODY
        self._claimed = route
        self._limit = route.max_body_bytes
        if before is not None and not before.response_complete:
            self._queue(call, route.handler)

    def on_body(self, body: bytes) -> None:
        call = self._call
        if call is None:
            self._body_grew = True
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
            if self._stage != UPGRADE:
                self._stage = NOTHING
                super().on_message_complete()
            return
        self._call = None
        self._stage = NOTHING
        if self._parts:
            call.body = b"".join(self._parts)
            self._forget_body()
        if self._read_timer is not None:
            self._stop_read_timer()
        call.arrived = perf_counter()
        if self._new_head is not None:
            self._meet(call, self._new_head)
        if self.pipeline:
            return  # waits there already
        if self.flow.write_paused:
            self._blocked_by_writing = True
            self._queue(call, self._claimed.handler)
            return
        if call.keep_alive and call.head.method != b"HEAD":
            self.doing = call
        try:  # _handle, written out
            self._claimed.handler(call)
        except Exception as error:
            self._blame_handler(call, error)

    # Reading

    def _meet(self, call: Call, raw: bytes) -> None:
        """Remember the head of a request that came whole and alone."""
        self._new_head = None
        is_alone = len(raw) + len(END) + len(call.body) == self._received
        if is_alone and call.keep_alive and self.limit_concurrency is None:
            self._heads.met(raw, call, self._claimed)

    def _to_asgi(self) -> None:
        """Hands the head to uvicorn as if it had read it itself."""
        self._new_head = None
        self._stop_read_timer()
        url, headers = self.url, self.headers
        _, path, query = self._split
        if not path and b"://" in url.partition(b"?")[0] and url.isascii():  # uvicorn trips over one without a path
            url = b"/?" + query if query else b"/"
        super().on_message_begin()
        self.url = url
        self.headers.extend(headers)  # the scope holds this list
        self.expect_100_continue = any(n == b"expect" and v.lower() == b"100-continue" for n, v in headers)
        super().on_headers_complete()
        self._stage = ASGI_BODY
        if not self.parser.should_upgrade():
            self.headers = []  # for trailers, which must not pass for headers

    def _is_over_concurrency(self) -> bool:
        limit = self.limit_concurrency
        return limit is not None and (len(self.connections) >= limit or len(self.tasks) >= limit)

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
        if self._stage != ASGI_BODY:
            self._refuse_in_turn(status, self._call)
        elif self._is_queued(self.cycle):
            self.pipeline.popleft()
            self._refuse_in_turn(status, None)
        else:
            self._end()
            self.idle_since = perf_counter()
            if self.cycle.response_started:
                self.transport.close()
            else:
                self.send_400_response("Invalid HTTP request received.")

    def _reads_on(self, data: memoryview, upgrade: httptools.HttpParserUpgrade | None) -> bool:
        """Whether the rest of data was read. httptools has no body for a request that offers an upgrade (Java's client
        offers h2c with every POST) and would take it for the next request, so the head is read again without the offer,
        which HTTP lets a server ignore, and the body behind it. A loop, for there may be thousands in one piece."""
        while upgrade is not None:
            if self._stage != UPGRADE:
                if self._should_upgrade():
                    self.handle_websocket_upgrade()
                else:
                    self._unsupported_upgrade_warning()
                return False
            data = data[upgrade.args[0] :]
            head = self._head_without_offer()
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            try:
                self.parser.feed_data(head)
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as another:
                upgrade = another
            except httptools.HttpParserError as error:
                self._break_off(error)
                return False
            else:
                upgrade = None
        return True

    def _head_without_offer(self) -> bytes:
        """Of the request just read."""
        version = self.parser.get_http_version().encode()
        head = [b"%b %b HTTP/%b\r\n" % (self.parser.get_method(), self.url, version)]
        head += [b"%b: %b\r\n" % (name, value) for name, value in self.headers if name != b"upgrade"]
        return b"".join([*head, b"\r\n"])


def _unclaimed(_: Call) -> None:
    raise AssertionError("no fast request is being read")


_UNCLAIMED = FastRoute(_unclaimed, 0)


def _split_url(method: bytes, url: bytes) -> tuple[bytes, bytes]:
    """(path, query). Empty for what only CONNECT and OPTIONS may ask for, and for what uvicorn refuses."""
    if method == b"CONNECT" or url == b"*" or not url.isascii():
        return b"", b""
    if url.startswith(b"/") and b"#" not in url:
        path, _, query = url.partition(b"?")
        return path, query
    parsed = httptools.parse_url(url)
    return parsed.path or b"", parsed.query or b""
