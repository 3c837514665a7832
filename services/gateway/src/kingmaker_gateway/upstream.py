"""Ask one variant: rows in, outputs back, over OIP V2 with binary tensors and connections nobody else uses.

The coalescer decides who travels together; here is where a flight meets a connection. An answer is checked before
anyone sees it: the declared outputs, of the declared types, with as many rows as were asked. A flight whose server
fails is moved once to another server inside its deadline, because predicting twice does no harm.
"""

import asyncio
import logging
import math
import random
from collections.abc import Sequence

import msgspec

from kingmaker_contracts.inference import ModelMetadata
from kingmaker_gateway import replies
from kingmaker_gateway.addresses import Addresses
from kingmaker_gateway.balancing import pick
from kingmaker_gateway.calls import Calls
from kingmaker_gateway.coalescer import Ask, Coalescer, Deliver, Flight
from kingmaker_gateway.connection import Connection, Reply
from kingmaker_gateway.endpoint import Endpoint
from kingmaker_gateway.errors import (
    ConnectionLost,
    UpstreamError,
    UpstreamGarbage,
    UpstreamRefused,
    UpstreamUnreachable,
)
from kingmaker_gateway.parts import Parts
from kingmaker_gateway.settings import UpstreamSettings

logger = logging.getLogger(__name__)

_SERVERS_FAULT = frozenset({408, 429, 502, 503, 504})
"""Statuses that say nothing about the rows: another server may well answer them."""


