"""Whatever a kubeconfig leads to: a namespace of its own is made there, filled, and removed at the end.

Everything goes through kubectl's own login: `kubectl proxy` is the API, `kubectl port-forward` the way to pods. Where
pods can be reached by their addresses (`reach="pods"`), nothing is forwarded.
"""

import contextlib
import os
import re
import secrets
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import redis
import yaml

from tests.cluster import objects
from tests.cluster.cluster import TOKEN
from tests.cluster.mlflow_registry import MlflowRegistry, wait_ready
from tests.cluster.objects import GATEWAY, MLFLOW, PORTS, REDIS, Images

ROOT = Path(__file__).parents[2]
CRD = ROOT / "deploy" / "k8s" / "crd" / "servedmodels.kingmaker.dev.yaml"
REMOVED_S = 300.0
MERGE = {"content-type": "application/merge-patch+json"}


@dataclass(frozen=True, slots=True)
class Target:
    """reach: "port-forward", or "pods" where this machine has a way to their addresses; patience_s: the longest a pod
    may take to be ready, its image included."""

    kubeconfig: Path
    images: Images
    reach: str = "port-forward"
    patience_s: float = 300.0

    @classmethod
    def from_environment(cls) -> "Target | None":
        """None when no kubeconfig is named."""
        path = os.environ.get("KINGMAKER_E2E_KUBECONFIG")
        if not path:
            return None
        images = Images(
            os.environ.get("IMAGE_REGISTRY", ""),
            os.environ.get("TAG", "dev"),
            os.environ.get("REDIS_IMAGE", "docker.io/valkey/valkey:8.1"),
            os.environ.get("MLFLOW_IMAGE", "ghcr.io/mlflow/mlflow:v3.17.2"),
        )
        return cls(Path(path).expanduser().resolve(), images, os.environ.get("REACH", "port-forward"))


class Kubectl:
    """The real one, with a kubeconfig whose namespace is the suite's."""

    def __init__(self, kubeconfig: Path) -> None:
        found = subprocess.run([ROOT / "scripts/kubectl"], capture_output=True, text=True, check=True)
        self._binary, self._env = found.stdout.strip(), {**os.environ, "KUBECONFIG": str(kubeconfig)}
        self._running: list[subprocess.Popen[str]] = []

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        done = subprocess.run(
            [self._binary, *arguments], input=stdin, env=self._env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def port_of(self, *arguments: str) -> int:
        """Start `proxy` or `port-forward`, which run until the end; the local port each opened."""
        process = subprocess.Popen(
            [self._binary, *arguments], env=self._env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self._running.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"127\.0\.0\.1:(\d+)", line)
        assert found is not None, f"kubectl {' '.join(arguments)}: {line}"
        return int(found[1])

    def close(self) -> None:
        for process in self._running:
            process.terminate()
            process.wait(10)


class ControllerPod:
    """A `Controller`."""

    def __init__(self, cluster: "RealCluster", name: str) -> None:
        self._cluster, self._name = cluster, name

    def kill(self) -> None:
        self._cluster.request("DELETE", f"{self._cluster.pods}/{self._name}", json={"gracePeriodSeconds": 0})

    def terminate(self) -> None:
        self._cluster.request("DELETE", f"{self._cluster.pods}/{self._name}")

    def ended(self, within_s: float) -> int | None:
        code: int | None = None
        deadline = time.monotonic() + within_s
        while (pod := self._cluster.pod(self._name)) is not None:
            for status in (pod.get("status") or {}).get("containerStatuses") or []:
                code = ((status.get("state") or {}).get("terminated") or {}).get("exitCode", code)
            if code is not None:
                return code
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._name} still runs after {within_s:g} s")
            time.sleep(0.2)
        return code

    def is_running(self) -> bool:
        pod = self._cluster.pod(self._name)
        return pod is not None and (pod.get("status") or {}).get("phase") == "Running"


class ClusterRegistry(MlflowRegistry):
    """MLflow in a pod; it goes away behind its Service, which nobody answers any more."""

    def __init__(self, cluster: "RealCluster", reached: str) -> None:
        super().__init__(f"http://{MLFLOW}.{cluster.namespace}.svc:{PORTS[MLFLOW]}", reached)
        self._cluster = cluster

    def go_away(self) -> None:
        self._select("nobody")

    def come_back(self) -> None:
        self._select(MLFLOW)

    def _select(self, app: str) -> None:
        path = f"/api/v1/namespaces/{self._cluster.namespace}/services/{MLFLOW}"
        self._cluster.request("PATCH", path, json={"spec": {"selector": {"app": app}}}, headers=MERGE)


