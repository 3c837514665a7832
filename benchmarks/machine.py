"""The machine a result was taken on, and the versions that took part."""

import os
import platform
import subprocess
import sysconfig
from importlib.metadata import version
from pathlib import Path
from typing import Final

from benchmarks.folders import REPOSITORY
from benchmarks.tools import Tools

_LIBRARIES: Final = (
    "onnxruntime", "numpy", "uvicorn", "uvloop", "httptools", "msgspec", "fastapi", "pydantic", "httpx", "redis"
)  # fmt: skip


def describe() -> dict[str, str]:
    """For people; nothing is computed from it."""
    cpu = _first("/proc/cpuinfo", "model name")
    memory_kb = int(_first("/proc/meminfo", "MemTotal").split()[0])
    return {
        "processor": cpu,
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory_kb / 1024 / 1024:.0f} GiB",
        "virtual": "yes" if "hypervisor" in _first("/proc/cpuinfo", "flags").split() else "no",
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_version()}, {_build()}",
        "load before": f"{os.getloadavg()[0]:.2f}",
        "commit": _commit(),
    }


def versions(tools: Tools) -> dict[str, str]:
    return {name: tool.version for name, tool in sorted(tools.found.items())} | {n: version(n) for n in _LIBRARIES}


def _first(file: str, field: str) -> str:
    for line in Path(file).read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return "unknown"


def _commit() -> str:
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    return told.stdout.strip() or "unknown"


def _build() -> str:
    """How the interpreter of all Python stacks was made: it is worth a tenth to a fifth of their time."""
    arguments = (sysconfig.get_config_var("CONFIG_ARGS") or "").replace("'", "").split()
    is_optimised = {"--enable-optimizations", "--prefix=/usr"} & {*arguments}  # scripts/interpreter has the reasons
    return "built with optimisations" if is_optimised else "built without optimisations"