class Upstream:
    """The servers of one variant. deliver: what to do with their answers."""

    def __init__(
        self,
        model_name: str,
        endpoints: Sequence[str],
        settings: UpstreamSettings,
        dice: random.Random,
        deliver: Deliver,
    ) -> None:
        self._path = f"/v2/models/{model_name}".encode()
        self._settings = settings
        self._dice = dice
        self._loop = asyncio.get_running_loop()
        self._deliver = deliver
        self._calls = Calls(self._path + b"/infer")
        self._coalescer = Coalescer(deliver)
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._wakes_at = math.inf
        self._endpoints: dict[str, Endpoint] = {}
        self._list: list[Endpoint] = []
        self._addresses = Addresses(settings.resolve_ms / 1000, self._serve_from, self._loop.getaddrinfo)
        self.use(endpoints)

    @property
    def is_up(self) -> bool:
        return any(endpoint.is_up for endpoint in self._list)

    @property
    def is_down(self) -> bool:
        """It is known that nobody can be reached now; a keeper goes on trying."""
        return not any(endpoint.is_up or endpoint.is_opening or endpoint.is_connected for endpoint in self._list)

    def use(self, endpoints: Sequence[str]) -> None:
        """Serve from these from now on; the ones that stay keep their connections."""
        self._addresses.use(endpoints)

    def retire(self) -> None:
        """No longer routed to; requests on their way still get their answers."""
        self._addresses.stop()
        for endpoint in self._list:
            endpoint.retire()
        self._schedule()  # who waited for a first connection that a keeper was opening needs another now

    async def close(self) -> None:
        self._addresses.stop()
        for flight in self._coalescer.out:  # some may be with servers that have left the list
            if flight.carrier is not None:
                flight.carrier[1].abort()
        await asyncio.gather(*(endpoint.close() for endpoint in self._list))
        self._coalescer.fail_waiting(UpstreamUnreachable("the gateway is closing"))
        if self._timer is not None:
            self._timer.cancel()

    def ask(self, ask: Ask) -> None:
        """Answer these rows; the asker is told later, never before this returns. Leaves at the end of this round
        of the event loop when a connection is free, so that requests read together travel together."""
        self.add([ask])
        if not self._scheduled:
            self._schedule()

    def add(self, asks: list[Ask]) -> None:
        """The same for several, all of one signature, which leave when `flush` is called."""
        most = asks[0].max_rows
        for ask in asks:
            if ask.rows > most:
                self._add_with_large(asks)
                return
        earliest = self._coalescer.add(asks)
        if earliest < self._wakes_at:
            self._wake_at(earliest)

    def leave(self, asks: list[Ask]) -> None:
        """`add` and `flush` in one, and in a third of the steps where nobody waits and a connection is free.

        Raises only what `add` raises, before they are in line: whom a mistake keeps here later is told in time."""
        flight = None
        if self._list and not (self._scheduled or self._coalescer.has_work):
            now = self._loop.time()
            found = pick(self._list, (), now, self._dice)
            if found is None:  # one is being opened, or will be free
                self.add(asks)
                return
            endpoint, connection = found
            flight = self._coalescer.depart(asks)
            if flight is None:
                endpoint.put_back(connection)
        if flight is None:
            self.add(asks)
        try:
            if flight is None:
                self.flush()
                return
            if flight.earliest < self._wakes_at:
                self._wake_at(flight.earliest)
            self._send(flight, endpoint, connection, now)
        except Exception:
            logger.exception("requests could not be sent")

    def flush(self) -> None:
        """What was added leaves, as far as connections are free. Askers may be told before this returns."""
        if not self._scheduled:
            self._flush()

    async def metadata(self, deadline: float) -> ModelMetadata:
        """What a server says of its model; one that is silent leaves time for the others. Raises UpstreamError."""
        error: UpstreamError = UpstreamUnreachable("the variant has no endpoint")
        endpoints = self._list
        for left, endpoint in zip(range(len(endpoints), 0, -1), endpoints, strict=True):
            now = self._loop.time()
            request = b"GET %b HTTP/1.1\r\nhost: %b\r\n\r\n" % (self._path, endpoint.address.encode())
            try:
                reply = await endpoint.fetch(request, now + (deadline - now) / left)
                if reply.status != 200:
                    raise UpstreamRefused(reply.status)
                return msgspec.json.decode(reply.body, type=ModelMetadata)
            except UpstreamError as fault:
                error = fault
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
                error = UpstreamGarbage(f"not model metadata: {fault}")
        raise error

    def _add_with_large(self, asks: list[Ask]) -> None:
        """Some do not fit into a frame and go in parts: after the others, for who raises must have nobody in line, and
        beginning a large one raises nothing."""
        small = [ask for ask in asks if ask.rows <= ask.max_rows]
        if small:
            self.add(small)
        for ask in asks:
            if ask.rows > ask.max_rows:
                Parts(ask, self.ask, self._deliver).begin()

    # endpoint.Owner

    def replied(self, endpoint: Endpoint, connection: Connection, reply: Reply) -> None:
        flight: Flight | None = connection.cargo
        connection.cargo = None
        self._schedule()
        if flight is None:
            return
        try:
            outputs = replies.read(reply, flight.frame)
        except UpstreamError as error:
            self._failed(flight, endpoint, error)
            return
        endpoint.breaker.succeeded()
        self._coalescer.answered(flight, outputs)

    def lost(self, endpoint: Endpoint, connection: Connection, error: UpstreamError) -> None:
        flight: Flight | None = connection.cargo
        connection.cargo = None
        self._schedule()
        if flight is None:
            return
        if isinstance(error, ConnectionLost) and error.untouched and connection.kept:
            endpoint.drop_idle()  # closed while idle: no fault, and the kept ones beside it are no better
            if not flight.repeated:
                endpoint.breaker.abandoned()
                self._coalescer.repeat(flight)
                self._schedule()
                return
        self._failed(flight, endpoint, error)

    def changed(self) -> None:
        if self.is_down:
            self._coalescer.fail_waiting(UpstreamUnreachable("no endpoint can be reached"))
        else:
            self._schedule()

    def _failed(self, flight: Flight, endpoint: Endpoint, error: UpstreamError) -> None:
        now = self._loop.time()
        status = error.status if isinstance(error, UpstreamRefused) else None
        if status is not None and status < 500 and status not in _SERVERS_FAULT:  # the rows' fault
            endpoint.breaker.succeeded()
        else:
            endpoint.breaker.failed(now)
        flight.tried.add(endpoint)
        servers_fault = not isinstance(error, UpstreamGarbage) and (status is None or status in _SERVERS_FAULT)
        if servers_fault and not flight.moved and self._has_another(flight, now):
            self._coalescer.move(flight)
        else:
            self._coalescer.failed(flight, error)
        self._schedule()

    def _has_another(self, flight: Flight, now: float) -> bool:
        return any(
            endpoint.is_up and endpoint not in flight.tried and endpoint.breaker.would_admit(now)
            for endpoint in self._list
        )

    def _schedule(self) -> None:
        if not self._scheduled and self._coalescer.has_work:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Send as long as there is something to send and a free connection."""
        self._scheduled = False
        now = self._loop.time()
        coalescer = self._coalescer
        while coalescer.has_work:
            if not self._list:
                coalescer.fail_waiting(UpstreamUnreachable("the variant has no endpoint"))
                return
            again = coalescer.again
            if not ((again and self._send_again(again, now)) or (coalescer.has_new and self._send_new(now))):
                return

    def _send_again(self, again: Sequence[Flight], now: float) -> bool:
        """Send the first of those that left before and need not wait for a server that is busy."""
        for flight in again:
            found = pick(self._list, flight.tried, now, self._dice)
            if found is not None:
                self._coalescer.resume(flight)
                self._send(flight, *found, now)
                return True
        return False

    def _send_new(self, now: float) -> bool:
        found = pick(self._list, (), now, self._dice)
        if found is None:
            return False
        endpoint, connection = found
        flight = self._coalescer.next()
        if flight is None:
            endpoint.put_back(connection)
            return False
        self._send(flight, endpoint, connection, now)
        return True

    def _send(self, flight: Flight, endpoint: Endpoint, connection: Connection, now: float) -> None:
        body = flight.frame.encoded()
        flight.since, flight.carrier = now, (endpoint, connection)
        endpoint.carry(connection, flight, now)
        connection.send(self._calls.infer(endpoint.host, flight.latest - now, body))
        if len(self._list) > 1 and not flight.moved:
            self._wake_at(_patience(flight))

    # time

    def _wake_at(self, moment: float) -> None:
        """One timer for everybody's deadlines, moved only when a nearer one comes: a request costs a comparison."""
        if moment >= self._wakes_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._wakes_at = moment
        self._timer = self._loop.call_at(moment, self._tick)

    def _tick(self) -> None:
        self._timer, self._wakes_at = None, math.inf
        now = self._loop.time()
        for flight in self._coalescer.expire(now):
            self._give_up(flight, now)  # nobody waits for its answer any more
        next_moment = self._coalescer.earliest()
        if len(self._list) > 1:
            for flight in [flight for flight in self._coalescer.out if not flight.moved]:
                if _patience(flight) > now:
                    next_moment = min(next_moment, _patience(flight))
                elif self._has_another(flight, now):
                    self._give_up(flight, now)
                    self._coalescer.move(flight)
                    self._schedule()
        if next_moment < math.inf:
            self._wake_at(max(next_moment, now + 0.001))

    def _give_up(self, flight: Flight, now: float) -> None:
        """Its server is too slow: what it may still say is not read."""
        endpoint, connection = flight.carrier
        flight.tried.add(endpoint)
        connection.cargo = None
        if any(not ask.asker.is_hurried and _half_time(flight, ask.deadline) <= now for ask in flight.asks):
            endpoint.breaker.failed(now)
        else:
            endpoint.breaker.abandoned()  # clients' haste says nothing about its health
        connection.abort()

    def _serve_from(self, addresses: list[str]) -> None:
        for address in addresses:
            if address not in self._endpoints:
                endpoint = self._endpoints[address] = Endpoint(address, self._settings, self)
                endpoint.start()
        # afterwards: what ends with these would else find nobody who is even being tried, and fail all who wait
        for gone in set(self._endpoints) - set(addresses):
            endpoint = self._endpoints.pop(gone)
            endpoint.retire()
        self._list = [self._endpoints[address] for address in addresses]
        self._schedule()


def _patience(flight: Flight) -> float:
    """Until when a flight stays with its first server, when there is another: half of its time."""
    return _half_time(flight, flight.earliest)


def _half_time(flight: Flight, deadline: float) -> float:
    return flight.since + (deadline - flight.since) / 2