class RealCluster:
    """A `Cluster`. Made by `real_cluster`, which also clears up."""

    registry: ClusterRegistry
    redis: redis.Redis
    patience = 4.0
    """Images are pulled, and fetch steps import MLflow."""

    def __init__(self, target: Target, folder: Path, namespace: str) -> None:
        self.namespace, self._target = namespace, target
        self.kubeconfig = for_namespace(target.kubeconfig, namespace, folder / "kubeconfig")
        self.kubectl = Kubectl(self.kubeconfig)
        self.api = f"http://127.0.0.1:{self.kubectl.port_of('proxy', '--port=0')}"
        self.pods = f"/api/v1/namespaces/{namespace}/pods"
        self._http = httpx.Client(base_url=self.api, trust_env=False, timeout=30)

    def install(self) -> None:
        self.apply(objects.namespace(self.namespace))
        self.apply(*objects.rights(), objects.token(TOKEN))
        self.apply(objects.service(REDIS), objects.redis(self._target.images))
        self.apply(objects.service(MLFLOW), objects.mlflow(self._target.images))
        self.redis = redis.Redis.from_url(f"redis://{self.reach(REDIS)}/0", protocol=3)
        at = f"http://{self.reach(MLFLOW)}"
        wait_ready(at)
        self.registry = ClusterRegistry(self, at)
        self.registry.publish_tiny()

    def start_controller(self, name: str, settings: dict[str, str]) -> ControllerPod:
        self.apply(objects.controller(name, self._target.images, self.namespace, settings))
        return ControllerPod(self, name)

    def start_gateway(self) -> str:
        self.apply(objects.service(GATEWAY), objects.gateway(self._target.images, self.namespace))
        return f"http://{self.reach(GATEWAY)}"

    def apply(self, *items: dict[str, Any]) -> None:
        text = "\n---\n".join(yaml.safe_dump(item) for item in items)
        self.kubectl("apply", "--server-side", "--field-manager=kingmaker-e2e", "-f", "-", stdin=text)

    def reach(self, app: str) -> str:
        """host:port of a pod of the suite's own, once it is ready."""
        self.kubectl("wait", "--for=condition=Ready", f"pod/{app}", f"--timeout={self._target.patience_s:g}s")
        if self._target.reach == "pods":
            pod = self.pod(app)
            assert pod is not None
            return f"{pod['status']['podIP']}:{PORTS[app]}"
        return f"127.0.0.1:{self.kubectl.port_of('port-forward', f'pod/{app}', f':{PORTS[app]}')}"

    def pod(self, name: str) -> dict[str, Any] | None:
        answer = self._http.get(f"{self.pods}/{name}")
        return None if answer.status_code == 404 else dict(answer.raise_for_status().json())

    def request(self, method: str, path: str, **more: Any) -> None:
        self._http.request(method, path, **more).raise_for_status()

    def logs(self) -> str:
        found = self._http.get(self.pods).json().get("items", [])
        told = []
        for pod in found:
            name = pod["metadata"]["name"]
            answer = self._http.get(f"{self.pods}/{name}/log", params={"tailLines": "20"})
            text = answer.text if answer.status_code == 200 else "no log"
            told.append(f"== {name} ({pod.get('status', {}).get('phase')})\n{text}")
        return "\n".join(told)

    def clear(self) -> None:
        """As it was when it was installed, for the next scenario."""
        root = f"/apis/kingmaker.dev/v1alpha1/namespaces/{self.namespace}/servedmodels"
        self.request("DELETE", root)
        self._until_gone(root, "servedmodels")
        for pod in self._http.get(self.pods).raise_for_status().json()["items"]:
            if pod["metadata"]["name"] not in (REDIS, MLFLOW):
                with contextlib.suppress(httpx.HTTPStatusError):  # it may be going already
                    self.request("DELETE", f"{self.pods}/{pod['metadata']['name']}", json={"gracePeriodSeconds": 0})
        self._until_gone(self.pods, "pods", REDIS, MLFLOW)
        for kind in ("/apis/coordination.k8s.io/v1|leases", "/apis/events.k8s.io/v1|events", "/api/v1|resourcequotas"):
            group, _, plural = kind.partition("|")
            self.request("DELETE", f"{group}/namespaces/{self.namespace}/{plural}")
        self.redis.flushall()
        self.registry.come_back()

    def _until_gone(self, path: str, what: str, *but: str) -> None:
        deadline = time.monotonic() + REMOVED_S
        while True:
            names = {item["metadata"]["name"] for item in self._http.get(path).raise_for_status().json()["items"]}
            if names <= set(but):
                return
            assert time.monotonic() < deadline, f"{what} are still there: {', '.join(sorted(names))}"
            time.sleep(0.5)

    def remove(self) -> None:
        """The namespace, and everything in it."""
        self._http.delete(f"/api/v1/namespaces/{self.namespace}")
        deadline = time.monotonic() + REMOVED_S
        while self._http.get(f"/api/v1/namespaces/{self.namespace}").status_code != 404:
            assert time.monotonic() < deadline, f"namespace {self.namespace} is still there"
            time.sleep(0.5)

    def close(self) -> None:
        self._http.close()
        self.kubectl.close()


@contextlib.contextmanager
def real_cluster(target: Target, folder: Path) -> Iterator[RealCluster]:
    """A namespace with Redis, MLflow and rights for a controller in it. The CRD is applied, and left: others in the
    cluster may have come to rely on it, and removing it would remove every ServedModel there is."""
    built = RealCluster(target, folder, f"kingmaker-e2e-{secrets.token_hex(3)}")
    try:
        built.apply(yaml.safe_load(CRD.read_text()))
        built.kubectl("wait", "--for=condition=Established", f"crd/{CRD.stem}", "--timeout=60s")
        try:
            built.install()
            yield built
        finally:
            built.remove()
    finally:
        built.close()


def for_namespace(kubeconfig: Path, namespace: str, path: Path) -> Path:
    """A copy of a kubeconfig whose current context means this namespace. Paths in it stay right."""
    config = yaml.safe_load(kubeconfig.read_text())
    for entry in config["contexts"]:
        if entry["name"] == config["current-context"]:
            entry["context"]["namespace"] = namespace
    for user in config.get("users") or []:
        _absolute(user.get("user") or {}, ("client-certificate", "client-key", "tokenFile"), kubeconfig.parent)
    for cluster in config["clusters"]:
        _absolute(cluster["cluster"], ("certificate-authority",), kubeconfig.parent)
    path.write_text(yaml.safe_dump(config))
    path.chmod(0o600)
    return path


def _absolute(entry: dict[str, Any], keys: tuple[str, ...], base: Path) -> None:
    for key in keys:
        if key in entry:
            entry[key] = str(base / entry[key])
