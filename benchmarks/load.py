"""Closed-loop load by wrk, with answers checked while it runs.

Checking in Lua makes wrk a third slower, which a fast server would feel. So fifteen
of sixteen connections only count statuses, and every sixteenth is checked answer by answer by a second wrk beside
the first: its rows travel in the same batches as everybody's. It pauses a millisecond after each answer, because
two busy programs on one core take turns of milliseconds, and the first one's p99 would show them.
"""

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.lab import Server, wait_for_rest
from benchmarks.tools import Tool

SCRIPT: Final = Path(__file__).with_name("load.lua")
_MARK: Final = "RESULT "
_CHECKED_SHARE: Final = 16
_CHECKED_PAUSE_MS: Final = 1
_REST_S: Final = 20.0


class BadLoad(RuntimeError):
    """wrk said something that is no result, or a server did not come to rest."""


class Counted(msgspec.Struct, frozen=True):
    """What one wrk saw. not_2xx: answers with status above 399; socket_errors: connections lost, refused, timed out."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    not_2xx: int
    socket_errors: int
    checked: int
    wrong: int
    first_wrong: str = ""


class Sample(msgspec.Struct, frozen=True):
    """One run against one stack. cpu_us: processor time per request by server; failed: no 2xx or no answer;
    wrong: checked answers that differ from ONNX Runtime's."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    requests: int
    checked: int
    wrong: int
    failed: int
    cpu_us: dict[str, float]
    first_wrong: str = ""

    @property
    def total_cpu_us(self) -> float:
        return sum(self.cpu_us.values())


@dataclass(slots=True, frozen=True)
class Target:
    """What to load. pool: the Lua file of bodies and right answers; by_id: answers carry their request's id;
    servers: whose processor time is counted."""

    url: str
    pool: Path
    servers: Sequence[Server]
    by_id: bool = True
    more_urls: Sequence[str] = ()


def parse(output: str) -> Counted:
    """wrk's output into numbers. Raises BadLoad."""
    lines = [line for line in output.splitlines() if line.startswith(_MARK)]
    if len(lines) != 1:
        raise BadLoad(f"wrk gave {len(lines)} results: {output[-300:]!r}")
    try:
        return msgspec.json.decode(lines[0].removeprefix(_MARK), type=Counted)
    except msgspec.DecodeError as error:
        raise BadLoad(f"wrk's result: {error}") from None


def shares(connections: int) -> tuple[int, int]:
    """How many connections only count, and how many check; at least one checks."""
    checking = max(1, connections // _CHECKED_SHARE)
    return connections - checking, checking


def joined(parts: Sequence[Counted], cpu_s: Mapping[str, float]) -> Sample:
    """One sample of all generators together; latencies are those of the one that carried the most requests."""
    largest = max(parts, key=lambda part: part.requests)
    requests = sum(part.requests for part in parts)
    return Sample(
        requests_per_s=sum(part.requests / part.seconds for part in parts),
        p50_ms=largest.p50_ms,
        p99_ms=largest.p99_ms,
        requests=requests,
        checked=sum(part.checked for part in parts),
        wrong=sum(part.wrong for part in parts),
        failed=sum(part.not_2xx + part.socket_errors for part in parts),
        cpu_us={name: spent / max(1, requests) * 1e6 for name, spent in cpu_s.items()},
        first_wrong=next((part.first_wrong for part in parts if part.first_wrong), ""),
    )


class Generator:
    """Runs wrk on the load generator's core."""

    def __init__(self, wrk: Tool, core: int) -> None:
        self._wrk = wrk
        self._core = core

    def run(self, target: Target, connections: int, seconds: int, think_ms: int = 0) -> Sample:
        """Load all URLs of a target alike for whole seconds, and come back when its servers are at rest: wrk leaves
        without the answers it still waited for, and whoever comes next on that core must not wait for them to be made.
        Raises BadLoad."""
        urls = [target.url, *target.more_urls]
        counting, checking = shares(max(1, connections // len(urls)))
        before = _cpu(target.servers)
        running: list[subprocess.Popen[str]] = []
        try:
            for number, url in enumerate(urls):
                for many, check in ((counting, False), (checking, True)):
                    if many:
                        pause_ms = max(think_ms, _CHECKED_PAUSE_MS) if check and counting else think_ms
                        offset = number * 31 + 128 * check
                        running.append(self._start(url, target, many, seconds, pause_ms, check=check, offset=offset))
            outputs = [process.communicate(timeout=seconds + 30)[0] for process in running]
        finally:
            for process in running:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        after = _cpu(target.servers)
        if not wait_for_rest(target.servers, _REST_S):
            names = ", ".join(sorted({server.name for server in target.servers}))
            raise BadLoad(f"{names}: still busy {_REST_S:g} s after the load has ended")
        return joined([parse(output) for output in outputs], {name: after[name] - before[name] for name in after})

    def _start(
        self, url: str, target: Target, connections: int, seconds: int, think_ms: int, *, check: bool, offset: int
    ) -> "subprocess.Popen[str]":
        command = ["taskset", "-c", str(self._core), str(self._wrk.path), "-t1", f"-c{connections}", f"-d{seconds}s"]
        env = {**os.environ, **self._wrk.env, "POOL": str(target.pool), "THINK_MS": str(think_ms)}
        env |= {"CHECK": str(int(check)), "BY_ID": str(int(target.by_id)), "OFFSET": str(offset % 256)}
        return subprocess.Popen(
            [*command, "--timeout", "5s", "-s", str(SCRIPT), url],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def _cpu(servers: Sequence[Server]) -> dict[str, float]:
    """Processor seconds by name; servers of one name are one line."""
    spent: dict[str, float] = {}
    for server in servers:
        spent[server.name] = spent.get(server.name, 0.0) + server.cpu_s()
    return spent
