"""A head that came before is recognised by its bytes; what it may not do is change what a request means."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from kingmaker_servicekit.fast_http import FastRoute

if TYPE_CHECKING:
    from packages.servicekit.tests.conftest import FastServer

TEXT = ("content-type", "text/plain; charset=utf-8")


def post(body: bytes, head: bytes = b"", query: bytes = b"") -> bytes:
    return b"POST /fast?%b HTTP/1.1\r\nhost: x\r\n%bcontent-length: %d\r\n\r\n%b" % (query, head, len(body), body)


def ok(body: bytes) -> Any:
    return (200, [TEXT, ("content-length", str(len(body)))], body)


@pytest.fixture
def server(start_fast_server: "Callable[..., FastServer]") -> "FastServer":
    """Its own, and it knows the head of a body of five bytes."""
    server = start_fast_server()
    with server.connect() as client:
        for _ in range(2):
            client.send(post(b"hello"))
            assert client.read() == ok(b"||hello")
    assert len(server.heads) == 1
    return server


def test_each_request_keeps_its_own_body(server: "FastServer") -> None:
    with server.connect() as client:
        for body in (b"one..", b"two..", b"three"):
            client.send(post(body))
            assert client.read() == ok(b"||" + body)
    assert len(server.heads) == 1


def test_requests_behind_a_known_head_are_read(server: "FastServer") -> None:
    with server.connect() as client:
        client.send(post(b"12345") + post(b"67890") + post(b"x"))
        assert [client.read() for _ in range(3)] == [ok(b"||12345"), ok(b"||67890"), ok(b"||x")]


def test_a_body_that_comes_later_is_waited_for(server: "FastServer") -> None:
    with server.connect() as client:
        client.send(post(b"12345")[:-2])
        client.send(b"45")
        assert client.read() == ok(b"||12345")
        client.send(post(b"67890"))
        assert client.read() == ok(b"||67890")


def test_answers_keep_their_order_behind_one_that_waits(start_fast_server: "Callable[..., FastServer]") -> None:
    server = start_fast_server()
    with server.connect() as client:
        for _ in range(3):
            client.send(post(b"slow!", query=b"hold"))
            call = server.held.get(timeout=30)
            client.send(post(b"quick"))
            server.in_loop(call.answer, 200, ((b"content-type", b"x"),), b"slow")
            assert client.read()[2] == b"slow"
            assert client.read() == ok(b"||quick")


def test_heads_that_never_come_again_are_not_kept(start_fast_server: "Callable[..., FastServer]") -> None:
    server = start_fast_server()
    with server.connect() as client:
        for number in range(50):
            client.send(post(b"hello", head=b"traceparent: %d\r\n" % number))
            assert client.read() == ok(b"||hello")
    assert not server.heads


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST /fast HTTP/1.0\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nhi",
        b"POST /fast HTTP/1.1\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi",
        b"POST /fast HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        b"POST /fast HTTP/1.1\nhost: x\ncontent-length: 6\n\nhi\r\n\r\n",
        b"POST /fast HTTP/1.1\r\nx: " + b"y" * 5000 + b"\r\ncontent-length: 2\r\n\r\nhi",
        b"POST /asgi HTTP/1.1\r\ncontent-length: 2\r\n\r\nhi",
    ],
    ids=["HTTP/1.0", "connection: close", "chunked", "bare line feeds", "a long head", "not a fast route"],
)
def test_only_plain_short_heads_of_fast_requests_are_kept(
    start_fast_server: "Callable[..., FastServer]", request_bytes: bytes
) -> None:
    server = start_fast_server()
    for _ in range(3):
        with server.connect() as client:
            client.send(request_bytes)
            assert client.read()[0] in (200, 400)
    assert not server.heads


def test_a_limit_that_shrank_holds_once_known_heads_are_forgotten(server: "FastServer") -> None:
    with server.connect() as client:
        client.send(post(b"hello"))
        assert client.read() == ok(b"||hello")
    server.route = FastRoute(server.route.handler, 3)
    server.heads.clear()
    with server.connect() as client:
        client.send(post(b"hello"))
        assert client.read()[0] == 413
