"""Child processes that never outlive their parent, not even when it is killed with SIGKILL.

Linux sends a child the signal it asked for when the thread that forked it ends (prctl,
PR_SET_PDEATHSIG), and the request survives exec; so start children from the main thread.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(number: int = signal.SIGKILL) -> Callable[[], None]:
    """A preexec function: the child gets signal `number` when this thread ends. It leaves the terminal's
    process group, so that Ctrl-C reaches the parent alone, which then stops its children in order."""
    parent = os.getpid()

    def prepare() -> None:
        os.setpgrp()
        _libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
        if os.getppid() != parent:  # the parent died before the request was made
            os._exit(1)

    return prepare


def start(
    command: Sequence[str], env: Mapping[str, str], log: Path | IO[bytes], death_signal: int = signal.SIGKILL
) -> subprocess.Popen[bytes]:
    """Start a child with its output appended to `log`. env: the whole environment."""
    output = log.open("ab") if isinstance(log, Path) else log
    try:
        return subprocess.Popen(
            list(command),
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=die_with_parent(death_signal),  # noqa: PLW1509 - before exec only prctl and setpgrp run
        )
    finally:
        if isinstance(log, Path):
            output.close()


def stop(processes: Sequence[subprocess.Popen[bytes]], grace_s: float = 3.0) -> None:
    """SIGTERM to all, then SIGKILL to those that are still there after grace_s; every one is reaped,
    and what is left of its process group goes with it."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + grace_s
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # what it started itself and left behind
