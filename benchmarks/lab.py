"""The processes of one measurement: pinned, watched, and stopped whatever happens.

Cores come from this process's own affinity, so the benchmark can itself be confined. Each child dies with
this process; leaving the `with` block stops all, also on Ctrl-C and SIGTERM.
"""

import contextlib
import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final

import psutil

from benchmarks import folders
from kingmaker_servicekit import child

HOST: Final = "127.0.0.1"
_READY_S: Final = 90.0
_LOOK_S: Final = 0.01
_AT_REST: Final = 0.2
"""Of a core, and less: what a server uses that nobody asks anything, its timers and flushes."""
_QUIET_LOOKS: Final = 2
_PORTS: Final = iter(random.sample(range(16384, 32768), 8192))
_ONE_THREAD: Final = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}


class NotReady(RuntimeError):
    """A server that did not come up; the text has the end of its log."""


@dataclass(slots=True)
class Server:
    """One started process and what it has started itself. ready_s: from exec to its first good answer;
    admin_port: where it tells its metrics, if it does."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    started: float
    ready_s: float | None = None
    admin_port: int | None = None

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def cpu_s(self) -> float:
        """Processor time of the process and all its descendants, by the kernel's own clock: exact once they sleep,
        as of the last tick while they run. /proc counts hundredths of a second."""
        return sum(_spent_s(process.pid) for process in self._tree())

    def kernel_s(self) -> float:
        """stime of the same."""
        return sum(p.cpu_times().system for p in self._tree())

    def rss_mb(self) -> float:
        return sum(p.memory_info().rss for p in self._tree()) / 1e6

    def is_at_work(self) -> bool:
        """Whether a thread of theirs has a core, or waits for one."""
        return any(_is_at_work(process.pid) for process in self._tree())

    def _tree(self) -> list[psutil.Process]:
        top = psutil.Process(self.process.pid)
        return [top, *top.children(recursive=True)]

    @contextlib.contextmanager
    def hung(self) -> Iterator[None]:
        """Alive, its port open, and silent: what a deadlock looks like from outside."""
        tree = self._tree()
        for process in tree:
            process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for process in tree:
                process.send_signal(signal.SIGCONT)


def _spent_s(pid: int) -> float:
    """0 for a process that has just ended. See clock_getcpuclockid(3)."""
    clock = ctypes.c_int()
    if ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock)) != 0:
        return 0.0
    try:
        return time.clock_gettime(clock.value)
    except OSError:
        return 0.0


def _is_at_work(pid: int) -> bool:
    """No for a process that has just ended. See proc_pid_stat(5)."""
    for stat in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            if stat.read_text().rpartition(") ")[2][0] in "RD":
                return True
    return False


def wait_for_rest(servers: Sequence[Server], timeout_s: float) -> bool:
    """Until these have worked off what they were asked; False when they are busy still.

    Two looks in a row must find nobody at work and next to no processor time spent since the one before. Time alone
    says too little: one who waits for a core spends none.
    """
    deadline = time.monotonic() + timeout_s
    at, spent = time.monotonic(), sum(server.cpu_s() for server in servers)
    quiet = 0
    while at < deadline:
        time.sleep(_LOOK_S)
        is_at_work = any(server.is_at_work() for server in servers)
        now, total = time.monotonic(), sum(server.cpu_s() for server in servers)
        quiet = quiet + 1 if not is_at_work and total - spent < _AT_REST * (now - at) else 0
        if quiet == _QUIET_LOOKS:
            return True
        at, spent = now, total
    return False


def cores() -> tuple[int, int]:
    """One core for the servers and one for the load. Raises RuntimeError on a machine with one."""
    own = sorted(os.sched_getaffinity(0))
    if len(own) < 2:
        raise RuntimeError("benchmarks need two cores: one for the servers, one for the load generator")
    if shutil.which("taskset") is None:
        raise RuntimeError("benchmarks need taskset: apt-get install util-linux")
    return own[0], own[1]


def free_port() -> int:
    """Below those that the kernel gives to any connection made before ours is used. Raises RuntimeError without one."""
    for port in _PORTS:
        with socket.socket() as sock, contextlib.suppress(OSError):
            sock.bind((HOST, port))
            return port
    raise RuntimeError("no free port below 32768")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours without settings meant for another stack; one thread a maths library for everybody."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("KINGMAKER_")}
    own.pop("PYTHONDONTWRITEBYTECODE", None)
    return own | _ONE_THREAD | dict(extra or {})


class Lab:
    """Owns the servers of one section."""

    def __init__(self, name: str) -> None:
        self.server_core, self.load_core = cores()
        self.folder = folders.RUN / name
        self._servers: list[Server] = []

    def __enter__(self) -> "Lab":
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop(self._servers)

    def start(
        self,
        name: str,
        command: Sequence[str],
        port: int,
        *,
        core: int | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> Server:
        """Start a server on a core, the servers' unless told. Names need not be unique."""
        chosen = self.server_core if core is None else core
        log = self.folder / f"{len(self._servers):02}-{name}.log"
        full = ["taskset", "-c", str(chosen)]
        if cwd is not None:
            full += ["env", f"--chdir={cwd}"]
        began = time.monotonic()
        server = Server(name, child.start([*full, *command], environment(env), log), port, began)
        self._servers.append(server)
        return server

    def wait(self, server: Server, path: str, *, body: bytes | None = None, timeout_s: float = _READY_S) -> None:
        """Until `path` answers 200 (a POST of `body`, if given); "" waits for the open port. Raises NotReady."""
        deadline = time.monotonic() + timeout_s
        while not (_is_open(server.port) if path == "" else _answers(f"http://{server.address}{path}", body)):
            if server.process.poll() is not None or time.monotonic() > deadline:
                raise NotReady(f"{server.name} is not ready: {self._log_end(server)}")
            time.sleep(0.02)
        if server.ready_s is None:
            server.ready_s = time.monotonic() - server.started

    def stop(self, servers: Sequence[Server]) -> None:
        child.stop([server.process for server in reversed(servers)], grace_s=5)
        self._servers = [server for server in self._servers if server not in servers]

    def footprint(self) -> list[dict[str, float | str | None]]:
        """What every running server weighs, and how long it took to be ready."""
        return [
            {"server": s.name, "rss_mb": round(s.rss_mb(), 1), "ready_s": s.ready_s and round(s.ready_s, 2)}
            for s in self._servers
        ]

    def _log_end(self, server: Server) -> str:
        logs = sorted(self.folder.glob(f"*-{server.name}.log"))
        lines = logs[-1].read_text(errors="replace").splitlines() if logs else []
        return " | ".join(lines[-6:]) or "it said nothing"


def _is_open(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex((HOST, port)) == 0


def _answers(url: str, body: bytes | None) -> bool:
    request = urllib.request.Request(url, data=body, headers={"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
