"""Stopping children is polite first, then certain."""

import os
import sys
from pathlib import Path

from kingmaker_servicekit import child

STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
)


def test_a_child_that_ignores_sigterm_is_killed_and_reaped(tmp_path: Path) -> None:
    log = tmp_path / "log"
    process = child.start([sys.executable, "-c", STUBBORN], dict(os.environ), log)
    while b"deaf" not in log.read_bytes():
        assert process.poll() is None
    child.stop([process], grace_s=0.1)
    assert process.returncode == -9


def test_a_child_that_already_ended_is_no_error(tmp_path: Path) -> None:
    process = child.start(["true"], dict(os.environ), tmp_path / "log")
    process.wait()
    child.stop([process])
    assert process.returncode == 0
