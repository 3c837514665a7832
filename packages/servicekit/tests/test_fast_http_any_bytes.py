"""However requests are cut into pieces they get the same answers, and no bytes whatever do harm."""

import contextlib
import socket
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from packages.servicekit.tests.conftest import FastServer

TEXT = ("content-type", "text/plain; charset=utf-8")


def ok(body: bytes) -> Any:
    return (200, [TEXT, ("content-length", str(len(body)))], body)


@pytest.fixture(scope="module")
def server(_fast_server: "FastServer") -> "FastServer":
    return _fast_server


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, Any]:
    """(bytes, the answer)"""
    path = draw(st.sampled_from([b"/fast", b"/fast", b"/asgi"]))
    query = draw(st.sampled_from([b"", b"", b"later", b"a=b"]))
    body = draw(st.one_of(st.binary(max_size=40), st.just(b"x" * 1000), st.just(b"POST /fast HTTP/1.1\r\n\r\n")))
    head = b"POST %b?%b HTTP/1.1\r\nhost: x\r\n" % (path, query)
    answer = ok(b"%b||%b" % (query, body))
    if draw(st.booleans()):
        return head + b"content-length: %d\r\n\r\n%b" % (len(body), body), answer
    cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=3)))
    chunks = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    coded = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks if chunk) + b"0\r\n\r\n"
    return head + b"transfer-encoding: chunked\r\n\r\n" + coded, answer


@settings(max_examples=150)
@given(sent=st.lists(requests(), min_size=1, max_size=8), data=st.data())
def test_any_cuts_through_pipelined_requests_give_the_same_answers(server: "FastServer", sent: Any, data: Any) -> None:
    stream = b"".join(request for request, _ in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12), label="cuts"))
    with server.connect() as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
            client.send(stream[start:end])
            server.in_loop(lambda: None)  # the server has the chance to read each piece alone
        assert [client.read() for _ in sent] == [answer for _, answer in sent]


PIECES = st.sampled_from([
    b"POST ", b"/fast", b"/asgi", b"?later", b"?", b" HTTP/1.1", b" HTTP/1.0", b" HTTP/2.0", b"\r\n", b"\r\n\r\n",
    b"\n", b"host: x\r\n", b"content-length: ", b"content-length: 5\r\n", b"transfer-encoding: chunked\r\n",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n", b"expect: 100-continue\r\n", b"connection: close\r\n",
    b"connection: upgrade\r\nupgrade: h2c\r\n",
    b"GET ", b"HEAD ", b"CONNECT x:1", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"POST /fast HTTP/1.1\r\n", b":", b"\0",
    b"POST /fast HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello", b"http://[::1", b"//", b"%", b"#", b"\xff", b"*",
])  # fmt: skip
NOISE = st.lists(st.one_of(PIECES, PIECES, st.binary(max_size=8)), max_size=14)


@settings(max_examples=400)
@given(pieces=NOISE, cut=st.integers(0, 200))
def test_no_bytes_give_a_traceback_a_hang_or_a_server_error(
    server: "FastServer", pieces: list[bytes], cut: int
) -> None:
    stream = b"".join(pieces)
    received = b""
    # the server may have gone before all was sent; a hang is a TimeoutError after the client's 10 s
    with server.connect() as client, contextlib.suppress(ConnectionResetError, BrokenPipeError):
        for part in (stream[:cut], stream[cut:]):
            client.send(part)
            server.in_loop(lambda: None)
        with contextlib.suppress(OSError):  # not connected any more
            client.socket.shutdown(socket.SHUT_WR)
        while data := client.socket.recv(65536):
            received += data
    assert not server.tracebacks()
    assert b"HTTP/1.1 5" not in received
    with server.connect() as neighbour:
        neighbour.send(b"POST /fast HTTP/1.1\r\ncontent-length: 1\r\n\r\nx")
        assert neighbour.read() == ok(b"||x")
