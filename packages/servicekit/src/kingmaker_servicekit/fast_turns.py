"""Turns on one connection: one request in progress at a time, answers in the order of the requests, one last answer.

What is pipelined behind the request in progress waits in uvicorn's `pipeline` with reading paused. Its entries are
(cycle, ASGI app), (Call, handler), or (Call, status) for a request that will be refused when its turn comes: a refusal
must not overtake the answers before it.
After a refusal the client may still be sending; closing at once would reset the connection and could take the answer
with it, so what still comes is thrown away for a bounded while.
"""

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from kingmaker_servicekit.fast_call import BUSY, NO_HEAD, Call, Handler, Headers, Wording

LINGER_S = 2.0
LINGER_BYTES = 64 * 2**20

Refuse = Callable[[int, Call | None], tuple[list[tuple[bytes, bytes]], bytes]]


class TakingTurns(HttpToolsProtocol):
    """uvicorn's protocol with fast calls in its line. Reading them is the subclass's."""

    # slots, for uvicorn's own attributes nearly fill the thirty for which Python keeps an instance compact and fast
    __slots__ = (
        "_advancing",
        "_blocked_by_writing",
        "_call",
        "_ended",
        "_is_leaving",
        "_thrown_away",
        "doing",
        "idle_since",
        "wording",
    )
    _refuse: Refuse
    _wording: Wording

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._call: Call | None = None  # the fast request being read
        self.doing: Call | None = None  # see fast_call.Connection
        self.idle_since = 0.0
        self.wording = self._wording  # the class's, in a slot for speed
        self._advancing = False
        self._blocked_by_writing = False
        self._ended = False  # the last answer was given or queued; what comes now is thrown away
        self._thrown_away = 0
        self._is_leaving = False  # the next answer is the last one

    def _await_body(self, call: Call) -> None:
        """The turn of a request has come before its body was whole."""
        raise NotImplementedError

    def _is_reading(self) -> bool:
        """Whether a request has begun that somebody watches the clock of."""
        raise NotImplementedError

    def _stop_reading(self) -> None:
        """Nothing more will be read on this connection."""
        raise NotImplementedError

    # What uvicorn calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.idle_since = perf_counter()
        self._watch_idleness()  # uvicorn would wait for ever for the first request

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._stop_reading()
        self.pipeline.clear()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.doing = BUSY

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._blocked_by_writing:
            self._blocked_by_writing = False
            self._advance()

    def timeout_keep_alive_handler(self) -> None:
        """Runs less often than requests come: answers only note the time, and this looks at it.

        A closing connection waits only for its client to read; what is still in line behind its last answer does not
        make it busy.
        """
        self.timeout_keep_alive_task = None
        left = self.idle_since + self.timeout_keep_alive - perf_counter()
        if not self.transport.is_closing() and (self._is_busy() or self._is_reading()):
            self._watch_idleness()
        elif left > 0:
            self.timeout_keep_alive_task = self.loop.call_later(left + 0.001, self.timeout_keep_alive_handler)
        else:
            self._give_up()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        self.idle_since = perf_counter()
        if self.pipeline:
            self._advance()
        elif not self.transport.is_closing():
            self.flow.resume_reading()

    # The line

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
        """Whether it is answered already."""
        if cycle.__class__ is not Call:
            self._start_asgi_task(cycle, what)
        elif cycle is self._call:
            self._await_body(cycle)
        elif isinstance(what, int):
            cycle.response_complete = True
            self._refuse_now(what, None if cycle.head is NO_HEAD else cycle)
        else:
            self._handle(cycle, what)
        return bool(cycle.response_complete)

    def _handle(self, call: Call, handler: Handler) -> None:
        try:
            handler(call)
        except Exception as error:  # the outermost handler of a fast request
            self._blame_handler(call, error)

    def _blame_handler(self, call: Call, error: Exception) -> None:
        self.logger.error("Exception in a fast handler", exc_info=error)
        if not call.response_complete:
            self.pipeline.clear()  # what waits behind the last answer will have none
            self._refuse_in_turn(500, call)

    # Answering

    def send_answer(self, call: Call, status: int, headers: Headers, body: bytes, own: bytes) -> None:
        transport = self.transport
        if transport.is_closing():
            call.response_complete = True
            return
        state = self.server_state
        wording = self.wording
        head: bytes | None = wording.last
        if (
            headers is not wording.last_headers
            or status != wording.last_status
            or wording.defaults is not state.default_headers
        ):
            head = wording.find(state.default_headers, status, headers)
        if head is None or self.doing is not call:
            self._send_unusual(call, status, headers, body, own)
            return
        call.response_complete = True
        self.doing = None
        transport.write(b"%b%d\r\n%b\r\n%b" % (head, len(body), own, body))
        state.total_requests += 1
        self.idle_since = perf_counter()

    def _send_unusual(self, call: Call, status: int, headers: Headers, body: bytes, own: bytes) -> None:
        """An answer that is worded for the first time, closes the connection, has no body, or is followed by more."""
        data, stays_open = self.wording.answer(self.server_state.default_headers, call, status, headers, body, own)
        call.response_complete = True
        if not stays_open:
            self._end()
        elif self.doing is call:
            self.doing = None
        self.transport.write(data)
        if stays_open:
            self.on_response_complete()
        else:
            self.server_state.total_requests += 1
            self.idle_since = perf_counter()
            self.transport.close()

    def _watch_idleness(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _refuse_in_turn(self, status: int, call: Call | None) -> None:
        """The last answer of this connection: now, or after those before it. call: the one being read, if any."""
        self._end()
        self._call = None
        self._stop_reading()
        if call is not None and self._is_queued(call):
            self.pipeline[0] = (call, status)  # type: ignore[assignment]
        elif call is None and self._is_busy():
            nobody = Call(self, NO_HEAD, keep_alive=False)
            self.cycle = nobody  # type: ignore[assignment]
            self._queue(nobody, status)
        else:
            self._refuse_now(status, call)

    def _refuse_now(self, status: int, call: Call | None) -> None:
        self._end()
        if call is not None:
            call.response_complete = True
            call.keep_alive = False
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        self.flow.resume_reading()
        headers, body = self._refuse(status, call)
        data, _ = self._wording.answer(self.server_state.default_headers, call, status, headers, body)
        self.transport.write(data)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.timeout_keep_alive_task = self.loop.call_later(LINGER_S, self._give_up)

    def _end(self) -> None:
        """What comes from now on is thrown away."""
        self._ended = True
        self.doing = BUSY

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
