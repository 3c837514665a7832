"""One table of HTTP behaviour, run against the fast way in and against the same answers through plain ASGI."""

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from packages.servicekit.tests.conftest import FastServer

TEXT = ("content-type", "text/plain; charset=utf-8")
CLOSE = ("connection", "close")


def ok(body: bytes, close: bool = False) -> tuple[Any, ...]:
    return (200, [TEXT, ("content-length", str(len(body))), *([CLOSE] if close else [])], body)


def refused(status: int) -> tuple[Any, ...]:
    words = {400: b"Invalid HTTP request received.", 500: b"Internal Server Error"}
    body = words.get(status, b"refused with %d" % status)
    return (status, [TEXT, ("content-length", str(len(body))), CLOSE], body)


def post(body: bytes, query: bytes = b"", head: bytes = b"", path: bytes = b"@", version: bytes = b"1.1") -> bytes:
    return b"POST %b%b HTTP/%b\r\nhost: x\r\n%bcontent-length: %d\r\n\r\n%b" % (
        path, b"?" + query if query else b"", version, head, len(body), body,
    )  # fmt: skip


def chunked(*chunks: bytes, trailers: bytes = b"") -> bytes:
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    return b"POST @ HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n" + body + b"0\r\n" + trailers + b"\r\n"


def bytewise(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


CONTINUE: tuple[int, list[tuple[str, str]], bytes] = (100, [], b"")
EXPECT = b"POST @ HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n"
HEAD = b"POST @ HTTP/1.1\r\n"

# name: (what is sent, bytes or pieces, and what is answered, in order; whether the server closes after)
CASES: dict[str, tuple[list[Any], bool]] = {
    "a whole request": ([post(b"hello"), ok(b"||hello")], False),
    "no body": ([post(b""), ok(b"||")], False),
    "no length": ([b"POST @ HTTP/1.1\r\n\r\n", ok(b"||")], False),
    "a query": ([post(b"x", b"a=b?c%20d"), ok(b"a=b?c%20d||x")], False),
    "an absolute URL": ([post(b"x", path=b"http://host@"), ok(b"||x")], False),
    "header names of any case": ([post(b"x", head=b"X-Seen: A\r\nx-seen: b\r\n"), ok(b"|A,b|x")], False),
    "byte by byte": ([bytewise(post(b"hello")), ok(b"||hello")], False),
    "one after the other": ([post(b"1"), ok(b"||1"), post(b"2"), ok(b"||2")], False),
    "pipelined": ([post(b"1") + post(b"2") + post(b"3"), ok(b"||1"), ok(b"||2"), ok(b"||3")], False),
    "pipelined behind a slow one": (
        [post(b"1", b"later") + post(b"2") + post(b"3", b"later"), ok(b"later||1"), ok(b"||2"), ok(b"later||3")],
        False,
    ),
    "fast and ASGI mixed": (
        [
            post(b"1", b"later") + post(b"2", b"later", path=b"/asgi") + post(b"3", path=b"/fast") + post(b"4"),
            ok(b"later||1"), ok(b"later||2"), ok(b"||3"), ok(b"||4"),
        ],
        False,
    ),
    "ASGI and fast mixed": (
        [
            post(b"1", path=b"/asgi") + post(b"2", path=b"/fast") + post(b"3", path=b"/asgi") + post(b"4", b"later"),
            ok(b"||1"), ok(b"||2"), ok(b"||3"), ok(b"later||4"),
        ],
        False,
    ),
    "a slow one, and half of the next": (
        [post(b"1", b"later") + post(b"second")[:-3], ok(b"later||1"), b"ond", ok(b"||second")],
        False,
    ),
    "pipelined byte by byte": (
        [bytewise(post(b"1", b"later") + post(b"2")), ok(b"later||1"), ok(b"||2")], False,
    ),
    "chunked": ([chunked(b"one", b"two", b"three"), ok(b"||onetwothree")], False),
    "chunked byte by byte": ([bytewise(chunked(b"one", b"two")), ok(b"||onetwo")], False),
    "chunked and pipelined": ([chunked(b"one", b"two") + post(b"2"), ok(b"||onetwo"), ok(b"||2")], False),
    "a body as long as may be": ([post(b"x" * 1000), ok(b"||" + b"x" * 1000)], False),
    "a body a byte too long": ([post(b"x" * 1001), refused(413)], True),
    "a length that is too long, before the body": ([post(b"x" * 9999)[:-9999], refused(413)], True),
    "a chunked body that becomes too long": ([chunked(b"x" * 1000, b"y")[:-7], refused(413)], True),
    "too long behind a slow one": ([post(b"1", b"later") + post(b"x" * 1001), ok(b"later||1"), refused(413)], True),
    "expecting 100": ([EXPECT % 5, CONTINUE, b"hello", ok(b"||hello")], False),
    "expecting 100 behind a slow one": (
        [post(b"1", b"later") + EXPECT % 5, ok(b"later||1"), CONTINUE, b"hello", ok(b"||hello")], False,
    ),
    "expecting 100 for too much": ([EXPECT % 5000, refused(413)], True),
    "HTTP/1.0": ([post(b"x", version=b"1.0"), ok(b"||x", close=True)], True),
    "HTTP/1.0 that would stay": (
        [post(b"x", head=b"connection: keep-alive\r\n", version=b"1.0"), ok(b"||x", close=True)], True,
    ),
    "connection: keep-alive": ([post(b"x", head=b"connection: keep-alive\r\n"), ok(b"||x")], False),
    "connection: close": ([post(b"x", head=b"connection: close\r\n"), ok(b"||x", close=True)], True),
    "nothing after connection: close": (
        [post(b"x", b"later", head=b"connection: close\r\n") + post(b"never"), ok(b"later||x", close=True)], True,
    ),
    "an answer that closes": ([post(b"x", b"close"), (200, [TEXT, CLOSE, ("content-length", "7")], b"closing")], True),
    "an answer without a body": ([post(b"x", b"status=204"), (204, [TEXT], b"")], False),
    "a handler that raises": ([post(b"x", b"raise"), refused(500)], True),
    "PUT": ([b"PUT" + post(b"x")[4:], ok(b"||x")], False),
    "OPTIONS": ([b"OPTIONS @ HTTP/1.1\r\nhost: x\r\n\r\n", ok(b"||")], False),
    "empty lines before a request": ([b"\r\n\r\n" + post(b"x"), ok(b"||x")], False),
    "headers of 60 KiB": ([post(b"x", head=b"x-pad: %b\r\n" % (b"p" * 61440)), ok(b"||x")], False),
    "many headers": ([post(b"x", head=b"x-pad: p\r\n" * 1000), ok(b"||x")], False),
    "headers over 64 KiB": ([post(b"x", head=b"x-pad: %b\r\n" % (b"p" * 66000)), refused(431)], True),
    "a header without an end": ([HEAD + b"x-pad: " + b"p" * 700_000, refused(431)], True),
    "a URL without an end": ([b"POST @?" + b"p" * 700_000, refused(431)], True),
    "two lengths": ([HEAD + b"content-length: 1\r\ncontent-length: 1\r\n\r\nx", refused(400)], True),
    "two different lengths": ([HEAD + b"content-length: 1\r\ncontent-length: 2\r\n\r\nxy", refused(400)], True),
    "a list of lengths": ([HEAD + b"content-length: 1, 1\r\n\r\nx", refused(400)], True),
    "a negative length": ([HEAD + b"content-length: -1\r\n\r\n", refused(400)], True),
    "a signed length": ([HEAD + b"content-length: +1\r\n\r\nx", refused(400)], True),
    "a length past 64 bits": ([HEAD + b"content-length: 99999999999999999999999\r\n\r\n", refused(400)], True),
    "a length and chunks": (
        [HEAD + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", refused(400)], True,
    ),
    "chunks and a length": (
        [HEAD + b"transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n", refused(400)], True,
    ),
    "chunked that is not last": ([HEAD + b"transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n", refused(400)], True),
    "chunks of no size": ([HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n", refused(400)], True),
    "a chunk longer than said": ([HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\nxyz\r\n", refused(400)], True),
    "a space before the colon": ([HEAD + b"content-length : 1\r\n\r\nx", refused(400)], True),
    "a folded header": ([HEAD + b" content-length: 1\r\n\r\nx", refused(400)], True),
    "a zero byte in a header": ([HEAD + b"x: a\0b\r\n\r\n", refused(400)], True),
    "a bare carriage return": ([HEAD + b"x: a\rcontent-length: 1\r\n\r\n", refused(400)], True),
    "no such method": ([b"GRAB @ HTTP/1.1\r\n\r\n", refused(400)], True),
    "no HTTP": ([b"\x16\x03\x01\x02\x00\x01", refused(400)], True),
    "nonsense after a request": ([post(b"x") + b"??", ok(b"||x"), refused(400)], True),
    "nonsense behind a slow one": ([post(b"x", b"later") + b"??", ok(b"later||x"), refused(400)], True),
    "a bad body behind a slow one": (
        [post(b"x", b"later") + HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n", ok(b"later||x"), refused(400)],
        True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("path", [b"/fast", b"/asgi"])
@pytest.mark.parametrize("case", CASES)
def test_http_is_answered_alike_by_both_ways_in(fast_server: "FastServer", case: str, path: bytes) -> None:
    ask(fast_server, case, path)


@pytest.mark.parametrize("case", CASES)
def test_heads_that_came_before_change_no_answer(fast_server: "FastServer", case: str) -> None:
    for _ in range(3):  # met, remembered, recognised
        ask(fast_server, case, b"/fast")


def ask(fast_server: "FastServer", case: str, path: bytes) -> None:
    steps, closes = CASES[case]
    with fast_server.connect() as client:
        for step in steps:
            if isinstance(step, tuple):
                assert client.read() == step
                continue
            for piece in step if isinstance(step, list) else [step]:
                client.send(piece.replace(b"@", path))
        if not closes:  # whatever came too much would be read here
            client.send(post(b"last").replace(b"@", path))
            assert client.read() == ok(b"||last")
        else:
            assert client.is_closed()
    assert bool(fast_server.tracebacks()) == (case == "a handler that raises")


@pytest.mark.parametrize("path", [b"/fast", b"/asgi"])
def test_head_has_no_body_by_both_ways_in(fast_server: "FastServer", path: bytes) -> None:
    with fast_server.connect() as client:
        client.send(b"HEAD %b HTTP/1.1\r\nhost: x\r\n\r\n" % path)
        assert client.read(has_body=False) == (200, [TEXT, ("content-length", "2")], b"")
        client.send(post(b"last", path=path))
        assert client.read() == ok(b"||last")


@pytest.mark.parametrize("path", [b"/fast", b"/asgi"])
def test_an_offer_to_upgrade_is_ignored_and_the_body_kept(fast_server: "FastServer", path: bytes) -> None:
    offer = b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: x\r\n"
    with fast_server.connect() as client:
        client.send(post(b"hello", head=offer, path=path) + post(b"2", path=path))
        assert [client.read(), client.read()] == [ok(b"||hello"), ok(b"||2")]
        for piece in bytewise(post(b"again", head=offer, path=path)):
            client.send(piece)
        assert client.read() == ok(b"||again")
        client.send(chunked(b"one", b"two").replace(b"@", path).replace(b"\r\n", b"\r\n" + offer, 1))
        assert client.read() == ok(b"||onetwo")


def test_an_absolute_url_without_a_path_asks_for_the_root(fast_server: "FastServer") -> None:
    # uvicorn trips over such URLs, so this is no case of the table
    with fast_server.connect() as client:
        client.send(post(b"x", path=b"http://host") + post(b"y", b"a=b", path=b"http://host:80"))
        assert [client.read(), client.read()] == [ok(b"||x"), ok(b"a=b||y")]
    assert not fast_server.tracebacks()


def test_trailers_do_not_pass_for_headers(fast_server: "FastServer") -> None:
    with fast_server.connect() as client:
        client.send(chunked(b"one", trailers=b"x-seen: forged\r\n").replace(b"@", b"/fast"))
        assert client.read() == ok(b"||one")
