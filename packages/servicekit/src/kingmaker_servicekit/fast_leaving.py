"""Leave without losing a request: an idle connection is answered once more before it is closed.

A client that keeps its connection may send the next request in the very moment a server closes it; the request is lost,
and most clients do not repeat a POST. So a server that stops closes idle connections a little later, and tells a client
that still came (`connection: close`) that this was the last answer.
"""

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from kingmaker_servicekit.fast_call import BUSY


class Leaving(HttpToolsProtocol):
    """Comes before the protocol it changes. _last_call_s: how long an idle connection stays open."""

    __slots__ = ()
    _last_call_s: float

    def shutdown(self) -> None:
        ours: Any = self
        ours.doing = BUSY
        if ours._is_busy() or not self._last_call_s or self.transport.is_closing():
            super().shutdown()  # what is in progress says that it was the last
            return
        ours._is_leaving = True
        ours._to_asgi = self._to_asgi_at_last
        self.loop.call_later(self._last_call_s, self._leave)

    def _to_asgi_at_last(self) -> None:
        super()._to_asgi()  # type: ignore[misc]
        if self.cycle is not None:
            self.cycle.keep_alive = False

    def _leave(self) -> None:
        ours: Any = self
        if not ours._is_busy() and not ours._is_reading() and not self.transport.is_closing():
            self.transport.close()
