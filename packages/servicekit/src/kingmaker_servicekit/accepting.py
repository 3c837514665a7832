"""Take the clients that wait at a listening socket together, in one round of the event loop.

uvloop's own server takes one a round, for libuv does. A round of a busy service lasts some 10 ms, so the last of 256
clients that came at once waited for more than a second, and its request with it. Here a reader of our own takes who
waits, up to a bound, and the loop makes of each what its own server would. A connection costs 10 to 25 us more so.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

logger = logging.getLogger(__name__)

BACKLOG = 2048
"""Clients that may wait to be taken; those beyond are not connected."""

AT_ONCE = 64
"""Clients taken in one round, at most: requests in flight wait for them, some 4 ms."""

AT_ONCE_TLS = 16
"""The same where each will want a handshake, which takes a millisecond."""


class Acceptor:
    """Takes clients from the start until close(), and has of asyncio.Server what uvicorn asks for.

    The socket stays the caller's, who closes it after close(). handshake_s: how long a client may take to agree on TLS.
    retry_s: how long clients are left waiting when there is no file descriptor for one more; the socket stays readable
    then, so to go on asking would take the whole processor.
    """

    def __init__(
        self,
        sock: socket.socket,
        make_protocol: Callable[[], HttpToolsProtocol],
        tls: ssl.SSLContext | None = None,
        *,
        at_once: int | None = None,
        handshake_s: float = 10.0,
        retry_s: float = 1.0,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = sock
        self._make_protocol = make_protocol
        self._tls = tls
        self._at_once = at_once or (AT_ONCE if tls is None else AT_ONCE_TLS)
        self._handshake_s = None if tls is None else handshake_s
        self._retry_s = retry_s
        self._retry: asyncio.TimerHandle | None = None  # while clients are left waiting
        self._connecting: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self._loop.add_reader(sock, self._take_waiting)

    def close(self) -> None:
        """Take who waits now, for a closed socket resets them, and nobody after."""
        if self._is_closed:
            return
        if self._retry is None:
            self._take(BACKLOG + 1)  # the kernel lets one more wait
        self._is_closed = True
        if self._retry is not None:
            self._retry.cancel()
        self._loop.remove_reader(self._socket)

    async def wait_closed(self) -> None:
        """Give up who has not agreed on TLS by now: uvicorn asks when all others have their answers."""
        connecting = list(self._connecting)
        for task in connecting:
            task.cancel()
        await asyncio.gather(*connecting, return_exceptions=True)

    def _take_waiting(self) -> None:
        self._take(self._at_once)

    def _take(self, most: int) -> None:
        for _ in range(most):
            try:
                client, _ = self._socket.accept()
            except BlockingIOError:
                return
            except ConnectionAbortedError:
                continue  # this one is gone
            except OSError as error:
                self._leave_waiting(error)
                return
            task = self._loop.create_task(self._connect(client))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect(self, client: socket.socket) -> None:
        protocol = self._make_protocol()
        try:
            await self._loop.connect_accepted_socket(
                lambda: protocol, client, ssl=self._tls, ssl_handshake_timeout=self._handshake_s
            )
        except OSError as error:  # the client left, or cannot agree on TLS, or not in time
            logger.debug("no connection came about", extra={"error": str(error)})
            return
        if self._is_closed:
            protocol.shutdown()  # the others were told before this one was among them

    def _leave_waiting(self, error: OSError) -> None:
        logger.warning(
            "cannot take connections, clients wait", extra={"error": error.strerror, "retry_s": self._retry_s}
        )
        self._loop.remove_reader(self._socket)
        self._retry = self._loop.call_later(self._retry_s, self._take_again)

    def _take_again(self) -> None:
        self._retry = None
        self._loop.add_reader(self._socket, self._take_waiting)
