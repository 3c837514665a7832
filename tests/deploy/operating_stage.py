"""A cluster for the page docs/operating.md.

helm and kubectl are real, the API server is the fake one, and what the chart deploys as controller and gateway runs as
processes with the settings their manifests name. Addresses of Redis, registry and API server, and files, are those of
this machine, and there is one pod of each service: two are more processes than a test needs.
"""

import copy
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from conftest import Valkey, take_free_port
from tests.cluster.pods import Pods
from tests.cluster.registry import StandInRegistry
from tests.fakes.fake_apiserver import FakeApiserver, load_yaml
from tests.fakes.fake_apiserver.kubelet import Kubelet, Pretend

ROOT = Path(__file__).parents[2]
RUN = ("controller", "gateway", "model-server")


_HELM = """#!/bin/sh
case "$1" in
install) shift; exec {helm} install --set controller.replicas=1,gateway.replicas=1 "$@" ;;
*) exec {helm} "$@" ;;
esac
"""


class Runner:
    """Runs controllers, gateways and model servers as their manifests say; everything else is only said to run."""

    def __init__(self, folder: Path, server: FakeApiserver, registry: StandInRegistry, redis_url: str) -> None:
        self._pods = Pods(folder / "pods", registry, server)
        self._places = {"REDIS_URL": redis_url, "REGISTRY_URI": registry.uri}

    def start(self, pod: dict[str, Any]) -> Any:
        if pod["metadata"].get("labels", {}).get("app.kubernetes.io/component") not in RUN:
            return Pretend()
        moved = copy.deepcopy(pod)
        for container in moved["spec"]["containers"]:
            container["env"] = [self._moved(item) for item in container.get("env") or [] if "value" in item]
        return self._pods.start(moved)

    def _moved(self, item: dict[str, str]) -> dict[str, str]:
        name = item["name"].removeprefix("KINGMAKER_CONTROLLER_").removeprefix("KINGMAKER_GATEWAY_")
        return {**item, "value": self._places.get(name, item["value"])}


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
