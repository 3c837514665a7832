"""The connections to one address of one variant: a few, persistent, opened when needed and kept.

A keeper task keeps at least one open, so that whether the address is reachable is known before a client
asks, and a dead one is tried again with back-off while requests go elsewhere.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable
from typing import Protocol

from kingmaker_gateway.breaker import Breaker, State
from kingmaker_gateway.connection import Connection, Heads, Reply
from kingmaker_gateway.errors import UpstreamError, UpstreamTimeout, UpstreamUnreachable
from kingmaker_gateway.settings import BreakerSettings, UpstreamSettings

logger = logging.getLogger(__name__)

_LAST_CALL_S = 1.0


class Owner(Protocol):
    """Who uses an endpoint's connections."""

    def replied(self, endpoint: "Endpoint", connection: Connection, reply: Reply) -> None: ...

    def lost(self, endpoint: "Endpoint", connection: Connection, error: UpstreamError) -> None: ...

    def changed(self) -> None:
        """A connection is free, or one could not be opened."""
        ...


class Endpoint:
    """`host:port`. host: the same for a Host header; outstanding: frames in flight; is_up: the last attempt to
    connect worked (while it did not, the keeper tries again, whatever else is open); breaker: ejection."""

    def __init__(self, address: str, settings: UpstreamSettings, owner: Owner) -> None:
        self.address = address
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self.host = address.encode()
        self._settings = settings
        self._owner = owner
        self._known_heads = Heads()
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._connecting = 0
        self._changed = asyncio.Event()
        self._retired = False
        self._closed = False
        self._keeper: asyncio.Task[None] | None = None
        self.outstanding = 0
        self.is_up = False
        self.breaker = Breaker(BreakerSettings(failures=settings.eject_failures, open_ms=settings.eject_ms, probes=1))

    def start(self) -> None:
        self._keeper = asyncio.create_task(self._keep(), name=f"endpoint {self.address}")

    @property
    def has_idle(self) -> bool:
        return bool(self._idle)

    @property
    def is_opening(self) -> bool:
        return self._connecting > 0 or bool(self._opening)

    @property
    def is_connected(self) -> bool:
        return bool(self._open)

    def take(self) -> Connection | None:
        """An idle connection. None: there is none; if there is room, one is being opened."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closing():
                return connection
        if not self.is_up and self.is_opening:
            return None  # one attempt at a time, so that there is a moment when it is known to have failed
        if not self._closed and len(self._open) + len(self._opening) < self._settings.connections:
            task = asyncio.create_task(self._open_one(), name=f"connect {self.address}")
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        return None

    def put_back(self, connection: Connection) -> None:
        """It was taken and not used."""
        self._idle.append(connection)

    def carry(self, connection: Connection, cargo: object, now: float) -> None:
        """An exchange begins on a connection that was taken."""
        connection.cargo = cargo
        self.outstanding += 1
        if self.breaker.state is not State.CLOSED:
            self.breaker.admits(now)

    def drop_idle(self) -> None:
        """The server closed one that was idle; the others are no better."""
        for connection in tuple(self._idle):
            connection.abort()
        self._idle.clear()

    async def fetch(self, request: bytes, deadline: float) -> Reply:
        """One exchange on a connection of its own: control traffic. Raises UpstreamError."""
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def replied(_: Connection, reply: Reply) -> None:
            if not answer.done():
                answer.set_result(reply)

        def lost(_: Connection, error: UpstreamError | None) -> None:
            if not answer.done():
                answer.set_exception(error or UpstreamError("closed"))

        connection: Connection | None = None
        try:
            connection = await self._connect(
                deadline, lambda: Connection(replied, lost, self._settings.max_answer_bytes)
            )
            connection.send(request)
            async with asyncio.timeout_at(deadline):
                return await answer
        except TimeoutError:
            raise UpstreamTimeout("the time for this attempt ran out") from None
        finally:
            answer.cancel()
            if connection is not None:
                connection.abort()

    def retire(self) -> None:
        """No longer wanted: idle connections close now, busy ones when their answer is there."""
        self._retired = True
        for task in (self._keeper, *self._opening):
            if task is not None:
                task.cancel()
        for connection in tuple(self._idle):
            connection.abort()

    async def close(self) -> None:
        """Everything ends now."""
        self._closed = True
        tasks = [task for task in (self._keeper, *self._opening) if task is not None]
        self.retire()
        for connection in tuple(self._open):
            connection.abort()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connect(self, deadline: float, factory: Callable[[], Connection]) -> Connection:
        loop = asyncio.get_running_loop()
        patience = min(deadline, loop.time() + self._settings.connect_timeout_ms / 1000)
        self._connecting += 1
        try:
            async with asyncio.timeout_at(patience):
                connection = await self._dial(factory)
        except TimeoutError:
            if patience == deadline:  # a hurried caller says nothing about the server
                raise UpstreamTimeout(f"no connection to {self.address} in time") from None
            self._is_down("no answer")
            raise UpstreamUnreachable(f"{self.address} did not accept a connection in time") from None
        except OSError as error:
            self._is_down(str(error))
            raise UpstreamUnreachable(f"cannot connect to {self.address}: {error}") from None
        finally:
            self._connecting -= 1
        if connection.is_to_itself:  # kept, it would take the port from the server that is expected there
            connection.abort()
            self._is_down("nobody listens")
            raise UpstreamUnreachable(f"nobody listens at {self.address}")
        if not self.is_up:
            logger.info("endpoint is up", extra={"endpoint": self.address})
        self.is_up = True
        return connection

    async def _dial(self, factory: Callable[[], Connection]) -> Connection:
        _, connection = await asyncio.get_running_loop().create_connection(factory, self._host, self._port)
        return connection

    async def _open_one(self) -> None:
        """Open a connection for whoever waits; a failure is told in is_up."""
        try:
            self._arrived(await self._connect(math.inf, self._new))
        except UpstreamUnreachable:
            pass
        finally:
            task = asyncio.current_task()
            if task is not None:
                self._opening.discard(task)
            self._changed.set()  # the keeper may have left it to this attempt, which has failed
            self._owner.changed()

    def _new(self) -> Connection:
        return Connection(self._replied, self._was_lost, self._settings.max_answer_bytes, self._known_heads)

    def _arrived(self, connection: Connection) -> None:
        if not connection.is_open:
            return
        self._open.add(connection)
        self._idle.append(connection)
        if self._retired:  # for one last request; nobody keeps it
            asyncio.get_running_loop().call_later(_LAST_CALL_S, self._close_if_idle, connection)

    def _close_if_idle(self, connection: Connection) -> None:
        if connection in self._idle:
            connection.abort()

    def _replied(self, connection: Connection, reply: Reply) -> None:
        self.outstanding -= 1
        if self._retired:
            connection.abort()
        elif not connection.is_closing():
            self._idle.append(connection)
        self._owner.replied(self, connection, reply)

    def _was_lost(self, connection: Connection, error: UpstreamError | None) -> None:
        self._open.discard(connection)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)
        self._changed.set()
        if error is not None:
            self.outstanding -= 1
            self._owner.lost(self, connection, error)
        else:
            self._owner.changed()  # there is room for another

    def _is_down(self, why: str) -> None:
        if self.is_up:
            logger.warning("endpoint is down", extra={"endpoint": self.address, "reason": why})
        self.is_up = False

    async def _keep(self) -> None:
        """Hold one connection open, and know whether another could be opened; back off while that fails."""
        first, last = self._settings.backoff_first_ms / 1000, self._settings.backoff_last_ms / 1000
        pause = first
        while True:
            self._changed.clear()
            if self._opening or (self._open and self.is_up):
                await self._changed.wait()
                continue
            try:
                connection = await self._connect(math.inf, self._new)
            except UpstreamUnreachable:
                self._owner.changed()
                await asyncio.sleep(pause)
                pause = min(last, pause * 2)
                continue
            if len(self._open) < self._settings.connections:
                self._arrived(connection)
            else:
                connection.abort()  # it has told what it was opened for
            pause = first
            self._owner.changed()
            # a server that accepts and closes at once must not be hammered
            await asyncio.sleep(first)
