"""How many threads one inference may use: the whole cores this process is allowed, not those the machine has.

ONNX Runtime takes every core of the node by default and then waits for a CPU quota it does not know of
(measured at a peer: 666 ms against 223 ms). A quota of 1.5 cores gives one thread: the second would
spend half of each period stopped, with the first waiting for it.
"""

import os
from pathlib import Path
from typing import Final

_ROOT: Final = Path("/sys/fs/cgroup")


def from_cpu_max(text: str) -> float | None:
    """Cores from cgroup v2's cpu.max (`quota period`, or `max period`); None means no limit or not readable."""
    fields = text.split()
    if len(fields) != 2 or fields[0] == "max":
        return None
    return from_quota(fields[0], fields[1])


def from_quota(quota: str, period: str) -> float | None:
    """Cores from cgroup v1's cpu.cfs_quota_us (-1: no limit) and cpu.cfs_period_us."""
    try:
        cores = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None
    return cores if cores > 0 else None


def cgroup_paths(proc_self_cgroup: str) -> tuple[str, str]:
    """This process's folders below the roots of cgroup v2 and of v1's cpu controller, "/" when not named."""
    unified, cpu = "/", "/"
    for line in proc_self_cgroup.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            unified = path
        elif "cpu" in controllers.split(","):
            cpu = path
    return unified, cpu


def allowed(limits: list[float | None], affinity: int) -> int:
    """Threads, at least 1: the smallest limit rounded down, never more than the cores the process may run on."""
    cores = min([limit for limit in limits if limit is not None], default=float(affinity))
    return max(1, min(int(cores), affinity))


def count(root: Path = _ROOT, proc: Path = Path("/proc/self/cgroup")) -> int:
    """Threads for this process, from its own cgroup and every one above it."""
    unified, cpu = cgroup_paths(_read(proc))
    limits: list[float | None] = []
    for folder in _upwards(root, unified):
        limits.append(from_cpu_max(_read(folder / "cpu.max")))
    for controller in ("cpu", "cpu,cpuacct"):
        for folder in _upwards(root / controller, cpu):
            limits.append(from_quota(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")))
    return allowed(limits, len(os.sched_getaffinity(0)))


def _upwards(root: Path, path: str) -> list[Path]:
    """A cgroup's folder and its ancestors up to root, which counts even when the path is another namespace's."""
    folder = root / path.strip("/")
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to(root))]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
