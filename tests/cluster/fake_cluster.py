"""A cluster in one test: fake API server and kubelet, real controllers, gateways and model servers as processes."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import redis

from conftest import Valkey, take_free_port
from tests.cluster.cluster import TOKEN
from tests.cluster.pods import Pods
from tests.cluster.registry import StandInRegistry
from tests.fakes.fake_apiserver import FakeApiserver, load_yaml
from tests.fakes.fake_apiserver.kubelet import Kubelet

ROOT = Path(__file__).parents[2]
IN_A_CLUSTER = Path(__file__).with_name("in_a_cluster.py")
NAMESPACE = "default"


class ControllerProcess:
    """A `Controller`. pid: for signals only processes can get."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid

    def kill(self) -> None:
        self._process.kill()

    def terminate(self) -> None:
        self._process.terminate()

    def ended(self, within_s: float) -> int | None:
        try:
            return self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"the controller still runs after {within_s:g} s") from None

    def is_running(self) -> bool:
        return self._process.poll() is None


class FakeCluster:
    """A `Cluster`, and its switches: `server.faults`, `pods.trouble`, `stop` and `start` of `valkey`."""

    namespace = NAMESPACE
    patience = 1.0

    def __init__(self, folder: Path, server: FakeApiserver, registry: Any, valkey: Valkey) -> None:
        self.folder, self.server, self.registry, self.valkey = folder, server, registry, valkey
        self.api = server.url
        self.redis: redis.Redis = valkey.client
        self.pods = Pods(folder / "pods", registry, server)
        self.kubeconfig = server.kubeconfig(folder / "kubeconfig")
        self.kubelet: Kubelet
        self._processes: list[subprocess.Popen[bytes]] = []
        (folder / "token").write_text(TOKEN)

    def start_controller(self, name: str, settings: dict[str, str]) -> ControllerProcess:
        chosen = {
            "KUBERNETES__IMAGE": "kingmaker-model-server:test",
            "KUBERNETES__KUBECONFIG": str(self.kubeconfig),
            "REGISTRY_URI": self.registry.uri,
            "REDIS_URL": self.valkey.url,
            "TOKEN_FILE": str(self.folder / "token"),
            "PORT": str(take_free_port()),
            **settings,
        }
        env = {f"KINGMAKER_CONTROLLER_{key}": value for key, value in chosen.items()}
        return ControllerProcess(self._start(["-m", "kingmaker_controller"], env, f"{name}.log"))

    def start_gateway(self) -> str:
        port = take_free_port()
        chosen = {
            "PORT": str(port),
            "ADMIN_PORT": str(take_free_port()),
            "REDIS_URL": self.valkey.url,
            "UPSTREAM__RESOLVE_MS": "200",
        }
        env = {f"KINGMAKER_GATEWAY_{key}": value for key, value in chosen.items()}
        env["CLUSTER"] = self.server.url
        self._start([str(IN_A_CLUSTER), "-m", "kingmaker_gateway"], env, "gateway.log")
        return f"http://127.0.0.1:{port}"

    def _start(self, arguments: list[str], env: dict[str, str], log: str) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("ab") as file:
            process = subprocess.Popen(
                [sys.executable, *arguments], env={**os.environ, **env}, stdout=file, stderr=file
            )
        self._processes.append(process)
        return process

    def logs(self) -> str:
        files = [*sorted(self.folder.glob("*.log")), *sorted(self.folder.glob("pods/*/*/log"))]
        return "\n".join(f"== {path.parent.name}/{path.name}\n{path.read_text()[-3000:]}" for path in files)

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def fake_cluster(folder: Path, runner: Any = None, registry: Any = None) -> Iterator[FakeCluster]:
    """Empty; controllers and gateway are not started. runner: of the pods, instead of processes; registry: one that
    runs, instead of a stand-in."""
    with contextlib.ExitStack() as stack:
        valkey = Valkey(folder, take_free_port())
        valkey.start()
        stack.callback(valkey.stop)
        server = stack.enter_context(FakeApiserver(load_yaml(ROOT / "deploy" / "k8s" / "crd"), port=0))
        if registry is None:
            registry = stack.enter_context(StandInRegistry(folder / "registry"))
        built = FakeCluster(folder, server, registry, valkey)
        label = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
        headers = {"content-type": "application/merge-patch+json"}
        url = f"{server.url}/api/v1/namespaces/{NAMESPACE}"
        httpx.patch(url, json=label, headers=headers, trust_env=False).raise_for_status()
        built.kubelet = stack.enter_context(Kubelet(server.cluster, runner or built.pods))
        stack.callback(built.close)
        yield built
