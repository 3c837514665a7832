"""Pods as processes: fetch step and model server run as their manifests say, each pod on an address of its own."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx

from kingmaker_servicekit import child

FETCH = Path(__file__).with_name("stand_in_fetch.py")
PRE_STOP_S = 2.0
"""How long a pod stays after it was marked for removal, in place of the manifest's 15 s: lookups are faster here."""


class Pod:
    """One pod's processes. Its volumes are folders; `/models` in its manifest means one of them."""

    def __init__(self, folder: Path, manifest: dict[str, Any], registry: Path) -> None:
        self.folder, self._manifest, self._registry = folder, manifest, registry
        self.address = f"{manifest['status']['podIP']}:8080"
        self._failed: tuple[str, int, str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = threading.Event()
        folder.mkdir(parents=True)
        (folder / "models").mkdir()
        threading.Thread(target=self._run, daemon=True).start()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def _run(self) -> None:
        while not self._stopped.is_set() and not self._fetch():
            self._stopped.wait(0.5)
        while not self._stopped.is_set():
            self._serve()
            self._stopped.wait(0.5)

    def _fetch(self) -> bool:
        container = self._manifest["spec"]["initContainers"][0]
        report = self.folder / "termination-log"
        assert container["command"] == ["python", "-m", "kingmaker_model_server.fetch"]
        arguments = [self._here(text) for text in container["args"]]
        env = {**os.environ, "STAND_IN_REGISTRY": str(self._registry)}
        command = [sys.executable, str(FETCH), *arguments]
        done = subprocess.run(command, env=env, capture_output=True, check=False)
        self._failed = ("fetch", done.returncode, report.read_text()) if done.returncode else None
        return done.returncode == 0

    def _serve(self) -> None:
        container = self._manifest["spec"]["containers"][0]
        assert container["command"] == ["python", "-m", "kingmaker_model_server"]
        env = {**os.environ, **{item["name"]: self._here(item["value"]) for item in container["env"]}}
        env["KINGMAKER_MODEL_SERVER_HOST"] = self.address.partition(":")[0]  # its own network, here one address of it
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, *container["command"][1:]], env=env, stdout=log, stderr=log,
                preexec_fn=child.die_with_parent(),  # noqa: PLW1509
            )  # fmt: skip
        self._process.wait()

    def _here(self, text: str) -> str:
        report = str(self.folder / "termination-log")
        return text.replace("/models", str(self.folder / "models")).replace("/dev/termination-log", report)

    def is_ready(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            return False
        try:
            return httpx.get(f"http://{self.address}/v2/health/ready", timeout=2, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def trouble(self) -> tuple[str, str] | None:
        return None

    def failed(self) -> tuple[str, int, str] | None:
        return self._failed

    def stop(self, grace_s: float) -> None:
        if grace_s:
            time.sleep(PRE_STOP_S)
        self._stopped.set()
        if self._process is not None:
            child.stop([self._process], min(grace_s, 8.0))


class Pods:
    """A `Runner` of the fake kubelet. hold: variants whose pods are not started; trouble: what they wait for."""

    def __init__(self, folder: Path, registry: Path) -> None:
        self._folder, self._registry = folder, registry
        self.started: list[Pod] = []
        self.trouble: dict[str, tuple[str, str]] = {}

    def start(self, manifest: dict[str, Any]) -> Any:
        variant = manifest["metadata"]["labels"]["kingmaker.dev/variant"]
        if variant in self.trouble:
            return Waiting(self.trouble, variant)
        pod = Pod(self._folder / manifest["metadata"]["name"], manifest, self._registry)
        self.started.append(pod)
        return pod


class Waiting:
    """A pod that cannot be started."""

    def __init__(self, trouble: dict[str, tuple[str, str]], variant: str) -> None:
        self._trouble, self._variant = trouble, variant

    def is_ready(self) -> bool:
        return False

    def trouble(self) -> tuple[str, str] | None:
        return self._trouble.get(self._variant, ("Gone", "the trouble is over, but this pod is not started again"))

    def stop(self, grace_s: float) -> None:
        """Nothing runs."""
