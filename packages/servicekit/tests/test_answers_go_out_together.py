"""A call that is answered in a group is told what it is told alone, and costs its neighbours nothing."""

import socket
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from kingmaker_servicekit.fast_answers import answer_all
from kingmaker_servicekit.fast_call import NO_HEAD, Call, Leads, Wording
from kingmaker_servicekit.fast_http import FastRoute

if TYPE_CHECKING:
    from packages.servicekit.tests.conftest import FastServer

HEADERS = ((b"content-type", b"x"),)
QUICK = b"POST /fast?quick HTTP/1.1\r\ncontent-length: 1\r\n\r\nq"
LARGE = 30_000_000
"""More than the kernel takes from a server whose client does not read."""


def ask(body: bytes = b"usual", head: bytes = b"", line: bytes = b"POST /fast?hold HTTP/1.1") -> bytes:
    return b"%b\r\nhost: x\r\n%bcontent-length: %d\r\n\r\n%b" % (line, head, len(body), body)


def answered_together(calls: list[Call], bodies: list[bytes], headers: Any = HEADERS, status: int = 200) -> Any:
    names = [b"%d" % at for at in range(len(calls))]
    return answer_all(calls, status, headers, bodies, name=b"x-at", values=names)


def answered_alone(calls: list[Call], bodies: list[bytes], headers: Any = HEADERS, status: int = 200) -> Any:
    failed = []
    for at, (call, body) in enumerate(zip(calls, bodies, strict=True)):
        try:
            call.answer(status, headers, body, b"x-at: %d\r\n" % at)
        except Exception as error:
            failed.append((call, error))
    return failed


def told(at: int, body: bytes, *more: tuple[str, str]) -> Any:
    length = ("content-length", str(len(body)))
    return (200, [("content-type", "x"), length, *more, ("x-at", str(at))], body)


def quick(body: bytes) -> Any:
    return (200, [("content-type", "text/plain; charset=utf-8"), ("content-length", str(len(body)))], body)


@pytest.fixture
def server(start_fast_server: "Callable[..., FastServer]") -> "FastServer":
    """It knows the head of `ask()`, and has worded an answer to it."""
    server = start_fast_server()
    with server.connect() as client:
        for _ in range(2):
            client.send(ask())
            server.in_loop(answered_together, [server.held.get(timeout=30)], [b"first"])
            assert client.read() == told(0, b"first")
    assert len(server.heads) == 1
    return server


def sent(server: "FastServer", client: Any, data: bytes) -> Call:
    client.send(data)
    call: Call = server.held.get(timeout=30)
    return call


def everything(client: Any) -> list[Any]:
    """What is answered, and what a further request gets; until the server closes."""
    try:
        client.send(QUICK)
        client.socket.shutdown(socket.SHUT_WR)
        return client.read_all()
    except OSError as error:
        return [type(error)]


ODD = {
    "known head": ask(),
    "head met for the first time": ask(head=b"x-new: 1\r\n"),
    "connection: close": ask(head=b"connection: close\r\n"),
    "HTTP/1.0": ask(line=b"POST /fast?hold HTTP/1.0"),
    "HEAD": ask(b"", line=b"HEAD /held?hold HTTP/1.1"),
    "another behind it": ask() + ask(line=b"POST /fast?next HTTP/1.1"),
    "one for ASGI behind it": ask() + ask(line=b"POST /asgi?next HTTP/1.1"),
    "half of another behind it": ask() + ask(line=b"POST /fast?next HTTP/1.1")[:30],
    "noise behind it": ask() + b"?",
}


@pytest.mark.parametrize("odd", ODD)
def test_each_is_told_what_it_is_told_alone(server: "FastServer", odd: str) -> None:
    def answers(answer: Callable[..., Any]) -> list[Any]:
        with server.connect() as before, server.connect() as between, server.connect() as after:
            calls = [sent(server, before, ask()), sent(server, between, ODD[odd]), sent(server, after, ask())]
            server.in_loop(lambda: None)
            assert server.in_loop(answer, calls, [b"one", b"two", b"three"]) == []
            assert not any(call.is_open for call in calls)
            if odd == "half of another behind it":
                between.send(ask(line=b"POST /fast?next HTTP/1.1")[30:])
            if odd == "HEAD":
                between.send(QUICK)
                return [before.read(), between.read(has_body=False), between.read(), after.read()]
            return [everything(client) for client in (before, between, after)]

    together = answers(answered_together)
    assert together == answers(answered_alone)
    if odd == "known head":
        said = [told(0, b"one"), told(1, b"two"), told(2, b"three")]
        assert together == [[answer, quick(b"quick||q")] for answer in said]
    if odd == "another behind it":
        assert together[1] == [told(1, b"two"), quick(b"next||usual"), quick(b"quick||q")]


