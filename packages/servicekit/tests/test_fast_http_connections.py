"""Slow, greedy and leaving clients, and a server that is told to stop, on the fast way in."""

import select
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from kingmaker_servicekit import fast_turns

if TYPE_CHECKING:
    from packages.servicekit.tests.conftest import FastServer

TEXT = ("content-type", "text/plain; charset=utf-8")
CLOSE = ("connection", "close")


def post(body: bytes, query: bytes = b"", path: bytes = b"/fast") -> bytes:
    return b"POST %b?%b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (path, query, len(body), body)


def ok(body: bytes, *more: tuple[str, str]) -> Any:
    return (200, [TEXT, ("content-length", str(len(body))), *more], body)


def refused(status: int) -> Any:
    body = b"refused with %d" % status
    return (status, [TEXT, ("content-length", str(len(body))), CLOSE], body)


def answer(server: "FastServer", call: Any, body: bytes = b"done", headers: Any = ((b"content-type", b"x"),)) -> None:
    server.in_loop(call.answer, 200, headers, body)


def held(body: bytes = b"done", *more: tuple[str, str]) -> Any:
    return (200, [("content-type", "x"), ("content-length", str(len(body))), *more], body)


def can_write(client: Any) -> bool:
    return bool(select.select([], [client.socket], [], 0.05)[1])


class TestSlowClients:
    @pytest.mark.parametrize("sent", [b"P", b"POST /fast HTTP/1.1\r\nx: y", post(b"hello")[:-5], post(b"hello")[:-1]])
    def test_a_request_that_does_not_become_whole_is_answered_408(
        self, start_fast_server: "Callable[..., FastServer]", sent: bytes
    ) -> None:
        server = start_fast_server(body_read_s=0.1)
        with server.connect() as client:
            client.send(sent)
            assert client.read() == refused(408)
            assert client.is_closed()

    def test_the_clock_of_the_next_request_stands_while_one_is_in_progress(
        self, start_fast_server: "Callable[..., FastServer]"
    ) -> None:
        server = start_fast_server(body_read_s=0.5)
        with server.connect() as client:
            client.send(post(b"1", b"hold") + post(b"23")[:-1])
            call = server.held.get(timeout=30)
            time.sleep(0.75)  # longer than a body may take
            answer(server, call)
            assert client.read() == held()
            client.send(b"3")
            assert client.read() == ok(b"||23")

    def test_a_body_that_was_not_read_before_its_turn_has_all_its_time_then(
        self, start_fast_server: "Callable[..., FastServer]"
    ) -> None:
        server = start_fast_server()
        with server.connect() as client:
            client.send(post(b"1", b"hold") + post(b"23")[:-1])
            call = server.held.get(timeout=30)
            connection: Any = next(iter(server.uvicorn.server_state.connections))
            end = server.in_loop(connection._read_timer.when)
            time.sleep(0.05)  # the loop's clock counts milliseconds
            answer(server, call)
            assert client.read() == held()
            assert server.in_loop(connection._read_timer.when) > end
            client.send(b"3")
            assert client.read() == ok(b"||23")

    def test_the_clock_does_not_hurt_a_slow_answer_or_an_idle_connection(
        self, start_fast_server: "Callable[..., FastServer]"
    ) -> None:
        server = start_fast_server(body_read_s=0.5)
        with server.connect() as client:
            for piece in (post(b"1", b"hold")[:-1], b"1"):
                client.send(piece)
            call = server.held.get(timeout=30)
            time.sleep(0.75)  # longer than a body may take
            answer(server, call)
            assert client.read() == held()
            time.sleep(0.75)
            client.send(post(b"2"))
            assert client.read() == ok(b"||2")

    def test_an_idle_connection_is_closed_and_a_busy_one_is_not(
        self, start_fast_server: "Callable[..., FastServer]"
    ) -> None:
        server = start_fast_server(timeout_keep_alive=1)
        with server.connect() as idle, server.connect() as busy:
            idle.send(post(b"1"))
            assert idle.read() == ok(b"||1")
            busy.send(post(b"1") + post(b"2", b"hold"))
            call = server.held.get(timeout=30)
            assert idle.is_closed()
            assert busy.read() == ok(b"||1")
            answer(server, call)
            assert busy.read() == held()
            assert busy.is_closed()


