"""One persistent HTTP/1.1 connection to a model server: one exchange at a time, parsed by httptools.

Not httpx: as a proxy it costs a hundred times more processor time than this (docs: performance). There is
no pipelining, so giving up an answer means closing the connection, which also tells the server to stop.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import httptools

from kingmaker_gateway.errors import ConnectionLost, UpstreamGarbage, UpstreamTimeout


@dataclass(slots=True, frozen=True)
class Reply:
    """One HTTP answer. head_length: the value of Inference-Header-Content-Length, None without that header."""

    status: int
    body: bytes
    head_length: int | None


class Connection(asyncio.Protocol):
    """Idle, or busy with one exchange. on_idle: called when it can be used again; on_lost: when it is gone;
    kept: it has been idle, so the server may have closed it meanwhile."""

    def __init__(
        self, on_idle: Callable[["Connection"], None], on_lost: Callable[["Connection"], None], max_bytes: int
    ) -> None:
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._max_bytes = max_bytes
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[Reply] | None = None
        self._complete = False
        self._body: list[bytes] = []
        self._head_length: int | None = None
        self._size = 0
        self._touched = False
        self.kept = False

    async def exchange(self, request: bytes, deadline: float) -> Reply:
        """Send a request and wait for its answer until `deadline` (the loop's clock).

        Raises UpstreamTimeout, ConnectionLost, UpstreamGarbage; after any of them the connection is closed.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            raise ConnectionLost("the connection was closed while idle", untouched=True)
        loop = asyncio.get_running_loop()
        self._reset()
        waiter: asyncio.Future[Reply] = loop.create_future()
        self._waiter = waiter
        transport.write(request)
        timer = loop.call_at(deadline, self._expire)
        try:
            return await waiter
        except asyncio.CancelledError:
            self.abort()
            raise
        finally:
            timer.cancel()
            self._waiter = None

    def abort(self) -> None:
        """Close at once; on_lost follows."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one without saying so

    def data_received(self, data: bytes) -> None:
        if self._waiter is None or self._complete:
            self.abort()  # bytes nobody asked for: what follows cannot be trusted
            return
        self._touched = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, ValueError) as error:
            self._fail(UpstreamGarbage(f"the answer is not HTTP/1.1: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_exception(
                ConnectionLost(f"the connection ended before the answer did: {exc}", untouched=not self._touched)
            )
        self._on_lost(self)

    # httptools callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"inference-header-content-length":
            self._head_length = int(value)  # a ValueError reaches data_received

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > self._max_bytes:
            self._fail(UpstreamGarbage(f"the answer is longer than {self._max_bytes} bytes"))
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # 100 Continue and its like: the answer is still to come
            self._body.clear()
            return
        self._complete = True
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        waiter.set_result(Reply(status, b"".join(self._body), self._head_length))
        if self._parser.should_keep_alive():
            # after this callback has returned, so that the parser is done before it is fed again
            asyncio.get_running_loop().call_soon(self._on_idle, self)
        else:
            self.abort()

    def _reset(self) -> None:
        self._body = []
        self._size = 0
        self._head_length = None
        self._touched = False
        self._complete = False

    def _expire(self) -> None:
        self._fail(UpstreamTimeout("the time for this attempt ran out"))

    def _fail(self, error: Exception) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
        self.abort()