def test_what_comes_behind_a_known_request_in_progress_has_its_turn_after_it(server: "FastServer") -> None:
    with server.connect() as client, server.connect() as other:
        calls = [sent(server, client, ask()), sent(server, other, ask())]
        client.send(QUICK + QUICK[:-1])
        server.in_loop(lambda: None)
        server.in_loop(answered_together, calls, [b"one", b"two"])
        client.send(b"!")
        assert [client.read() for _ in range(3)] == [told(0, b"one"), quick(b"quick||q"), quick(b"quick||!")]
        assert other.read() == told(1, b"two")


@pytest.mark.parametrize("leaves", ["by a reset", "in order"])
def test_a_client_that_has_gone_costs_its_neighbours_nothing(
    server: "FastServer", wait_until: Callable[..., None], leaves: str
) -> None:
    with server.connect() as before, server.connect() as after:
        with server.connect() as gone:
            calls = [sent(server, client, ask()) for client in (before, gone, after)]
            if leaves == "by a reset":
                gone.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        wait_until(lambda: not calls[1].is_open)
        requests = server.uvicorn.server_state.total_requests
        assert server.in_loop(answered_together, calls, [b"one", b"two", b"three"]) == []
        assert (before.read(), after.read()) == (told(0, b"one"), told(2, b"three"))
    assert calls[1].response_complete
    assert server.uvicorn.server_state.total_requests == requests + 2
    assert not server.tracebacks()


def test_one_that_was_answered_already_is_told_and_costs_its_neighbours_nothing(server: "FastServer") -> None:
    with server.connect() as before, server.connect() as between, server.connect() as after:
        calls = [sent(server, client, ask()) for client in (before, between, after)]
        server.in_loop(answered_together, [calls[1]], [b"early"])
        [(call, error)] = server.in_loop(answered_together, calls, [b"one", b"two", b"three"])
        assert call is calls[1]
        with pytest.raises(RuntimeError, match="was answered already"):
            raise error
        assert everything(before) == [told(0, b"one"), quick(b"quick||q")]
        assert everything(between) == [told(0, b"early"), quick(b"quick||q")]
        assert everything(after) == [told(2, b"three"), quick(b"quick||q")]


def test_one_whose_handler_raised_after_all_is_not_answered_again(server: "FastServer") -> None:
    def raises(call: Call) -> None:
        server.held.put(call)
        raise ValueError("a handler's mistake")

    server.route = FastRoute(raises, 100)
    with server.connect() as client:
        call = sent(server, client, ask(head=b"x-new: 1\r\n"))
        assert client.read()[0] == 500
        [(_, error)] = server.in_loop(answered_together, [call], [b"one"])
        with pytest.raises(RuntimeError, match="was answered already"):
            raise error
        assert client.is_closed()


def test_nobody_is_answered_twice_whoever_asks_next(server: "FastServer") -> None:
    """The connection of a call that was answered may be busy with the next one of it."""
    with server.connect() as client, server.connect() as other:

        def answer_again() -> None:
            for answer in answered_together, answered_alone:
                assert [call for call, _ in server.in_loop(answer, first, [b"again"] * 2)] == first

        first = [sent(server, client, ask()), sent(server, other, ask())]
        server.in_loop(answered_together, first, [b"one", b"two"])
        answer_again()
        second = [sent(server, client, ask()), sent(server, other, ask())]
        answer_again()
        server.in_loop(answered_together, second, [b"three", b"four"])
        assert everything(client) == [told(0, b"one"), told(0, b"three"), quick(b"quick||q")]
        assert everything(other) == [told(1, b"two"), told(1, b"four"), quick(b"quick||q")]


def test_a_header_that_would_break_the_head_is_sent_to_nobody(server: "FastServer") -> None:
    with server.connect() as client, server.connect() as other:
        calls = [sent(server, client, ask()), sent(server, other, ask())]
        failed = server.in_loop(answered_together, calls, [b"", b""], ((b"a", b"b\r\nc: d"),))
        assert [(call, type(error)) for call, error in failed] == [(call, RuntimeError) for call in calls]
        assert all(call.is_open for call in calls)
        server.in_loop(answered_together, calls, [b"one", b"two"])
        assert (client.read(), other.read()) == (told(0, b"one"), told(1, b"two"))


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (200, [(b"content-type", b"a list")]),
        (204, HEADERS),
        (503, HEADERS),
        (200, (*HEADERS, (b"connection", b"close"))),
        (200, ((b"x-percent", b"100%d %b"),)),
    ],
    ids=["headers that are not constant", "no body", "a status not worded yet", "connection: close", "percent signs"],
)
def test_any_status_and_headers_are_worded_as_alone(server: "FastServer", status: int, headers: Any) -> None:
    def answers(answer: Callable[..., Any]) -> list[Any]:
        with server.connect() as client, server.connect() as other:
            for _ in range(2):
                calls = [sent(server, client, ask()), sent(server, other, ask())]
                assert server.in_loop(answer, calls, [b"", b"two"], headers, status) == []
                said = [client.read(), other.read()]
                if client_is_told_to_leave(said[0]):
                    assert client.is_closed()
                    break
            return said

    assert answers(answered_together) == answers(answered_alone)


def client_is_told_to_leave(answer: Any) -> bool:
    return ("connection", "close") in answer[1]


