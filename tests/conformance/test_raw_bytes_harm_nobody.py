"""Requests whose bytes are broken in transit or on purpose: no 500, no hang, no harm to whoever is served beside."""

import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.conformance import oip, raw_http
from tests.conformance.models import Oracle
from tests.conformance.neighbour import Neighbour
from tests.conformance.oip import HEADER
from tests.conformance.stack import Target
from tests.conformance.test_infer_follows_the_protocol import flights

FAST = settings(max_examples=800, suppress_health_check=list(HealthCheck))
LONG = settings(max_examples=12_000, suppress_health_check=list(HealthCheck))
INFER = b"/v2/models/flights/infer"

_json, _raw = oip.request(flights()), oip.request(flights("raw", "raw", "raw"), binary_output=True)
SEEDS: list[tuple[bytes, bytes, list[tuple[bytes, bytes]], bytes]] = [
    (b"POST", INFER, [(b"content-type", b"application/json")], _json.body),
    (b"POST", INFER, [(name.encode(), text.encode()) for name, text in _raw.headers.items()], _raw.body),
    (b"POST", b"/v1/models/flights:predict", [], b'{"instances": [[1400, 3, "UA"]]}'),
    (b"GET", b"/v2/models/flights", [], b""),
]
"""Well-formed requests without their framing: method, path, headers, body."""


def written(method: bytes, path: bytes, headers: list[tuple[bytes, bytes]], body: bytes) -> bytes:
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return b"%b %b HTTP/1.1\r\nhost: x\r\n%b\r\n%b" % (method, path, lines, body)


def framed(seed: int) -> bytes:
    method, path, headers, body = SEEDS[seed]
    return written(method, path, [*headers, (b"content-length", b"%d" % len(body))], body)


noise = st.binary(max_size=12) | st.sampled_from([b"\r\n", b"\r\n\r\n", b"\0", b"\n", b": ", b"\xff\xfe", b"HTTP/1.1"])
number_texts = (
    st.integers(-(2**70), 2**70).map(lambda n: b"%d" % n)
    | st.integers(0, 600).map(lambda n: b"%d" % n)
    | st.sampled_from([b"", b"+5", b"0x10", b"5, 5", b"5,6", b"1e3", b" 7 ", b"\xb2", b"00000000000000000012", b"NaN"])
    | st.binary(max_size=6).filter(lambda text: not set(text) & set(b"\r\n"))
)


@st.composite
def torn(draw: st.DrawFn) -> bytes:
    """A well-formed request with bytes replaced, put in or left out in a few places."""
    request = bytearray(framed(draw(st.integers(0, len(SEEDS) - 1))))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(request)))
        request[at : at + draw(st.integers(0, 12))] = draw(noise)
    return bytes(request)


@st.composite
def lying(draw: st.DrawFn) -> bytes:
    """Lengths that are not the body's, in either header, once or twice; maybe a well-formed request behind it."""
    method, path, headers, body = SEEDS[draw(st.integers(0, len(SEEDS) - 1))]
    lies: list[tuple[bytes, bytes]] = [(b"content-length", draw(number_texts))]
    if draw(st.booleans()):
        lies.append((draw(st.sampled_from([b"content-length", HEADER.encode()])), draw(number_texts)))
    kept = [header for header in headers if header[0] != HEADER.encode() or draw(st.booleans())]
    return written(method, path, [*kept, *lies], body) + draw(st.sampled_from([b"", framed(0), b"\0"]))


@st.composite
def chunked(draw: st.DrawFn) -> bytes:
    """A chunked body whose sizes, extensions, ends or header are garbage, or right."""
    method, path, headers, body = SEEDS[draw(st.integers(0, 2))]
    parts, at = [], 0
    while at < len(body):
        size = draw(st.integers(1, 200))
        part = body[at : at + size]
        told = draw(
            st.just(b"%x" % len(part)) | number_texts | st.sampled_from([b"f" * 16, b"f" * 17, b"-1", b"1;a=b"])
        )
        parts.append(told + b"\r\n" + part + draw(st.sampled_from([b"\r\n"] * 9 + [b"", b"\n", b"xx"])))
        at += size
    end = draw(st.sampled_from([b"0\r\n\r\n", b"0\r\n", b"", b"0\r\nx: y\r\n\r\n", b"0\r\ncontent-length: 5\r\n\r\n"]))
    coding = draw(
        st.sampled_from([b"chunked"] * 5 + [b"Chunked", b"gzip, chunked", b"chunked, chunked", b"xchunked", b""])
    )
    framing = [(b"transfer-encoding", coding)]
    if draw(st.booleans()):
        framing.append((b"content-length", draw(number_texts)))
    return written(method, path, [*headers, *framing], b"".join(parts) + end) + draw(st.sampled_from([b"", framed(2)]))


