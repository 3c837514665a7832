"""The connections to one address of one variant: a few, persistent, opened when needed and kept.

A keeper task keeps at least one open, so that whether the address is reachable is known before a client
asks, and a dead one is tried again with back-off while requests go elsewhere.
"""

import asyncio
import contextlib
import logging
from collections import deque

from kingmaker_gateway.connection import Connection, Reply
from kingmaker_gateway.errors import ConnectionLost, UpstreamTimeout, UpstreamUnreachable
from kingmaker_gateway.settings import UpstreamSettings

logger = logging.getLogger(__name__)


class Endpoint:
    """`host:port`. outstanding: requests sent or waiting to be; is_up: the last attempt to connect worked."""

    def __init__(self, address: str, settings: UpstreamSettings) -> None:
        self.address = address
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._settings = settings
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._opening = 0
        self._waiters: deque[asyncio.Future[Connection | None]] = deque()
        self._lost = asyncio.Event()
        self._retired = False
        self._keeper: asyncio.Task[None] | None = None
        self.outstanding = 0
        self.is_up = False

    def start(self) -> None:
        self._keeper = asyncio.create_task(self._keep(), name=f"endpoint {self.address}")

    async def send(self, request: bytes, deadline: float) -> Reply:
        """One exchange. Raises UpstreamError.

        A kept connection may have been closed by the server just now; if not one byte of the answer
        came, the request is sent once more on a fresh connection.
        """
        self.outstanding += 1
        try:
            connection = await self._take(deadline)
            reused = connection.kept
            try:
                return await connection.exchange(request, deadline)
            except ConnectionLost as error:
                if not (reused and error.untouched):
                    raise
            fresh = await self._connect(deadline)
            return await fresh.exchange(request, deadline)
        finally:
            self.outstanding -= 1

    def retire(self) -> None:
        """No longer wanted: idle connections close now, busy ones when their answer is there."""
        self._retired = True
        if self._keeper is not None:
            self._keeper.cancel()
        for connection in tuple(self._idle):
            connection.abort()

    async def close(self) -> None:
        """Everything ends now."""
        self.retire()
        for connection in tuple(self._open):
            connection.abort()
        if self._keeper is not None:
            await asyncio.gather(self._keeper, return_exceptions=True)

    async def _take(self, deadline: float) -> Connection:
        while True:
            while self._idle:
                connection = self._idle.pop()
                if connection.is_open:
                    return connection
            if len(self._open) + self._opening < self._settings.connections:
                return await self._connect(deadline)
            handed = await self._wait_for_one(deadline)
            if handed is not None and handed.is_open:
                return handed

    async def _wait_for_one(self, deadline: float) -> Connection | None:
        """A connection handed over in turn; None: look again, there is room for a new one."""
        waiter: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout_at(deadline):
                return await waiter
        except BaseException as error:
            if waiter.done() and not waiter.cancelled():  # handed over in the very moment this one gave up
                self._hand_over(waiter.result())
            else:
                with contextlib.suppress(ValueError):
                    self._waiters.remove(waiter)
            if isinstance(error, TimeoutError):
                raise UpstreamTimeout(f"no free connection to {self.address} in time") from None
            raise

    async def _connect(self, deadline: float) -> Connection:
        loop = asyncio.get_running_loop()
        patience = min(deadline, loop.time() + self._settings.connect_timeout_ms / 1000)
        self._opening += 1
        try:
            async with asyncio.timeout_at(patience):
                _, connection = await loop.create_connection(self._new, self._host, self._port)
        except TimeoutError:
            self._hand_over(None)
            if patience == deadline:  # a hurried client says nothing about the server
                raise UpstreamTimeout(f"no connection to {self.address} in time") from None
            self._is_down("no answer")
            raise UpstreamUnreachable(f"{self.address} did not accept a connection in time") from None
        except OSError as error:
            self._is_down(str(error))
            self._hand_over(None)
            raise UpstreamUnreachable(f"cannot connect to {self.address}: {error}") from None
        finally:
            self._opening -= 1
        if not self.is_up:
            logger.info("endpoint is up", extra={"endpoint": self.address})
        self.is_up = True
        self._open.add(connection)
        return connection

    def _new(self) -> Connection:
        return Connection(self._became_idle, self._was_lost, self._settings.max_answer_bytes)

    def _became_idle(self, connection: Connection) -> None:
        connection.kept = True
        if self._retired:
            connection.abort()
        elif connection.is_open:
            self._hand_over(connection)

    def _was_lost(self, connection: Connection) -> None:
        self._open.discard(connection)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)
        self._lost.set()
        self._hand_over(None)

    def _hand_over(self, connection: Connection | None) -> None:
        """To the one who has waited longest; kept when nobody waits. None: room for a new connection."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        if connection is not None:
            self._idle.append(connection)

    def _is_down(self, why: str) -> None:
        if self.is_up:
            logger.warning("endpoint is down", extra={"endpoint": self.address, "reason": why})
        self.is_up = False

    async def _keep(self) -> None:
        """Hold one connection open; back off while that fails."""
        first, last = self._settings.backoff_first_ms / 1000, self._settings.backoff_last_ms / 1000
        pause = first
        while True:
            self._lost.clear()
            if not self._open and not self._opening:
                try:
                    connection = await self._connect(float("inf"))
                except UpstreamUnreachable:
                    await asyncio.sleep(pause)
                    pause = min(last, pause * 2)
                    continue
                pause = first
                self._became_idle(connection)
                # a server that accepts and closes at once must not be hammered
                await asyncio.sleep(first)
            else:
                await self._lost.wait()
