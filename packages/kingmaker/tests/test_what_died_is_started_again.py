"""A child that dies is started again with growing pauses, however often, and nothing of its last life is in the way."""

import os
import socket
import sys
import time
from pathlib import Path

from kingmaker.local.processes import Process
from kingmaker.local.stack import _Child
from tests import patience

WORKER = """
import socket
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
while True:
    listening.accept()
"""
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"


def test_one_that_died_a_thousand_times_is_still_started_again_after_the_longest_pause(tmp_path: Path) -> None:
    mortal = _Child(Process("mlflow", [sys.executable, "-c", ""], dict(os.environ), 0, ""), tmp_path / "log")
    mortal.process.wait(20)
    mortal.restarts = 1100  # nine hours of pauses
    said: list[str] = []
    before = time.monotonic()
    mortal.revive(said.append)
    assert said == [f"mlflow ended with code 0; starting it again in 30 s ({mortal.log})"]
    assert 29 < mortal.next_start - before < 60


def test_what_the_dead_one_left_behind_is_ended_before_it_is_started_again(tmp_path: Path) -> None:
    """MLflow's worker keeps the port, and nobody would stop it: it is the child of a child that was killed."""
    log = tmp_path / "log"
    parent = _Child(Process("mlflow", [sys.executable, "-c", PARENT, WORKER], dict(os.environ), 0, ""), log)
    port = int(patience.until(lambda: log.read_text().strip(), "the worker listens", 20, str))
    parent.process.kill()
    parent.process.wait(20)
    assert is_listening(port)
    parent.revive(lambda _: None)
    patience.until(lambda: not is_listening(port), "the worker is gone", 20, str)


def is_listening(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_one_that_cannot_be_started_right_now_is_tried_again(tmp_path: Path) -> None:
    """The machine may have no process to spare, or somebody tidied up the folder of logs."""
    log = tmp_path / "logs" / "mlflow.log"
    log.parent.mkdir()
    mortal = _Child(Process("mlflow", [sys.executable, "-c", ""], dict(os.environ), 0, ""), log)
    mortal.process.wait(20)
    first = mortal.process
    log.unlink()
    log.parent.rmdir()
    said: list[str] = []
    mortal.revive(said.append)
    mortal.next_start = time.monotonic()
    mortal.revive(said.append)
    assert said[-1] == f"mlflow cannot be started: {log}: no such file or directory; trying again in 1 s"
    assert mortal.process is first
    log.parent.mkdir()
    mortal.next_start = time.monotonic()
    mortal.revive(said.append)
    assert mortal.process is not first
    mortal.process.wait(20)
