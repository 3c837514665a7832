"""Clients that wait at a listening socket are taken in one round of the event loop, up to a bound.

Where a test holds the loop up, the kernel goes on connecting clients: they wait in the backlog, as behind a long round.
"""

import asyncio
import os
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from conftest import not_run
from kingmaker_servicekit import serving
from kingmaker_servicekit.accepting import Acceptor

if TYPE_CHECKING:
    from packages.servicekit.tests.conftest import FastServer

POST = b"POST /fast?q HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi"


def wait_for_backlog(listening: socket.socket, size: int) -> None:
    """Holds up whoever asks until so many clients wait to be taken: the kernel may be a moment behind connect()."""
    deadline = time.monotonic() + 10
    while struct.unpack_from("I", listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 24)[0] != size:
        assert time.monotonic() < deadline, "clients do not come in"


class Connection(asyncio.Protocol):
    """What uvicorn's protocols have of interest here. told_to_stop: how often uvicorn's word to leave came."""

    def __init__(self) -> None:
        self.transport: asyncio.BaseTransport | None = None
        self.told_to_stop = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def shutdown(self) -> None:
        assert self.transport is not None
        self.transport.close()
        self.told_to_stop += 1


class Door:
    """An acceptor at a socket of its own, with all that came in. by_round: how many in which round of the loop."""

    def __init__(self, host: str = "127.0.0.1", **settings: Any) -> None:
        self.socket = serving.bind(host, 0)
        self.connections: list[Connection] = []
        self.by_round: Counter[int] = Counter()
        self._round = 0
        self.on_made: Callable[[], None] = lambda: None
        self._counting = asyncio.create_task(self._count_rounds())
        self.acceptor = Acceptor(self.socket, self.make, **settings)

    def make(self) -> Any:
        self.connections.append(Connection())
        self.by_round[self._round] += 1
        self.on_made()
        return self.connections[-1]

    async def _count_rounds(self) -> None:
        while True:
            await asyncio.sleep(0)
            self._round += 1

    def connect(self, many: int) -> list[socket.socket]:
        """So many clients that wait together."""
        clients = [socket.create_connection(self.socket.getsockname()[:2], timeout=10) for _ in range(many)]
        wait_for_backlog(self.socket, many)
        return clients

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
                await asyncio.sleep(0.001)

    async def close(self) -> None:
        self.acceptor.close()
        self.socket.close()
        await self.acceptor.wait_closed()
        self._counting.cancel()
        for connection in self.connections:
            if connection.transport is not None:
                connection.transport.close()
        await asyncio.sleep(0.01)


