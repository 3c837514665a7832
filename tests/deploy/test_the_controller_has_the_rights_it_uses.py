"""The chart's Role against what a real controller asks for, from a model's first day to its last: nothing it asks is
missing, and nothing it never asks is granted."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from conftest import Valkey, take_free_port
from tests.cluster.pretended import Answers
from tests.cluster.registry import StandInRegistry
from tests.deploy import chart
from tests.deploy.chart import NAMESPACE, Object
from tests.deploy.conftest import CRD
from tests.deploy.running import until
from tests.fakes.fake_apiserver import FakeApiserver, load_yaml
from tests.fakes.fake_apiserver.kubelet import Kubelet

MODELS = f"/apis/kingmaker.dev/v1alpha1/namespaces/{NAMESPACE}/servedmodels"
SPEC = {
    "champion": {"name": "lr", "model": "models:/flights/1", "autoscaling": {"maxReplicas": 3}},
    "challengers": [{"name": "gbm", "model": "models:/flights/2"}],
    "weights": {"gbm": 10},
}


class Right(NamedTuple):
    verb: str
    group: str
    resource: str


CHILDREN = [("", "services"), ("policy", "poddisruptionbudgets"), ("autoscaling", "horizontalpodautoscalers")]
CHILDREN += [("apps", "deployments"), ("monitoring.coreos.com", "servicemonitors")]
RARELY = {
    Right("get", "kingmaker.dev", "servedmodels"),  # when somebody else wrote the status first
    Right("get", "events.k8s.io", "events"),  # an event that was sent before this process
    Right("patch", "events.k8s.io", "events"),  # an event that repeats
    *(Right("delete", *child) for child in CHILDREN[:4]),  # of what is left over when a variant goes
}
"""What one short life has no occasion for. Besides, an API server wants `create` for an apply that creates."""


VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "WATCH": "watch"}


def right_of(verb: str, path: str) -> Right | None:
    """What an API server checks for a request. None for a question about the server itself."""
    found = re.fullmatch(r"/(?:api|apis/([^/]+))/v\w+(?:/namespaces/([^/]+))?/([a-z]+)(?:/([^/]+))?(?:/(\w+))?", path)
    if found is None:
        return None
    group, namespace, resource, name, subresource = found.groups()
    assert namespace == NAMESPACE, f"{verb} {path} is outside of its namespace"
    kind = "list" if verb == "GET" and not name else VERBS[verb]
    return Right(kind, group or "", f"{resource}/{subresource}" if subresource else resource)


def rights_of(role: Object) -> set[Right]:
    return {
        Right(verb, group, resource)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


class Stand:
    """An API server with pretended pods, and one controller with the environment the chart gives it."""

    def __init__(self, server: FakeApiserver, registry: StandInRegistry, redis: Valkey, folder: Path) -> None:
        self.server = server
        self.http = httpx.Client(base_url=server.url, trust_env=False, timeout=10)
        deployment = chart.one(chart.render({}), "Deployment", "kingmaker-controller")
        (folder / "token").write_text("t" * 48)
        here = {"HOST": "127.0.0.1", "PORT": str(take_free_port()), "TOKEN_FILE": str(folder / "token")}
        here |= {"REDIS_URL": redis.url, "REGISTRY_URI": registry.uri}
        environment = chart.environment(deployment["spec"]["template"]["spec"])
        environment |= {f"KINGMAKER_CONTROLLER_{name}": value for name, value in here.items()}
        environment["KINGMAKER_CONTROLLER_KUBERNETES__KUBECONFIG"] = str(server.kubeconfig(folder / "kubeconfig"))
        environment["PATH"] = os.environ["PATH"]
        self.process = subprocess.Popen([sys.executable, "-m", "kingmaker_controller"], env=environment)

    def model(self) -> Any:
        return self.http.get(f"{MODELS}/flights").json()

    def patch(self, path: str, change: Any) -> None:
        headers = {"content-type": "application/merge-patch+json"}
        self.http.patch(path, json=change, headers=headers).raise_for_status()

    def count(self, path: str) -> int:
        answer = self.http.get(path, params={"labelSelector": "app.kubernetes.io/managed-by=kingmaker"})
        return len(answer.raise_for_status().json()["items"])

    def asked(self) -> set[Right]:
        """By the controller and nobody else."""
        requests = [request for request in self.server.faults.requests if "httpx" not in request.agent]
        return {right for request in requests if (right := right_of(request.verb, request.path))}

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0
        self.http.close()


@pytest.fixture
def stand(tmp_path: Path, own_valkey: Valkey) -> Iterator[Stand]:
    answers = Answers()
    with (
        FakeApiserver(load_yaml(CRD), namespaces=("default", NAMESPACE)) as server,
        StandInRegistry(tmp_path / "registry") as registry,
        Kubelet(server.cluster, answers),
    ):
        running = Stand(server, registry, own_valkey, tmp_path)
        yield running
        running.stop()
    answers.close()


async def test_the_role_is_what_a_model_s_life_asks_for(stand: Stand) -> None:
    head = {"apiVersion": "kingmaker.dev/v1alpha1", "kind": "ServedModel", "metadata": {"name": "flights"}}
    stand.http.post(MODELS, json={**head, "spec": SPEC}).raise_for_status()

    async def everything_is_ready() -> bool:
        conditions = {c["type"]: c["status"] for c in stand.model().get("status", {}).get("conditions", [])}
        return conditions.get("Ready") == conditions.get("VariantsReady") == "True"

    scalers = f"/apis/autoscaling/v2/namespaces/{NAMESPACE}/horizontalpodautoscalers"
    deployments = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"

    async def there_is_a_scaler() -> bool:
        return stand.count(scalers) == 1

    async def there_is_a_service_monitor() -> bool:
        return stand.count(f"/apis/monitoring.coreos.com/v1/namespaces/{NAMESPACE}/servicemonitors") == 1

    async def there_is_no_scaler() -> bool:
        return stand.count(scalers) == 0

    async def one_variant_is_left() -> bool:
        return stand.count(deployments) == 1

    await until(everything_is_ready, "the model is ready", 60)
    await until(there_is_a_scaler, "an autoscaler")
    await until(there_is_a_service_monitor, "a ServiceMonitor")
    stand.patch(f"{MODELS}/flights", {"spec": {"champion": {"autoscaling": None}}})
    await until(there_is_no_scaler, "no autoscaler any more")
    stand.patch(f"{MODELS}/flights", {"spec": {"challengers": [], "weights": None}})
    await until(one_variant_is_left, "the challenger is gone", 60)

    granted = rights_of(chart.one(chart.render({}), "Role", "kingmaker-controller"))
    asked = stand.asked()
    assert not asked - granted, "the API server would refuse these"
    unused = granted - asked - {right for right in granted if right[0] == "create"} - RARELY
    assert not unused, "a right nobody uses is one too many"


def test_the_role_s_rights_stand_in_the_controller_s_manual() -> None:
    text = (chart.ROOT / "services/controller/README.md").read_text()
    stated = re.sub(r"\s+", " ", text[text.index("- Rights in its namespace:") :]).split(". ")[0]
    for resource in {
        right.resource for right in rights_of(chart.one(chart.render({}), "Role", "kingmaker-controller"))
    }:
        assert resource in stated
