"""A cluster in one test: fake API server and kubelet, real controllers, gateways and model servers as processes."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from conftest import Valkey, take_free_port
from kingmaker_contracts import keys, wire
from kingmaker_contracts.routing import RoutingRecord
from tests.cluster.pods import Pods
from tests.cluster.registry import StandInRegistry
from tests.fakes.fake_apiserver import FakeApiserver, load_yaml
from tests.fakes.fake_apiserver.kubelet import Kubelet

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
TOKEN = "t0ken"
MODELS = "/apis/kingmaker.dev/v1alpha1/namespaces/default/servedmodels"


class Load:
    """A client that predicts without a pause until it is stopped. failures: every answer that was no 200."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stopped = threading.Event()
        self.answers: list[str] = []
        self.failures: list[str] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        body = {"instances": [[1.0, 2.0]]}
        with httpx.Client(trust_env=False, timeout=5) as client:
            while not self._stopped.is_set():
                try:
                    answer = client.post(self._url, json=body)
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                    continue
                if answer.status_code == 200:
                    self.answers.append(answer.headers["x-variant"])
                else:
                    self.failures.append(f"{answer.status_code} {answer.text}")
                time.sleep(0.005)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(10)


class Stage:
    """Everything around one namespace."""

    def __init__(self, folder: Path, server: FakeApiserver, registry: StandInRegistry, redis: Any) -> None:
        self.folder, self.server, self.registry, self.redis = folder, server, registry, redis
        self.pods = Pods(folder / "pods", registry.folder)
        self.kubeconfig = server.kubeconfig(folder / "kubeconfig")
        self.processes: list[subprocess.Popen[bytes]] = []
        self.ports: list[int] = []
        self.gateway = ""
        self.kubelet: Kubelet
        (folder / "token").write_text(TOKEN)
        self._http = httpx.Client(base_url=server.url, trust_env=False, timeout=10)

    # kubectl

    def create(self, spec: dict[str, Any], name: str = "flights") -> httpx.Response:
        head = {"apiVersion": "kingmaker.dev/v1alpha1", "kind": "ServedModel", "metadata": {"name": name}}
        return self._http.post(MODELS, json={**head, "spec": spec})

    def patch(self, spec: dict[str, Any], name: str = "flights") -> None:
        headers = {"content-type": "application/merge-patch+json"}
        self._http.patch(f"{MODELS}/{name}", json={"spec": spec}, headers=headers).raise_for_status()

    def delete(self, name: str = "flights") -> None:
        self._http.delete(f"{MODELS}/{name}").raise_for_status()

    def get(self, name: str = "flights") -> dict[str, Any]:
        return dict(self._http.get(f"{MODELS}/{name}").raise_for_status().json())

    def all(self, storage: str) -> list[dict[str, Any]]:
        return list(self.server.cluster.store.all(storage, "default"))

    def condition(self, kind: str, name: str = "flights") -> dict[str, Any]:
        return next(c for c in self.get(name)["status"]["conditions"] if c["type"] == kind)

    def deployments(self) -> dict[str, dict[str, Any]]:
        """By the variant's name."""
        found = self.all("deployments.apps")
        return {item["metadata"]["annotations"]["kingmaker.dev/variant-name"]: item for item in found}

    def reasons(self) -> list[str]:
        return [event["reason"] for event in self.all("events")]

    # processes

    def controller(self, **settings: str) -> subprocess.Popen[bytes]:
        port = take_free_port()
        self.ports.append(port)
        chosen = {
            "KUBERNETES__IMAGE": "kingmaker-model-server:test",
            "KUBERNETES__KUBECONFIG": str(self.kubeconfig),
            "KUBERNETES__HOLDER": f"controller-{len(self.ports)}",
            "REGISTRY_URI": self.registry.uri,
            "REDIS_URL": self.redis.url,
            "TOKEN_FILE": str(self.folder / "token"),
            "PORT": str(port),
            **settings,
        }
        env = {**os.environ, **{f"KINGMAKER_CONTROLLER_{key}": value for key, value in chosen.items()}}
        return self._start(["-m", "kingmaker_controller"], env, f"controller-{len(self.ports)}.log")

    def start_gateway(self) -> None:
        port, admin = take_free_port(), take_free_port()
        chosen = {
            "PORT": str(port),
            "ADMIN_PORT": str(admin),
            "REDIS_URL": self.redis.url,
            "UPSTREAM__RESOLVE_MS": "200",
        }
        env = {**os.environ, **{f"KINGMAKER_GATEWAY_{key}": value for key, value in chosen.items()}}
        env["CLUSTER"] = self.server.url
        self._start([str(HERE / "gateway_in_a_cluster.py")], env, "gateway.log")
        self.gateway = f"http://127.0.0.1:{port}"

    def _start(self, arguments: list[str], env: dict[str, str], log: str) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("ab") as file:
            process = subprocess.Popen([sys.executable, *arguments], env=env, stdout=file, stderr=file)
        self.processes.append(process)
        return process

    def load(self, name: str = "flights") -> Load:
        return Load(f"{self.gateway}/v1/models/{name}:predict")

    def answered_by(self, name: str = "flights") -> str:
        url = f"{self.gateway}/v1/models/{name}:predict"
        answer = httpx.post(url, json={"instances": [[1.0, 2.0]]}, trust_env=False, timeout=5)
        return answer.headers.get("x-variant", f"{answer.status_code}")

    def record(self, name: str = "flights") -> RoutingRecord | None:
        raw = self.redis.client.get(keys.routing("default", name))
        return None if raw is None else wire.read_json(raw, RoutingRecord)

    def until(self, holds: Callable[[], Any], what: str, seconds: float = 40.0) -> Any:
        """Poll until something holds; its value. What is not there yet counts as not yet."""
        deadline = time.monotonic() + seconds
        last: object = None
        while time.monotonic() < deadline:
            try:
                last = holds()
                if last:
                    return last
            except (wire.BadRecord, httpx.HTTPError, LookupError, TypeError, AttributeError, StopIteration) as error:
                last = error
            time.sleep(0.03)
        raise AssertionError(f"{what} did not come true; last: {last!r}\n{self.logs()}")

    def logs(self) -> str:
        status = self.server.cluster.store.all("servedmodels.kingmaker.dev", "default")
        told = [f"{item['metadata']['name']}: {item.get('status')}" for item in status]
        return "\n".join([*told, *(f"== {p.name}\n{p.read_text()[-3000:]}" for p in sorted(self.folder.glob("*.log")))])

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._http.close()


@contextlib.contextmanager
def a_stage(folder: Path, runner: Any = None) -> Iterator[Stage]:
    """An empty namespace with a cluster around it; controllers and gateway are not started. runner: of the pods."""
    with contextlib.ExitStack() as stack:
        redis = Valkey(folder, take_free_port())
        redis.start()
        stack.callback(redis.stop)
        server = stack.enter_context(FakeApiserver(load_yaml(ROOT / "deploy" / "k8s" / "crd"), port=0))
        registry = stack.enter_context(StandInRegistry(folder / "registry"))
        built = Stage(folder, server, registry, redis)
        label = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
        headers = {"content-type": "application/merge-patch+json"}
        url = f"{server.url}/api/v1/namespaces/default"
        httpx.patch(url, json=label, headers=headers, trust_env=False).raise_for_status()
        built.kubelet = stack.enter_context(Kubelet(server.cluster, runner or built.pods))
        stack.callback(built.close)
        yield built


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A stage of the test's own."""
    with a_stage(tmp_path) as built:
        yield built


@pytest.fixture(scope="module")
def one_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A stage for all tests of a file."""
    with a_stage(tmp_path_factory.mktemp("stage")) as built:
        yield built