class TestGreedyClients:
    def test_a_client_that_sends_its_whole_refused_body_still_reads_the_answer(
        self, fast_server: "FastServer", monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fast_turns, "LINGER_S", 60.0)  # a busy machine may take a while to send it
        with fast_server.connect() as client:
            client.send(post(b"x" * 20_000_000))
            assert client.read() == refused(413)
            assert client.is_closed()

    def test_a_refused_client_that_stays_is_closed(
        self, fast_server: "FastServer", wait_until: Callable[..., None]
    ) -> None:
        with fast_server.connect() as client:
            client.send(post(b"x" * 2000)[:-1])
            assert client.read() == refused(413)
            wait_until(lambda: not fast_server.uvicorn.server_state.connections)

    def test_answers_nobody_reads_stop_the_reading_of_requests(
        self, fast_server: "FastServer", wait_until: Callable[..., None]
    ) -> None:
        request = post(b"x" * 900)
        with fast_server.connect() as client:
            wait_until(lambda: len(fast_server.uvicorn.server_state.connections) == 1)
            client.socket.setblocking(False)
            protocol: Any  # uvicorn says it is one of many kinds
            (protocol,) = fast_server.uvicorn.server_state.connections
            sent = 0
            while sent < 100_000_000 and not (protocol.flow.write_paused and not can_write(client)):
                if can_write(client):
                    sent += client.socket.send((request * 100)[sent % len(request) :])
            assert protocol.flow.read_paused
            assert len(protocol.pipeline) <= 300_000 // len(request)
            client.socket.settimeout(10)
            for _ in range(sent // len(request)):
                assert client.read() == ok(b"||" + b"x" * 900)
            client.send(request[sent % len(request) :])
            assert client.read() == ok(b"||" + b"x" * 900)

    def test_thousands_that_waited_are_answered_without_recursion(self, fast_server: "FastServer") -> None:
        with fast_server.connect() as client:
            client.send(post(b"first", b"hold") + b"".join(post(b"%d" % i) for i in range(5000)))
            answer(fast_server, fast_server.held.get(timeout=30))
            assert client.read() == held()
            for i in range(5000):
                assert client.read() == ok(b"||%d" % i)
        assert not fast_server.records

    def test_a_second_request_waits_for_the_first(self, fast_server: "FastServer") -> None:
        with fast_server.connect() as client:
            client.send(post(b"1", b"hold") + post(b"2", b"hold") + post(b"3", path=b"/asgi"))
            first = fast_server.held.get(timeout=30)
            fast_server.in_loop(lambda: None)
            assert fast_server.held.empty()
            answer(fast_server, first, b"one")
            second = fast_server.held.get(timeout=30)
            assert (first.body, second.body) == (b"1", b"2")
            answer(fast_server, second, b"two")
            assert [client.read() for _ in range(3)] == [held(b"one"), held(b"two"), ok(b"||3")]

    def test_too_many_connections_are_answered_503_as_by_uvicorn(
        self, start_fast_server: "Callable[..., FastServer]"
    ) -> None:
        server = start_fast_server(limit_concurrency=1)
        with server.connect() as client:
            client.send(post(b"x"))
            assert client.read()[0] == 503
            assert client.is_closed()


class TestCalls:
    def test_a_call_carries_the_request(self, fast_server: "FastServer") -> None:
        before = time.perf_counter()
        with fast_server.connect() as client:
            client.send(b"POST /fast?hold HTTP/1.1\r\nHost: x\r\nA: 1\r\na: 2\r\ncontent-length: 2\r\n\r\nhi")
            call = fast_server.held.get(timeout=30)
            assert (call.head.method, call.path, call.query, call.body) == (b"POST", b"/fast", b"hold", b"hi")
            assert call.headers == [(b"host", b"x"), (b"a", b"1"), (b"a", b"2"), (b"content-length", b"2")]
            assert (call.header(b"a"), call.header(b"b")) == (b"1", None)
            assert before < call.arrived < time.perf_counter()
            was_open = call.is_open
            answer(fast_server, call)
            assert (was_open, call.is_open) == (True, False)
            assert client.read() == held()

    def test_an_answer_goes_out_once(self, fast_server: "FastServer") -> None:
        with fast_server.connect() as client:
            client.send(post(b"x", b"hold"))
            call = fast_server.held.get(timeout=30)
            answer(fast_server, call)
            with pytest.raises(RuntimeError, match="was answered already"):
                answer(fast_server, call)
            client.send(post(b"next"))
            assert [client.read(), client.read()] == [held(), ok(b"||next")]

    @pytest.mark.parametrize("headers", [((b"a", b"b\r\nc: d"),), [(b"a", b"b\nc")], [(b"a\r", b"")], [(b"a", b"\0")]])
    def test_a_header_that_would_break_the_head_is_not_sent(self, fast_server: "FastServer", headers: Any) -> None:
        with fast_server.connect() as client:
            client.send(post(b"x", b"hold"))
            call = fast_server.held.get(timeout=30)
            with pytest.raises(RuntimeError, match="line break"):
                answer(fast_server, call, headers=headers)
            answer(fast_server, call)
            assert client.read() == held()

    def test_constant_headers_are_sent_right_each_time(self, fast_server: "FastServer") -> None:
        with fast_server.connect() as client:
            for i in range(600):  # more kinds than are remembered
                client.send(post(b"x", b"hold"))
                body = b"x" * (i % 30)
                call = fast_server.held.get(timeout=30)
                answer(fast_server, call, body, ((b"x-i", b"%d" % (i // 2)),))
                assert client.read() == (200, [("x-i", str(i // 2)), ("content-length", str(i % 30))], body)

    def test_the_date_follows_uvicorns(self, fast_server: "FastServer") -> None:
        dates: set[str] = set()
        with fast_server.connect() as client:
            end = time.monotonic() + 30
            while len(dates) < 2 and time.monotonic() < end:
                client.send(post(b"x"))
                head = client.socket.recv(65536).decode().split("\r\n")
                dates.add(next(line for line in head if line.startswith("date: ")))
                time.sleep(0.02)
        assert len(dates) == 2

    @pytest.mark.parametrize("behind", [b"", post(b"2"), post(b"2", path=b"/asgi"), b"?"])
    def test_the_answer_to_a_client_that_left_is_dropped(
        self, fast_server: "FastServer", wait_until: Callable[..., None], behind: bytes
    ) -> None:
        with fast_server.connect() as client:
            client.send(post(b"x", b"hold"))
            call = fast_server.held.get(timeout=30)
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # leaves by a reset
            if behind:
                client.send(behind)
        if not behind:
            wait_until(lambda: not call.is_open)
            wait_until(lambda: not fast_server.uvicorn.server_state.connections)
        answer(fast_server, call)
        with pytest.raises(RuntimeError):
            answer(fast_server, call)
        wait_until(lambda: not fast_server.uvicorn.server_state.connections)
        assert not fast_server.tracebacks()

    @pytest.mark.parametrize("last", [post(b"x", b"close"), b"POST /fast HTTP/1.0\r\n\r\n"])
    def test_nothing_behind_the_last_answer_is_handled(self, fast_server: "FastServer", last: bytes) -> None:
        with fast_server.connect() as client:
            client.send(last + post(b"never", b"hold"))
            assert len(client.read_all()) == 1
        assert fast_server.held.empty()

    def test_nothing_in_line_behind_a_mistake_is_handled(self, fast_server: "FastServer") -> None:
        with fast_server.connect() as client:
            client.send(post(b"1", b"hold") + post(b"2", b"raise") + post(b"never", b"hold") + post(b"half")[:-1])
            answer(fast_server, fast_server.held.get(timeout=30))
            assert [status for status, _, _ in client.read_all()] == [200, 500]
        assert fast_server.held.empty()
        assert len(fast_server.tracebacks()) == 1

    def test_requests_are_counted_like_uvicorns(self, start_fast_server: "Callable[..., FastServer]") -> None:
        server = start_fast_server()
        with server.connect() as client:
            client.send(post(b"1") + post(b"2", path=b"/asgi") + post(b"3", b"later") + post(b"4", b"close"))
            assert len(client.read_all()) == 4
        assert server.uvicorn.server_state.total_requests == 4


class TestStopping:
    def test_a_call_in_flight_is_answered_and_the_connection_closed(
        self, start_fast_server: "Callable[..., FastServer]"
    ) -> None:
        server = start_fast_server()
        with server.connect() as client, server.connect() as idle:
            idle.send(post(b"x"))
            assert idle.read() == ok(b"||x")
            client.send(post(b"1") + post(b"2", b"hold"))
            call = server.held.get(timeout=30)
            server.uvicorn.should_exit = True
            assert idle.is_closed()
            assert call.is_open
            answer(server, call)
            assert client.read_all() == [ok(b"||1"), held(b"done", CLOSE)]
        server.stop()

    def test_what_waits_behind_it_is_answered_too(self, start_fast_server: "Callable[..., FastServer]") -> None:
        server = start_fast_server()
        with server.connect() as client, server.connect() as idle:
            client.send(post(b"1", b"hold") + post(b"2") + post(b"3", path=b"/asgi"))
            call = server.held.get(timeout=30)
            server.uvicorn.should_exit = True
            assert idle.is_closed()
            answer(server, call)
            assert client.read_all() == [held(), ok(b"||2"), ok(b"||3", CLOSE)]

    def test_a_body_that_was_coming_may_come(self, start_fast_server: "Callable[..., FastServer]") -> None:
        server = start_fast_server()
        with server.connect() as client, server.connect() as idle:
            client.send(post(b"hello")[:-2])
            server.in_loop(lambda: None)
            server.uvicorn.should_exit = True
            assert idle.is_closed()
            client.send(b"lo")
            assert client.read_all() == [ok(b"||hello", CLOSE)]

    def test_a_call_that_is_never_answered_does_not_hold_the_server(
        self, start_fast_server: "Callable[..., FastServer]"
    ) -> None:
        server = start_fast_server(timeout_graceful_shutdown=1)
        with server.connect() as client:
            client.send(post(b"x", b"hold"))
            call = server.held.get(timeout=30)
            server.stop()
            assert not call.response_complete

    def test_a_request_limit_ends_the_server(self, start_fast_server: "Callable[..., FastServer]") -> None:
        server = start_fast_server(limit_max_requests=3)
        with server.connect() as client:
            client.send(post(b"1") + post(b"2") + post(b"3"))
            assert len(client.read_all()) == 3
        server._thread.join(30)
        assert not server._thread.is_alive()
