"""A model server may say anything at any length: it is believed only when it makes sense, and cut off when it does not
stop. Seen from one connection, then from a client whose canary has gone mad."""

import asyncio
import math
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from kingmaker_contracts.routing import Limits
from kingmaker_gateway.connection import Connection, Reply
from kingmaker_gateway.endpoint import Endpoint
from kingmaker_gateway.errors import UpstreamError, UpstreamGarbage, UpstreamUnreachable
from kingmaker_gateway.settings import UpstreamSettings
from tests.fakes.fake_model_server import FakeModelServer

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Bench, Kit, Pair

MOST = 1_000_000
GOOD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@asynccontextmanager
async def serving(first: bytes, then: bytes = b"", limit: int = 20_000_000) -> AsyncIterator[SimpleNamespace]:
    """A server that answers with `first` and goes on with `then` until it is cut off. sent: bytes of then."""
    told = SimpleNamespace(sent=0, cut=False, address="")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(first)
            while then and told.sent < limit:
                writer.write(then)
                told.sent += len(then)
                await writer.drain()
            await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            told.cut = True
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    told.address = "{}:{}".format(*server.sockets[0].getsockname()[:2])
    try:
        yield told
    finally:
        server.close()


async def exchange(address: str, max_bytes: int = MOST) -> Reply | UpstreamError:
    end: asyncio.Future[Reply | UpstreamError] = asyncio.get_running_loop().create_future()

    def finish(outcome: Reply | UpstreamError) -> None:
        if not end.done():
            end.set_result(outcome)

    host, _, port = address.partition(":")
    _, connection = await asyncio.get_running_loop().create_connection(
        lambda: Connection(
            lambda _, reply: finish(reply),
            lambda _, error: finish(error or UpstreamError("closed while idle")),
            max_bytes,
        ),
        host,
        int(port),
    )
    connection.send(b"GET / HTTP/1.1\r\n\r\n")
    async with asyncio.timeout(30):
        return await end


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (b"HTTP/1.1 200 OK\r\nx: ", b"y" * 10_000),
        (b"HTTP/1.1 200 OK\r\n", b"x: y\r\n" * 1000),
        (b"HTTP/1.1 200 ", b"y" * 10_000),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n", b"x: y\r\n" * 1000),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;", b"x" * 10_000),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"2710\r\n" + b"y" * 10_000 + b"\r\n"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n", b"y" * 10_000),
    ],
    ids=["a header", "headers", "a reason", "interim answers", "trailers", "an extension", "chunks", "a body"],
)
async def test_what_does_not_end_is_garbage_and_the_connection_is_cut(kit: "Kit", first: bytes, then: bytes) -> None:
    async with serving(first, then) as server:
        assert isinstance(await exchange(server.address), UpstreamGarbage)
        await kit.until(lambda: server.cut)
        assert server.sent < 20_000_000


@pytest.mark.parametrize(
    "first",
    [
        GOOD,
        b"HTTP/1.1 100 Continue\r\n\r\n" + GOOD,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\no\r\n1\r\nk\r\n0\r\nx-end: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: %b\r\ncontent-length: 2\r\n\r\nok" % (b"y" * 50_000),
    ],
)
async def test_an_answer_that_ends_is_an_answer(first: bytes) -> None:
    async with serving(first) as server:
        reply = await exchange(server.address)
        assert isinstance(reply, Reply)
        assert (reply.status, reply.body) == (200, b"ok")


@pytest.mark.parametrize(
    ("first", "error"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", UpstreamGarbage),
        (b"HTTP/1.1 200 OK\r\ncontent-length: two\r\n\r\nok", UpstreamGarbage),
        (b"HTTP/1.1 200 OK\r\ninference-header-content-length: x\r\ncontent-length: 2\r\n\r\nok", UpstreamGarbage),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n", UpstreamGarbage),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\nok", UpstreamGarbage),
    ],
)
async def test_nonsense_is_garbage_at_once(first: bytes, error: type[UpstreamError]) -> None:
    async with serving(first) as server:
        assert isinstance(await exchange(server.address), error)


