"""Clients that send without end, take without reading, or say nothing: each holds little, and not for ever."""

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from packages.servicekit.tests.conftest import FastServer

MIB = 2**20
CHUNKED = b"POST %b HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"


class TestEndlessRequests:
    @pytest.mark.parametrize(
        "piece", [b"x-more: %b\r\n" % (b"y" * 1000), b"y" * 1000], ids=["many trailers", "one trailer"]
    )
    @pytest.mark.parametrize(("path", "status"), [(b"/fast", 431), (b"/asgi", 400)])
    def test_trailers_are_bounded(self, fast_server: "FastServer", piece: bytes, path: bytes, status: int) -> None:
        with fast_server.connect() as client:
            client.send(CHUNKED % path + b"x-first: " + (b"1\r\n" if piece.endswith(b"\n") else b"1"))
            client.send(piece * 1000)
            assert client.read()[0] == status

    def test_an_extension_of_a_chunk_is_bounded(self, fast_server: "FastServer") -> None:
        with fast_server.connect() as client:
            client.send((CHUNKED % b"/fast").removesuffix(b"0\r\n") + b"1;e=" + b"y" * 200_000)
            assert client.read()[0] == 431

    def test_a_body_in_tiny_chunks_is_whole(self, fast_server: "FastServer") -> None:
        with fast_server.connect() as client:
            client.send((CHUNKED % b"/fast").removesuffix(b"0\r\n") + b"1\r\ny\r\n" * 900 + b"0\r\nx-end: 1\r\n\r\n")
            assert client.read()[2] == b"||x" + b"y" * 900

    def test_trailers_do_not_pass_for_headers_of_an_asgi_request(self, fast_server: "FastServer") -> None:
        with fast_server.connect() as client:
            client.send(CHUNKED % b"/asgi" + b"x-seen: trailer\r\n\r\n")
            assert client.read()[2] == b"||x"


@pytest.mark.parametrize("path", [b"fast", b"asgi"])
def test_thousands_of_offers_to_upgrade_are_answered_without_recursion(fast_server: "FastServer", path: bytes) -> None:
    offer = b"POST /%b HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\ncontent-length: 1\r\n\r\nx" % path
    with fast_server.connect() as client:
        client.send(offer * 3000)
        assert [client.read()[2] for _ in range(3000)] == [b"||x"] * 3000


class TestClientsThatDoNotRead:
    def test_the_last_answer_of_a_connection_waits_no_longer_than_an_idle_one(
        self, start_fast_server: "Callable[..., FastServer]", wait_until: Callable[..., None]
    ) -> None:
        server = start_fast_server(timeout_keep_alive=1)
        with server.connect() as client:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.send(b"POST /fast?hold HTTP/1.1\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx")
            call = server.held.get(timeout=30)
            server.in_loop(call.answer, 200, (), b"x" * 20 * MIB)
            assert server.uvicorn.server_state.connections
            wait_until(lambda: not server.uvicorn.server_state.connections)

    @pytest.mark.parametrize("behind", [b"fast?hold", b"asgi"])
    def test_requests_in_line_behind_the_last_answer_do_not_keep_the_connection(
        self, start_fast_server: "Callable[..., FastServer]", wait_until: Callable[..., None], behind: bytes
    ) -> None:
        server = start_fast_server(timeout_keep_alive=1)
        with server.connect() as client:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            ask = b"POST /%b HTTP/1.1\r\ncontent-length: 1\r\n\r\nx"
            client.send(ask % b"fast?hold" + ask % behind)
            call = server.held.get(timeout=30)
            server.in_loop(call.answer, 200, ((b"connection", b"close"),), b"x" * 20 * MIB)
            assert server.uvicorn.server_state.connections
            wait_until(lambda: not server.uvicorn.server_state.connections)

    def test_an_answer_that_is_read_slowly_is_read_whole(self, start_fast_server: "Callable[..., FastServer]") -> None:
        server = start_fast_server(timeout_keep_alive=60)
        with server.connect() as client:
            client.send(b"POST /fast?hold HTTP/1.1\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx")
            call = server.held.get(timeout=30)
            server.in_loop(call.answer, 200, (), b"x" * 20 * MIB)
            assert len(client.read()[2]) == 20 * MIB


def test_a_connection_on_which_nothing_is_ever_said_is_closed(
    start_fast_server: "Callable[..., FastServer]", wait_until: Callable[..., None]
) -> None:
    server = start_fast_server(timeout_keep_alive=1)
    with server.connect() as client:
        wait_until(lambda: bool(server.uvicorn.server_state.connections))
        assert client.is_closed()
