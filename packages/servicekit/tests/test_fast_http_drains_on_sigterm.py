"""A process told to stop answers the fast requests it has, and then ends with code 0."""

import signal
import socket
import subprocess
import sys

APP = """
import asyncio, sys
from starlette.applications import Starlette
from kingmaker_servicekit import fast_http, serving

def slow(call):
    print("inside", flush=True)
    asyncio.get_running_loop().call_later(0.2, call.answer, 200, ((b"content-type", b"text/plain"),), b"finished")

route = fast_http.FastRoute(slow, 1000)
http = fast_http.protocol_class(lambda method, path: route if path == b"/slow" else None, lambda *_: ([], b""))
sock = serving.bind("127.0.0.1", 0)
print(sock.getsockname()[1], flush=True)
asyncio.run(serving.serve([serving.Listener("app", Starlette(), sock, http=http)]))
print("drained")
"""


def test_a_fast_request_in_flight_is_answered_after_sigterm() -> None:
    process = subprocess.Popen([sys.executable, "-c", APP], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    port = int(process.stdout.readline())
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.sendall(b"GET /none HTTP/1.1\r\nhost: x\r\n\r\n")  # answered by ASGI: the server is up
        head = b""
        while not head.endswith(b"Not Found"):
            head += sock.recv(4096)
        sock.sendall(b"POST /slow HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
        assert process.stdout.readline() == "inside\n"
        process.send_signal(signal.SIGTERM)
        received = b""
        while data := sock.recv(4096):
            received += data
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nconnection: close\r\n" in received
    assert received.endswith(b"\r\n\r\nfinished")
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out.strip()) == (0, "drained"), err