@pytest.fixture(params=[uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    with asyncio.Runner(loop_factory=request.param) as runner:
        yield runner.run


def test_all_who_wait_are_taken_in_one_round(run: Callable[..., Any]) -> None:
    async def scenario() -> None:
        door = Door()
        clients = door.connect(30)
        await door.until(lambda: len(door.connections) == 30 and all(c.transport for c in door.connections))
        assert list(door.by_round.values()) == [30]
        for client in clients:
            client.close()
        await door.close()

    run(scenario())


def test_a_server_connects_all_who_wait_in_one_round(
    fast_server: "FastServer", wait_until: Callable[..., None]
) -> None:
    """The same through uvicorn: its set of connections grows by all of them at once."""
    connections = fast_server.uvicorn.server_state.connections
    sizes: list[int] = []

    def hold_up() -> list[Any]:
        clients = [fast_server.connect() for _ in range(30)]
        wait_for_backlog(fast_server.listening, 30)
        look()
        return clients

    def look() -> None:
        sizes.append(len(connections))
        if sizes[-1] < 30:
            fast_server.loop.call_soon(look)

    wait_until(lambda: not connections)
    clients = fast_server.in_loop(hold_up)
    for client in clients:
        client.send(POST)
    assert [client.read()[2] for client in clients] == [b"q||hi"] * 30
    wait_until(lambda: sizes[-1] >= 30)
    assert set(sizes) == {0, 30}
    for client in clients:
        client.socket.close()


def test_no_more_than_the_bound_are_taken_in_a_round(run: Callable[..., Any]) -> None:
    async def scenario() -> None:
        door = Door(at_once=8)
        clients = door.connect(20)
        await door.until(lambda: len(door.connections) == 20)
        assert list(door.by_round.values()) == [8, 8, 4]
        for client in clients:
            client.close()
        await door.close()

    run(scenario())


def test_a_taken_socket_neither_blocks_nor_delays(run: Callable[..., Any]) -> None:
    async def scenario() -> None:
        door = Door()
        [client] = door.connect(1)
        await door.until(lambda: any(c.transport for c in door.connections))
        transport = door.connections[0].transport
        assert transport is not None
        taken = os.dup(transport.get_extra_info("socket").fileno())
        assert not os.get_blocking(taken)
        with socket.socket(fileno=taken) as sock:
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        client.close()
        await door.close()

    run(scenario())


def test_a_client_gone_before_it_is_taken_harms_nobody(
    fast_server: "FastServer", wait_until: Callable[..., None]
) -> None:
    def hold_up() -> Any:
        for linger in (b"", struct.pack("ii", 1, 0)):  # says goodbye; is reset
            gone = fast_server.connect()
            gone.send(POST)
            if linger:
                gone.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            gone.socket.close()
        return fast_server.connect()

    with fast_server.in_loop(hold_up) as client:
        client.send(POST)
        assert client.read()[2] == b"q||hi"
    wait_until(lambda: not fast_server.uvicorn.server_state.connections)
    assert not fast_server.tracebacks()


def test_all_who_wait_at_the_end_are_told_and_nobody_is_taken_after(run: Callable[..., Any]) -> None:
    """The end comes when two are taken and not yet connected. It takes all others, however few the bound allows."""

    async def scenario() -> None:
        door = Door(at_once=2)
        clients = door.connect(7)
        door.on_made = door.acceptor.close
        await door.until(lambda: len(door.connections) == 7 and all(c.told_to_stop for c in door.connections))
        late = door.connect(1)
        await asyncio.sleep(0.01)
        assert len(door.connections) == 7
        address = door.socket.getsockname()
        await door.close()
        assert [end_of(client) for client in (*clients, *late)] == ["closed"] * 7 + ["reset"]
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=10)

    run(scenario())


def test_clients_come_by_ipv6_too(run: Callable[..., Any]) -> None:
    async def scenario() -> None:
        door = Door("::1")
        clients = door.connect(3)
        await door.until(lambda: sum(c.transport is not None for c in door.connections) == 3)
        names = [c.transport.get_extra_info("peername") for c in door.connections if c.transport]
        assert sorted(names) == sorted(client.getsockname() for client in clients)
        for client in clients:
            client.close()
        await door.close()

    addresses = Path("/proc/net/if_inet6")
    if not (addresses.exists() and f"{1:032x}" in addresses.read_text()):
        not_run("there is no ::1 here", "sysctl -w net.ipv6.conf.lo.disable_ipv6=0")
    run(scenario())


class Unsteady(socket.socket):
    """A listening socket that says first that the client it had is gone, as some kernels do."""

    said = False

    def accept(self) -> Any:
        if not self.said:
            self.said = True
            raise ConnectionAbortedError
        return super().accept()


def test_one_that_left_in_the_queue_keeps_the_next_from_nothing(run: Callable[..., Any]) -> None:
    async def scenario() -> None:
        door = Door()
        door.acceptor.close()
        door.socket = Unsteady(fileno=door.socket.detach())
        door.socket.setblocking(False)
        [client] = door.connect(1)
        door.acceptor = Acceptor(door.socket, door.make, retry_s=600)
        await door.until(lambda: any(c.transport for c in door.connections))
        client.close()
        await door.close()

    run(scenario())


def end_of(client: socket.socket) -> str:
    try:
        return "closed" if client.recv(1) == b"" else "answered"
    except ConnectionResetError:
        return "reset"
