"""A real uvicorn server (uvloop, in a thread) whose /fast goes the fast way in and whose /asgi answers alike."""

import asyncio
import logging
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
import uvicorn
import uvloop

from kingmaker_servicekit import serving
from kingmaker_servicekit.fast_heads import Heads
from kingmaker_servicekit.fast_http import Call, FastRoute, protocol_class

BODY_LIMIT = 1000
FAST = ((b"POST", b"/fast"), (b"HEAD", b"/held"))
TEXT = (b"content-type", b"text/plain; charset=utf-8")
WORDS = {400: b"Invalid HTTP request received.", 500: b"Internal Server Error"}
Headers = tuple[tuple[bytes, bytes], ...]
Answer = tuple[int, list[tuple[str, str]], bytes]


def refuse(status: int, call: Call | None) -> tuple[list[tuple[bytes, bytes]], bytes]:
    return [TEXT], WORDS.get(status, b"refused with %d" % status)


def echo(query: bytes, headers: list[tuple[bytes, bytes]], body: bytes) -> tuple[int, Headers, bytes]:
    """What both ways in answer: a decision about the request, without the way it came."""
    if b"status=204" in query:
        return 204, (TEXT,), b""
    if b"close" in query:
        return 200, (TEXT, (b"connection", b"close")), b"closing"
    seen = b",".join(value for name, value in headers if name == b"x-seen")
    return 200, (TEXT,), b"%b|%b|%b" % (query, seen, body)


class FastServer:
    """held: calls (of `?hold`) that wait for the test to answer them. records: what was logged."""

    def __init__(self, body_read_s: float = 60, **config: Any) -> None:
        self.held: queue.Queue[Call] = queue.Queue()
        self.records: list[logging.LogRecord] = []
        self.route = FastRoute(self._handle, BODY_LIMIT)
        self.heads = Heads()
        self.protocol = protocol_class(
            lambda method, path: self.route if (method, path) in FAST else None,
            refuse,
            body_read_s,
            heads=self.heads,
        )
        self.listening = serving.bind("127.0.0.1", 0)
        self.address = self.listening.getsockname()
        options: dict[str, Any] = {
            "server_header": False,
            "interface": "asgi3",
            "lifespan": "off",
            "ws": "none",
            "log_config": None,
        }
        options |= {"access_log": False, "timeout_graceful_shutdown": 5}
        self.uvicorn = serving._Server(uvicorn.Config(self._app, http=self.protocol, **(options | config)))
        self._thread = threading.Thread(target=lambda: uvloop.run(self._serve()), daemon=True)

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        await self.uvicorn._serve([self.listening])

    def _handle(self, call: Call) -> None:
        if call.query == b"hold":
            self.held.put(call)
        elif call.query == b"raise":
            raise ValueError("a handler's mistake")
        elif call.query == b"later":
            self.loop.call_later(0.01, lambda: call.answer(*echo(call.query, call.headers, call.body)))
        else:
            call.answer(*echo(call.query, call.headers, call.body))

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["query_string"] == b"raise":
            raise ValueError("an app's mistake")
        length = int(dict(scope["headers"]).get(b"content-length", 0))
        status, body, more = (413 if length > BODY_LIMIT else 0), b"", True
        while more and not status:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
            status = 413 if len(body) > BODY_LIMIT else 0
        if scope["query_string"] == b"later":
            await asyncio.sleep(0.01)
        said: Headers
        if status:
            refusal, answer = refuse(413, None)
            said = tuple(refusal)
        else:
            status, said, answer = echo(scope["query_string"], scope["headers"], body)
        length_header = [(b"content-length", b"%d" % len(answer))] if status != 204 else []
        headers = [*said, *length_header, *([(b"connection", b"close")] if status == 413 else [])]
        if (b"connection", b"close") in headers:  # uvicorn keeps the app's order; the fast way in says the length last
            headers = [h for h in headers if h[0] != b"content-length"] + length_header if status == 200 else headers
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    def start(self) -> "FastServer":
        handler = logging.Handler(logging.WARNING)
        handler.emit = self.records.append  # type: ignore[assignment, method-assign]  # a list is all it takes
        self._handler = handler
        logging.getLogger("uvicorn.error").addHandler(handler)
        self._thread.start()
        wait_until(lambda: self.uvicorn.started and bool(self.uvicorn.server_state.default_headers))
        return self

    def stop(self) -> None:
        self.uvicorn.should_exit = True
        self._thread.join(30)
        logging.getLogger("uvicorn.error").removeHandler(self._handler)
        assert not self._thread.is_alive()

    def tracebacks(self) -> list[str]:
        return [record.getMessage() for record in self.records if record.exc_info]

    def connect(self) -> "Client":
        return Client(socket.create_connection(self.address, timeout=30))

    def in_loop(self, function: Callable[..., Any], *args: Any) -> Any:
        """The result of a function called in the server's loop."""
        done: Future[Any] = Future()

        def call() -> None:
            try:
                done.set_result(function(*args))
            except Exception as error:
                done.set_exception(error)

        self.loop.call_soon_threadsafe(call)
        return done.result(30)


class Client:
    """A raw socket that reads answers one by one, interim ones too."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._bytes = b""

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self, has_body: bool = True) -> Answer:
        while b"\r\n\r\n" not in self._bytes:
            self._fill()
        head, self._bytes = self._bytes.split(b"\r\n\r\n", 1)
        first, *lines = head.decode().split("\r\n")
        headers = [(name, value) for name, value in (line.split(": ", 1) for line in lines) if name != "date"]
        length = int(dict(headers).get("content-length", 0)) if has_body else 0
        while len(self._bytes) < length:
            self._fill()
        body, self._bytes = self._bytes[:length], self._bytes[length:]
        version, status = first.split(" ")[:2]
        assert version == "HTTP/1.1"
        return int(status), headers, body

    def read_all(self) -> list[Answer]:
        """Until the server closes."""
        answers = []
        while not self.is_closed():
            answers.append(self.read())
        return answers

    def is_closed(self) -> bool:
        """Waits for a byte or the end."""
        try:
            if not self._bytes:
                self._bytes = self.socket.recv(65536)
        except ConnectionResetError:
            return True
        return not self._bytes

    def _fill(self) -> None:
        data = self.socket.recv(65536)
        assert data, f"closed in the middle of an answer: {self._bytes!r}"
        self._bytes += data


def wait_until(condition: Callable[[], bool], deadline_s: float = 30) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "did not come true in time"
        time.sleep(0.005)


@pytest.fixture(name="wait_until")
def _wait_until() -> Callable[..., None]:
    return wait_until


@pytest.fixture(scope="session")
def _fast_server() -> Iterator[FastServer]:
    server = FastServer().start()
    yield server
    server.stop()


@pytest.fixture
def fast_server(_fast_server: FastServer) -> FastServer:
    """Shared by the session; do not stop it."""
    _fast_server.records.clear()
    return _fast_server


@pytest.fixture
def start_fast_server() -> Iterator[Callable[..., FastServer]]:
    """Starts servers of the test's own, with uvicorn's settings and body_read_s."""
    servers: list[FastServer] = []

    def start(**settings: Any) -> FastServer:
        servers.append(FastServer(**settings).start())
        return servers[-1]

    yield start
    for server in servers:
        server.stop()