def test_bodies_of_more_lengths_than_are_remembered_are_sent_right(server: "FastServer") -> None:
    with server.connect() as client, server.connect() as other:
        for length in [*range(1100), 0, 1, 1099]:
            calls = [sent(server, client, ask()), sent(server, other, ask())]
            server.in_loop(answered_together, calls, [b"x" * length, b"two"])
            assert (client.read(), other.read()) == (told(0, b"x" * length), told(1, b"two"))


def test_a_new_date_is_said_by_the_first_group_after_it(server: "FastServer") -> None:
    with server.connect() as client, server.connect() as other:
        for date in (b"today", b"tomorrow"):
            default_headers = [(b"x-day", date)]
            for headers in HEADERS, ((b"content-type", b"y"),):
                calls = [sent(server, client, ask()), sent(server, other, ask())]

                def answer(calls: Any = calls, defaults: Any = default_headers, headers: Any = headers) -> None:
                    server.uvicorn.server_state.default_headers = defaults
                    answered_together(calls, [b"one", b"two"], headers)

                server.in_loop(answer)
                assert [dict(one.read()[1])["x-day"] for one in (client, other)] == [date.decode()] * 2


def test_what_was_worded_for_an_earlier_date_is_not_kept() -> None:
    wording = Wording()
    kept: list[Any] = []
    for date in (b"today", b"tomorrow"):
        defaults = [(b"x-day", date)]
        wording.answer(defaults, None, 200, HEADERS, b"")  # not to a call: the connection closes
        wording.answer(defaults, Call(None, NO_HEAD), 200, HEADERS, b"")  # type: ignore[arg-type]
        leads = wording.leads(defaults, 200, HEADERS, b"x-at")
        assert leads is not None and date in leads[5]
        kept.append(weakref.ref(leads))
        del leads
    assert [one() is None for one in kept] == [True, False]


def test_lengths_are_remembered_up_to_a_number_of_them() -> None:
    leads = Leads(b"length: ", b"x-at")
    assert all(leads[length] == b"length: %d\r\nx-at: " % length for length in range(5000))
    assert len(leads) < 2000


def test_calls_of_two_servers_in_one_group_are_each_worded_by_their_own(server: "FastServer") -> None:
    """The second one's protocol in the loop of the first."""
    state = type(server.uvicorn.server_state)()
    state.default_headers = [(b"x-server", b"second")]
    with server.connect() as client, server.connect() as other:
        calls = [sent(server, client, ask()), sent(server, other, ask())]
        requests = server.uvicorn.server_state.total_requests
        calls[1].connection.server_state = state
        assert server.in_loop(answered_together, calls, [b"one", b"two"]) == []
        assert client.read() == told(0, b"one")
        assert other.read()[1][0] == ("x-server", "second")
    assert (server.uvicorn.server_state.total_requests, state.total_requests) == (requests + 1, 1)


def test_a_known_request_waits_while_answers_before_it_are_not_read(
    server: "FastServer", wait_until: Callable[..., None]
) -> None:
    with server.connect() as client, server.connect() as neighbour:
        calls = [sent(server, client, ask()), sent(server, neighbour, ask())]
        server.in_loop(answered_together, calls, [b"x" * LARGE, b"two"])
        assert neighbour.read() == told(1, b"two")
        protocol: Any = calls[0].connection
        assert protocol.flow.write_paused
        client.send(ask())
        wait_until(lambda: protocol.flow.read_paused)
        assert server.held.empty()
        assert client.read() == told(0, b"x" * LARGE)
        server.in_loop(answered_together, [server.held.get(timeout=30)], [b"next"])
        assert client.read() == told(0, b"next")


def test_a_connection_is_closed_when_it_was_idle_since_its_answer_in_a_group(
    start_fast_server: "Callable[..., FastServer]",
) -> None:
    server = start_fast_server(timeout_keep_alive=1)
    with server.connect() as client, server.connect() as other:
        for _ in range(4):
            calls = [sent(server, client, ask()), sent(server, other, ask())]
            before = time.perf_counter()
            server.in_loop(answered_together, calls, [b"one", b"two"])
            assert all(before < call.connection.idle_since < time.perf_counter() for call in calls)
            assert (client.read(), other.read()) == (told(0, b"one"), told(1, b"two"))
        assert client.is_closed() and other.is_closed()


def test_who_is_answered_while_the_server_stops_is_told_that_it_was_the_last(server: "FastServer") -> None:
    with server.connect() as client, server.connect() as other, server.connect() as idle:
        idle.send(QUICK)
        assert idle.read() == quick(b"quick||q")
        calls = [sent(server, client, ask()), sent(server, other, ask())]
        server.uvicorn.should_exit = True
        assert idle.is_closed()
        server.in_loop(answered_together, calls, [b"bye"] * 2)
        for one in client, other:
            _, headers, body = one.read()
            assert (("connection", "close") in headers, body) == (True, b"bye")
            assert one.is_closed()


def test_a_group_of_nobody_is_no_mistake() -> None:
    assert answer_all([], 200, HEADERS, [], name=b"x", values=[]) == []