async def test_a_long_body_in_many_pieces_is_read_whole() -> None:
    body = b"y" * 900_000
    pieces = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (body[at : at + 7] for at in range(0, len(body), 7)))
    async with serving(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n") as server:
        reply = await exchange(server.address)
        assert isinstance(reply, Reply)
        assert reply.body == body


async def test_a_mad_canary_costs_no_client_an_answer(bench: "Bench", pair: "Pair", kit: "Kit") -> None:
    await bench.publish(pair.record(ranges="gbm:0-9999", mirror=100, limits=Limits(deadline_ms=5000)), pair.profiles)
    await bench.challenger_is_up("gbm")

    async def rave(writer: asyncio.StreamWriter, *_: Any) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nx: ")
        while True:
            writer.write(b"y" * 100_000)
            await writer.drain()

    pair.challenger._infer = rave  # type: ignore[method-assign, assignment]  # out of its mind
    for number in range(10):
        answer = await bench.predict([{**kit.full_row, "distance": number}])
        assert (answer.status_code, answer.headers["x-variant"]) == (200, "lr")
        assert answer.headers["x-route-reason"] == "fallback"


async def test_a_connection_to_itself_is_no_server() -> None:
    """Connecting to a port in the range systems choose from, where nobody listens, now and then meets itself; kept, it
    would take the port from the server that is expected there."""
    loop = asyncio.get_running_loop()

    class Nobody:
        def replied(self, *_: Any) -> None: ...
        def lost(self, *_: Any) -> None: ...
        def changed(self) -> None: ...

    class Loopy(Endpoint):
        async def _dial(self, factory: Any) -> Connection:
            sock = socket.socket()
            sock.setblocking(False)
            sock.bind(("127.0.0.1", 0))
            await loop.sock_connect(sock, sock.getsockname())
            _, connection = await loop.create_connection(factory, sock=sock)
            return connection

    endpoint = Loopy("127.0.0.1:1", UpstreamSettings(), Nobody())
    with pytest.raises(UpstreamUnreachable):
        await endpoint.fetch(b"GET / HTTP/1.1\r\n\r\n", math.inf)
    assert not endpoint.is_up


@pytest.mark.parametrize("pause", [0, 0.001])
async def test_a_server_that_hangs_up_on_everybody_is_an_upstream_error(pause: float) -> None:
    """Whatever the moment: before the request, after it, or while it is written."""

    class Nobody:
        def replied(self, *_: Any) -> None: ...
        def lost(self, *_: Any) -> None: ...
        def changed(self) -> None: ...

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    class Late(Endpoint):
        async def _dial(self, factory: Any) -> Connection:
            connection = await super()._dial(factory)
            await asyncio.sleep(pause)
            return connection

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    endpoint = Late("{}:{}".format(*server.sockets[0].getsockname()[:2]), UpstreamSettings(), Nobody())
    for _ in range(20):
        with pytest.raises(UpstreamError):
            await endpoint.fetch(b"GET / HTTP/1.1\r\n\r\n", asyncio.get_running_loop().time() + 5)
    server.close()


async def test_a_server_whose_metadata_were_nonsense_is_asked_again(bench: "Bench", kit: "Kit") -> None:
    class Mad(FakeModelServer):
        nonsense: bytes = b""

        async def _answer(self, writer: asyncio.StreamWriter, method: str, *rest: Any) -> None:
            if method == "GET" and self.nonsense:
                self.calls += 1
                self._send(writer, 200, self.nonsense)
            else:
                await super()._answer(writer, method, *rest)

    async with Mad([("x", "FP32")], name="a") as champion:
        for number, nonsense in enumerate((b'{"x": ' + b"[" * 100_000, b'{"name": "\xff"}', b"[]"), 1):
            champion.nonsense, champion.calls = nonsense, 0
            bench.store(kit.record([kit.variant(champion, "lr", "champion", v=str(number))], revision=number))
            await kit.until(lambda: champion.calls >= 2)
        champion.nonsense = b""
        await kit.until(bench.is_ready)
        assert (await bench.predict([[1]])).status_code == 200
