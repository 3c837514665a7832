"""A cluster for the page docs/operating.md.

helm and kubectl are real, the API server is the fake one, and what the chart deploys as controller and gateway runs as
processes with the settings their manifests name. Addresses of Redis, registry and API server, and files, are those of
this machine, and there is one pod of each service: two are more processes than a test needs.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from conftest import Valkey, take_free_port
from kingmaker_servicekit import child
from tests.cluster.pods import Pods
from tests.cluster.registry import StandInRegistry
from tests.fakes.fake_apiserver import FakeApiserver, load_yaml
from tests.fakes.fake_apiserver.kubelet import Kubelet, Pretend

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "tests/cluster"


_HELM = """#!/bin/sh
case "$1" in
install) shift; exec {helm} install --set controller.replicas=1,gateway.replicas=1 "$@" ;;
*) exec {helm} "$@" ;;
esac
"""


class Process:
    """A pod's one process. ready: whether its readiness probe passes."""

    def __init__(self, command: list[str], env: dict[str, str], log: Path, ready: Callable[[], bool]) -> None:
        self._ready = ready
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                command, env=env, stdout=file, stderr=file, preexec_fn=child.die_with_parent()  # noqa: PLW1509
            )  # fmt: skip

    def is_ready(self) -> bool:
        return self._process.poll() is None and self._ready()

    def trouble(self) -> tuple[str, str] | None:
        return None if self._process.poll() is None else ("CrashLoopBackOff", f"ended with {self._process.returncode}")

    def stop(self, grace_s: float) -> None:
        child.stop([self._process], min(grace_s, 8.0))


class Runner:
    """Runs model servers, controllers and gateways; everything else is only said to run."""

    def __init__(self, folder: Path, server: FakeApiserver, registry: StandInRegistry, redis_url: str) -> None:
        self._folder = folder
        self._cluster_url = server.url
        self._models = Pods(folder / "pods", registry.folder)
        (folder / "token").write_text("t0ken")
        self._here = {
            "REDIS_URL": redis_url,
            "REGISTRY_URI": registry.uri,
            "TOKEN_FILE": str(folder / "token"),
            "KUBERNETES__KUBECONFIG": str(server.kubeconfig(folder / "inside")),
        }

    def start(self, pod: dict[str, Any]) -> Any:
        component = pod["metadata"]["labels"].get("app.kubernetes.io/component")
        if component == "model-server":
            return self._models.start(pod)
        if component == "controller":
            return self._service(pod, "KINGMAKER_CONTROLLER_", ["-m", "kingmaker_controller"], 8083)
        if component == "gateway":
            program = [str(CLUSTER / "gateway_in_a_cluster.py")]
            return self._service(pod, "KINGMAKER_GATEWAY_", program, 8081)
        return Pretend()

    def _service(self, pod: dict[str, Any], prefix: str, program: list[str], port: int) -> Process:
        name, address = pod["metadata"]["name"], pod["status"]["podIP"]
        told = {item["name"]: item["value"] for item in pod["spec"]["containers"][0]["env"] if "value" in item}
        env = {**os.environ, **told, f"{prefix}HOST": address, "CLUSTER": self._cluster_url}
        env |= {prefix + key: value for key, value in self._here.items() if prefix + key in told}
        if is_controller := prefix == "KINGMAKER_CONTROLLER_":
            env |= {f"{prefix}KUBERNETES__KUBECONFIG": self._here["KUBERNETES__KUBECONFIG"]}
            env |= {f"{prefix}KUBERNETES__HOLDER": name}
        if not is_controller:
            env |= {f"{prefix}SNAPSHOT_FILE": str(self._folder / f"{name}.json"), f"{prefix}GATEWAY_ID": name}
        url = f"http://{address}:{port}/health/ready"
        return Process([sys.executable, *program], env, self._folder / f"{name}.log", lambda: _is_ok(url))


def _is_ok(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


class Terminal:
    """Where an operator types: a folder with the repository's deploy/ in it, and the programs on the path."""

    def __init__(self, folder: Path, kubeconfig: Path, kubectl: Path) -> None:
        self.folder = folder
        programs = folder / "bin"
        programs.mkdir(parents=True)
        (folder / "deploy").symlink_to(ROOT / "deploy")
        helm = subprocess.run([ROOT / "scripts/helm"], capture_output=True, text=True, check=True).stdout.split()[0]
        (programs / "helm").write_text(_HELM.format(helm=helm))
        (programs / "helm").chmod(0o755)
        (programs / "kubectl").symlink_to(kubectl)
        for name in ("kubectl-kingmaker", "kingmaker"):
            (programs / name).symlink_to(ROOT / ".venv/bin" / name)
        self._env = {"PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(folder), "KUBECONFIG": str(kubeconfig)}

    def types(self, shell: str, seconds: float = 150) -> tuple[int, str]:
        """Exit code, and everything that was printed. Ends at the first command that fails."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", shell], cwd=self.folder, env=self._env, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=seconds, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout


@contextmanager
def a_terminal(folder: Path, kubectl: Path) -> Iterator[Terminal]:
    """An empty cluster, and a terminal in front of it."""
    with ExitStack() as stack:
        redis = Valkey(folder, take_free_port())
        redis.start()
        stack.callback(redis.stop)
        server = stack.enter_context(FakeApiserver(load_yaml(ROOT / "deploy/k8s/crd")))
        registry = stack.enter_context(StandInRegistry(folder / "registry"))
        runner = Runner(folder, server, registry, redis.url)
        stack.enter_context(Kubelet(server.cluster, runner))
        terminal = Terminal(folder / "desk", server.kubeconfig(folder / "outside"), kubectl)
        yield terminal
