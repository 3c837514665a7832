"""A server that stops answers once more on idle connections, says that it was the last time, and closes them."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

APP = """
import asyncio, logging, sys
from starlette.applications import Starlette
from kingmaker_servicekit import fast_http, serving

logging.basicConfig(level="INFO")

def quick(call):
    call.answer(200, ((b"content-type", b"text/plain"),), b"quick")

def slow(call):
    asyncio.get_running_loop().call_later(0.05, quick, call)

routes = {b"/quick": fast_http.FastRoute(quick, 1000), b"/slow": fast_http.FastRoute(slow, 1000)}
http = fast_http.protocol_class(lambda _, path: routes.get(path), lambda *_: ([], b""), last_call_s=float(sys.argv[1]))
sock = serving.bind("127.0.0.1", 0)
print(sock.getsockname()[1], flush=True)
asyncio.run(serving.serve([serving.Listener("app", Starlette(), sock, http=http)], 30))
"""
NONE = b"GET /none HTTP/1.1\r\nhost: x\r\n\r\n"


class Server:
    def __init__(self, last_call_s: float) -> None:
        command = [sys.executable, "-c", APP, str(last_call_s)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def connect(self) -> socket.socket:
        """A connection that was used before, and is idle now."""
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        sock.sendall(NONE)
        assert b"connection: close" not in read_answer(sock)
        return sock

    def stop(self) -> None:
        """Told to stop, and it has heard."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.stderr is not None
        while "Shutting down" not in (line := self.process.stderr.readline()):
            assert line, "the server ended"


@pytest.fixture
def patient() -> Iterator[Server]:
    server = Server(last_call_s=20)
    yield server
    server.process.kill()
    server.process.communicate()


def read_answer(sock: socket.socket) -> bytes:
    raw = b""
    while b"\r\n\r\n" not in raw:
        more = sock.recv(4096)
        assert more, f"closed after {raw!r}"
        raw += more
    head, _, body = raw.partition(b"\r\n\r\n")
    [length] = [int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
    while len(body) < length:
        body += sock.recv(4096)
    return head.lower()


@pytest.mark.parametrize("path", ["quick", "slow", "none"])
def test_a_request_that_comes_late_is_answered_and_told_it_was_the_last(patient: Server, path: str) -> None:
    """Answered at once, later, or by ASGI."""
    with patient.connect() as late, patient.connect() as half:
        half.sendall(b"POST /quick HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{")
        patient.stop()
        late.sendall(f"POST /{path} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n".encode())
        assert b"\r\nconnection: close" in read_answer(late)
        assert late.recv(1) == b""
        half.sendall(b"}")
        assert b"\r\nconnection: close" in read_answer(half), "one that had begun is waited for"
    assert patient.process.wait(20) == 0


def test_who_sends_nothing_is_closed_in_the_end() -> None:
    server = Server(last_call_s=0.1)
    with server.connect() as silent:
        server.process.send_signal(signal.SIGTERM)
        assert silent.recv(1) == b""
    server.process.communicate(timeout=20)
    assert server.process.returncode == 0


def test_a_second_signal_does_not_wait_for_the_last_call(patient: Server) -> None:
    with patient.connect():
        patient.stop()
        patient.process.send_signal(signal.SIGTERM)
        patient.process.communicate(timeout=20)
