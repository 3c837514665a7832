"""A `kingmaker up` process, as a person would start it, and how tests talk to it."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from conftest import take_free_port

RESOURCE = """\
apiVersion: kingmaker.dev/v1alpha1
kind: ServedModel
metadata: {name: loans}
spec:
  limits: {deadlineMilliseconds: 8000}   # a busy machine is no reason for a 504
  champion: {name: old, model: "models:/loans@champion"}
  challengers:
    - {name: new, model: "models:/loans@challenger", mirrorPercent: 100}   # sees everything
  weights: {new: 20}
  overrides: Allowed
"""
ROW = {"income": 4.0, "debt": 1.0}


class RunningStack:
    """A `kingmaker up` process and how to talk to it."""

    def __init__(self, file: Path, env: dict[str, str]) -> None:
        self.file, self._env = file, env
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kingmaker", "up", str(file), "--port-base", str(take_free_port(row=6))],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output = ""

    def wait_until_up(self, patience_s: float = 90) -> None:
        assert self.process.stdout is not None
        deadline = time.monotonic() + patience_s
        for line in self.process.stdout:
            self.output += line
            if "Ctrl-C stops everything" in line:
                break
            assert time.monotonic() < deadline, self.output
        assert self.process.poll() is None, self.output
        description = json.loads((self.file.parent / ".kingmaker" / "stack.json").read_text())
        self.addresses: dict[str, str] = description["addresses"]
        self.client = httpx.Client(base_url=self.addresses["gateway"], timeout=10)

    def kingmaker(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "kingmaker", *arguments],
            env=self._env,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def view(self) -> dict[str, Any]:
        shown = self.kingmaker("get", "loans", "-o", "json")
        assert shown.returncode == 0, shown.stderr
        view: dict[str, Any] = json.loads(shown.stdout)[0]
        return view

    def predict(self, **headers: str) -> httpx.Response:
        return self.client.post("/v1/models/loans:predict", json={"instances": [ROW]}, headers=headers)

    def evidence(self) -> dict[str, Any]:
        answer = httpx.get(self.addresses["monitor"] + "/api/models/loans", timeout=10).raise_for_status()
        evidence: dict[str, Any] = answer.json()
        return evidence

    def pids(self, pattern: str) -> list[int]:
        """Processes whose command line holds `pattern` and that belong to this stack: its folder is in their
        arguments, their environment, or is where they work (Valkey writes over the other two)."""
        folder = str(self.file.parent)
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                about = line + (entry / "environ").read_text(errors="replace") + str((entry / "cwd").readlink())
                if pattern in line and folder in about:
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.output += self.process.communicate(timeout=30)[0]


def eventually(probe: Callable[[], Any], patience_s: float = 30) -> Any:
    """The first true value of probe; its last one fails the test. A service that does not answer yet is none."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            value = probe()
        except httpx.HTTPError as error:
            value, shown = None, repr(error)
        else:
            shown = repr(value)
        if value:
            return value
        assert time.monotonic() < deadline, f"still {shown} after {patience_s} s"
        time.sleep(0.05)