@st.composite
def odd_heads(draw: st.DrawFn) -> bytes:
    """Methods, targets and headers no client should send, around a right body."""
    method, path, headers, body = SEEDS[draw(st.integers(0, len(SEEDS) - 1))]
    method = draw(st.sampled_from([method] * 4 + [b"HEAD", b"OPTIONS", b"CONNECT", b"TRACE", b"get", b"P\0ST", b"PRI"]))
    odd_paths = [
        b"*",
        b"//",
        b"/%zz",
        b"/v2/models/%00%ff/infer",
        b"http://y/v2",
        b"/\xff\xe4",
        b"/a b",
        b"?",
        b"/" + b"a" * 70_000,
    ]
    path = draw(st.sampled_from([path] * 4 + odd_paths) | st.binary(max_size=20))
    extra = draw(
        st.lists(
            st.sampled_from(
                [
                    (b"expect", b"100-continue"),
                    (b"expect", b"200-ok"),
                    (b"upgrade", b"websocket"),
                    (b"connection", b"upgrade, keep-alive"),
                    (b"upgrade", b"h2c"),
                    (b"content-encoding", b"gzip"),
                    (b"content-type", b"\xff;\0"),
                    (b"x-kingmaker-variant", b"\xff" * 200),
                    (b"x-kingmaker-timeout-ms", b"-5"),
                    (b"", b"no name"),
                    (b"a b", b"space in the name"),
                    (b"x", b"y\r\n folded"),
                    (b"x-long", b"z" * 70_000),
                    (b"host", b"again"),
                ]
            )
            | st.tuples(st.binary(max_size=8), st.binary(max_size=20)),
            max_size=4,
        )
    )
    return written(method, path, [*headers, *extra, (b"content-length", b"%d" % len(body))], body)


def pieces_of(request: bytes, cuts: list[int]) -> list[bytes]:
    marks = sorted({0, *(cut % (len(request) + 1) for cut in cuts), len(request)})
    return [request[a:b] for a, b in itertools.pairwise(marks)]


requests = torn() | lying() | chunked() | odd_heads()
cuts = st.lists(st.integers(0, 2000), max_size=2)
SMUGGLED = written(b"POST", INFER, [(b"content-length", b"5"), (b"transfer-encoding", b"chunked")], b"0\r\n\r\n")


def fuzz(target: Target, oracle: Oracle, profile: settings) -> None:
    @profile
    @given(request=requests, cuts=cuts)
    @example(request=b"", cuts=[])
    @example(request=b"\0" * 5000, cuts=[])
    @example(request=b"POST /v2/models/flights/infer HTTP/1.1\r\ncontent-length: 99", cuts=[])
    @example(request=SMUGGLED + framed(0), cuts=[])
    @example(request=framed(0) + framed(1) + framed(2) + framed(3), cuts=[7, 150, 900])
    def send(request: bytes, cuts: list[int]) -> None:
        raw_http.check(raw_http.exchange(target.addresses["flights"], pieces_of(request, cuts)))

    with Neighbour(target, oracle) as neighbour:
        send()
    assert neighbour.answered > 10


def test_broken_requests_harm_nobody(target: Target, oracles: dict[str, Oracle]) -> None:
    fuzz(target, oracles["flights"], FAST)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_broken_requests_harm_nobody(target: Target, oracles: dict[str, Oracle]) -> None:
    fuzz(target, oracles["flights"], LONG)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-length", b"5"), (b"transfer-encoding", b"chunked")],
        [(b"content-length", b"5"), (b"content-length", b"6")],
        [(b"content-length", b"-5")],
        [(b"content-length", b"+5")],
        [(b"content-length", b"99999999999999999999999")],
        [(b"transfer-encoding", b"xchunked")],
    ],
    ids=str,
)
def test_a_body_of_doubtful_length_is_refused_and_nothing_behind_it_is_read(target: Target, headers: Any) -> None:
    """A server that guesses can be made to read one client's body as another's request."""
    request = written(b"POST", INFER, headers, b"0\r\n\r\n") + framed(0)
    received = raw_http.exchange(target.addresses["flights"], [request])
    assert raw_http.statuses(received) == [400], received


def test_garbage_behind_a_request_does_not_take_its_answer(target: Target) -> None:
    """The answer to the request comes first; what follows may be refused once it is out."""
    received = raw_http.exchange(target.addresses["flights"], [framed(1) + b"\0garbage\r\n\r\n"], end=False)
    assert raw_http.statuses(received) in ([200], [200, 400]), received


def test_pipelined_requests_are_answered_in_their_order(target: Target) -> None:
    last = b"GET /v3 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    received = raw_http.exchange(target.addresses["flights"], [framed(0) + framed(3) + last], end=False)
    assert raw_http.statuses(received) == [200, 200, 404]


@pytest.mark.slow  # as long as the services wait
@pytest.mark.parametrize("at", ["head", "body"])
def test_a_request_that_never_ends_is_given_up(target: Target, at: str) -> None:
    """A client that stops in the middle must not hold its connection, or its place in flight, for ever."""
    whole = framed(0)
    part = whole[:20] if at == "head" else whole[:-5]
    received = raw_http.exchange(target.addresses["flights"], [part], end=False)
    assert raw_http.statuses(received)[0] in (400, 408, 504), received
