"""One model-server process: started on a free port, watched, started again when it dies.

Readiness is what the server itself says. Once ready it stays so while it lives, unless it answers 503
or nothing at all for SILENT_S: on a busy machine a late answer is no reason to move traffic.
"""

import asyncio
import logging
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from kingmaker_controller.rollout.facts import Phase
from kingmaker_controller.runtimes.packages import inputs_of
from kingmaker_servicekit import child

logger = logging.getLogger(__name__)

READY_PATH: Final = "/v2/health/ready"
SILENT_S: Final = 10.0
STEADY_S: Final = 30.0
"""A server that lived this long starts its next life with the shortest wait."""
_LOOK_S: Final = 0.05
_PROBE_S: Final = 1.0
"""Between two probes of a ready server; one that is starting is asked every _LOOK_S * 2."""
_LOG_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits of first_s, doubled each time, up to last_s."""

    first_s: float
    last_s: float

    def wait_s(self, failures: int) -> float:
        return float(min(self.last_s, self.first_s * 2 ** min(failures, 20)))


@dataclass(frozen=True, slots=True)
class Server:
    """How one model server is started. env: the whole environment but its port; metadata: the path where it says what
    it takes, "" when a profile says it."""

    command: Sequence[str]
    env: Mapping[str, str]
    port_variable: str
    host: str
    log: Path
    metadata: str = ""


class Replica:
    """Owns one process at a time. `run` until cancelled, then `stop`."""

    def __init__(
        self,
        server: Server,
        http: httpx.AsyncClient,
        *,
        backoff: Backoff,
        on_change: Callable[[], None],
        on_death: Callable[[], None],
    ) -> None:
        self._server = server
        self._http = http
        self._backoff = backoff
        self._on_change = on_change
        self._on_death = on_death
        self._process: subprocess.Popen[bytes] | None = None
        self._endpoint = ""
        self._log_start = 0
        self._was_ready = False
        self.phase: Phase = "Starting"
        self.message = ""
        self.restarts = 0
        self.inputs: Mapping[str, str] = {}
        """Type by name, from the first life that said so: the version is the same in each."""

    @property
    def endpoint(self) -> str | None:
        """host:port while it is ready."""
        return self._endpoint if self.phase == "Ready" else None

    async def run(self) -> None:
        """Keep a process alive until this task is cancelled."""
        failures = 0
        while True:
            started = time.monotonic()
            self._was_ready = False
            try:
                code = await self._one_life()
                self._show("Failed", self._last_words(code))
            except OSError as error:
                self._show("Failed", f"cannot be started: {error}")
            if time.monotonic() - started > STEADY_S:
                failures = 0
            self.restarts += 1
            self._on_death()
            logger.warning("model server ended", extra={"endpoint": self._endpoint, "reason": self.message})
            await asyncio.sleep(self._backoff.wait_s(failures))
            failures += 1
            if self._was_ready:  # one that never got ready stays Failed, with its last words, until it does
                self._show("Starting", f"starts again; before, it was {self.message}")

    async def stop(self, grace_s: float) -> None:
        """SIGTERM, SIGKILL after grace_s, and reap."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
        deadline = time.monotonic() + grace_s
        while process.poll() is None and time.monotonic() < deadline:  # noqa: ASYNC110 - Popen has nothing to await
            await asyncio.sleep(_LOOK_S)
        if process.poll() is None:
            process.kill()
            process.wait()
        self._process = None

    async def _one_life(self) -> int:
        """Start, probe, watch; the exit code once it has ended."""
        port = _free_port(self._server.host)
        self._endpoint = f"{self._server.host}:{port}"
        _turn_over(self._server.log)
        self._log_start = _size(self._server.log)
        env = {**self._server.env, self._server.port_variable: str(port)}
        self._process = child.start(self._server.command, env, self._server.log)
        probed = answered = time.monotonic()
        while self._process.poll() is None:
            await asyncio.sleep(_LOOK_S)
            now = time.monotonic()
            if now - probed < (_PROBE_S if self.phase == "Ready" else 2 * _LOOK_S):
                continue
            probed = now
            is_ready = await self._probe()
            if is_ready is not None:
                answered = now
                self._was_ready = self._was_ready or is_ready
                if is_ready and self._server.metadata and not self.inputs:
                    self.inputs = await self._ask_for_inputs()
                if is_ready or self.phase == "Ready":
                    self._show("Ready" if is_ready else "Starting", "" if is_ready else "says it is not ready")
            elif self.phase == "Ready" and now - answered > SILENT_S and self._process.poll() is None:
                self._show("Starting", f"has not answered for {SILENT_S:g} s")
        return self._process.returncode

    async def _probe(self) -> bool | None:
        """What the server says of itself; None for no answer."""
        try:
            answer = await self._http.get(f"http://{self._endpoint}{READY_PATH}")
        except httpx.HTTPError:
            return None
        return answer.status_code == httpx.codes.OK

    async def _ask_for_inputs(self) -> Mapping[str, str]:
        """Nothing while it cannot be told: it is asked again with the next probe."""
        try:
            answer = await self._http.get(f"http://{self._endpoint}{self._server.metadata}")
            return inputs_of(answer.json())
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            logger.debug("inputs not told", extra={"endpoint": self._endpoint, "error": str(error)})
            return {}

    def _show(self, phase: Phase, message: str) -> None:
        if (phase, message) != (self.phase, self.message):
            self.phase, self.message = phase, message
            self._on_change()

    def _last_words(self, code: int) -> str:
        how = f"killed by signal {-code}" if code < 0 else f"ended with code {code}"
        try:
            with self._server.log.open("rb") as file:
                file.seek(self._log_start)
                lines = file.read().decode(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return f"{how}: {lines[-1][:300]}" if lines else how


def _free_port(host: str) -> int:
    """A port nobody listens on right now. Should somebody take it first, the server dies and gets another."""
    with socket.socket() as sock:
        sock.bind((host, 0))
        return int(sock.getsockname()[1])


def _size(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def _turn_over(log: Path) -> None:
    """Start a new log file once it is large; one old one is kept."""
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.rename(log.with_suffix(".log.old"))
