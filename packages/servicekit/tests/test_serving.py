"""A service refuses a taken port, and lets a request in flight finish when it is told to stop."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from conftest import take_free_port
from kingmaker_servicekit import serving

SLOW_APP = """
import asyncio, sys
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from kingmaker_servicekit import logs, serving

async def slow(request):
    print("inside", flush=True)
    await asyncio.sleep(0.2)
    return PlainTextResponse("finished")

logs.configure()
app = Starlette(routes=[Route("/slow", slow), Route("/", lambda r: PlainTextResponse("up"))])
try:
    sockets = [serving.bind("127.0.0.1", int(port)) for port in sys.argv[1:]]
except serving.PortTaken as error:
    sys.exit(str(error))
asyncio.run(serving.serve([serving.Listener(f"app{i}", app, sock) for i, sock in enumerate(sockets)]))
print("drained")
"""


def start(*ports: int) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_APP, *map(str, ports)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"http://127.0.0.1:{ports[-1]}/").status_code == 200:
                return process
        except httpx.TransportError:
            time.sleep(0.05)
    process.kill()
    raise AssertionError(process.communicate()[1])


def test_a_taken_port_is_refused_by_its_number() -> None:
    taken = serving.bind("127.0.0.1", 0)
    port = taken.getsockname()[1]
    with pytest.raises(serving.PortTaken, match=f"port {port} on 127.0.0.1 is taken by another process"):
        serving.bind("127.0.0.1", port)
    taken.close()


def test_port_0_takes_any_free_one() -> None:
    with serving.bind("127.0.0.1", 0) as sock:
        assert sock.getsockname()[1] > 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("others", [0, 1])
def test_a_request_in_flight_is_answered_after_the_signal(free_port: int, number: int, others: int) -> None:
    # an idle second listener is drained at once; that must not cut the first one short
    process = start(free_port, *(take_free_port() for _ in range(others)))
    with socket.create_connection(("127.0.0.1", free_port)) as sock:
        sock.sendall(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
        assert process.stdout is not None
        assert process.stdout.readline() == "inside\n"
        process.send_signal(number)
        sock.settimeout(20)
        answer = b""
        while b"finished" not in answer and (more := sock.recv(4096)):
            answer += more  # head and body may come apart
        assert b"finished" in answer
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out.strip()) == (0, "drained"), err


def test_both_ports_answer_and_both_close(free_port: int) -> None:
    other = take_free_port()
    process = start(free_port, other)
    assert [httpx.get(f"http://127.0.0.1:{port}/").text for port in (free_port, other)] == ["up", "up"]
    process.terminate()
    process.communicate(timeout=20)
    for port in (free_port, other):
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{port}/")


ORPHAN = """
import subprocess, sys, time
from pathlib import Path
from kingmaker_servicekit import child
process = child.start(["sleep", "60"], {"PATH": "/usr/bin:/bin"}, Path(sys.argv[1]))
print(process.pid, flush=True)
time.sleep(60)
"""


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_child_dies_with_its_killed_parent(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", ORPHAN, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert is_running(pid)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 20
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(pid)
