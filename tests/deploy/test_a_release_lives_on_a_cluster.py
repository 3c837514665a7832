"""Real Helm 3 and 4 install, upgrade, roll back and remove the chart at a small API server that has none of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.deploy import chart
from tests.deploy.chart import CHART, HELMS, NAMESPACE, RELEASE, Refused, Values, helm
from tests.deploy.chart_cases import MODEL
from tests.deploy.conftest import Kubectl
from tests.fakes.fake_apiserver import FakeApiserver

MODELS: Values = {"models": {"flights": MODEL}}
WEIGHTED: Values = {"models": {"flights": {**MODEL, "weights": {"gbm": 5}}}}
LOUD: Values = {"logLevel": "DEBUG"}


class Release:
    """One release by one Helm."""

    def __init__(self, server: FakeApiserver, version: str, folder: Path) -> None:
        self.server, self.version, self.folder = server, version, folder
        self.kubeconfig = server.kubeconfig(folder / "kubeconfig")

    def __call__(self, command: str, *flags: str, values: Values | None = None) -> str:
        about: list[str | Path] = [RELEASE, *([CHART] if command in ("install", "upgrade") else [])]
        flags = (*flags, "--namespace", NAMESPACE, "--kubeconfig", str(self.kubeconfig))
        given = ["--values", "-"] if values is not None else []
        return helm(command, *about, *flags, *given, version=self.version, stdin=json.dumps(values))

    def get(self, path: str) -> Any:
        answer = httpx.get(f"{self.server.url}{path}", trust_env=False, timeout=10)
        return answer.raise_for_status().json()

    def weights(self) -> dict[str, int]:
        model = self.get(f"/apis/kingmaker.dev/v1alpha1/namespaces/{NAMESPACE}/servedmodels/flights")
        return dict(model["spec"].get("weights", {}))

    def log_level(self) -> str:
        """The gateway's."""
        gateway = self.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/km-kingmaker-gateway")
        return str(chart.environment(gateway["spec"]["template"]["spec"])["KINGMAKER_GATEWAY_LOG_LEVEL"])

    def names(self, path: str) -> set[str]:
        return {item["metadata"]["name"] for item in self.get(path)["items"]}


@pytest.fixture(params=HELMS)
def release(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Release]:
    with FakeApiserver([], namespaces=("default", NAMESPACE)) as server:
        yield Release(server, request.param, tmp_path)


@pytest.fixture
def kubectl_patch(release: Release, kubectl_binary: Path) -> Any:
    kubectl = Kubectl(kubectl_binary, release.kubeconfig)

    def patch(weight: int) -> None:
        change = json.dumps({"spec": {"weights": {"gbm": weight}}})
        kubectl.says("-n", NAMESPACE, "patch", "sm", "flights", "--type", "merge", "-p", change)

    return patch


def test_one_command_installs_models_too_and_upgrades_keep_what_is_not_theirs(
    release: Release, kubectl_patch: Any, kubectl_binary: Path
) -> None:
    """The definition comes before the models that need it."""
    release("install", values=MODELS)
    secret = f"/api/v1/namespaces/{NAMESPACE}/secrets/km-kingmaker-controller"
    token = release.get(secret)["data"]["token"]
    kubectl_patch(30)

    said = release("upgrade", values={**MODELS, **LOUD})
    assert release.get(secret)["data"]["token"] == token, "a new one would lock everybody out"
    assert release.weights() == {"gbm": 30}, "weights that are not in the values are people's"
    assert release.log_level() == "DEBUG"

    [line] = [line for line in said.splitlines() if "helm show crds" in line]
    crds = helm("show", "crds", CHART, version=release.version)
    kubectl = Kubectl(kubectl_binary, release.kubeconfig)
    command = line.strip().split(" | kubectl ")[1].split()
    assert "serverside-applied" in kubectl.says(*command, stdin=crds), "what the notes of an upgrade say to type"

    release("rollback", "1")
    assert release.weights() == {"gbm": 30}
    release("uninstall")
    root = f"/namespaces/{NAMESPACE}"
    assert release.names(f"/apis/apps/v1{root}/deployments") == set()
    assert release.names(f"/api/v1{root}/persistentvolumeclaims") == {"km-kingmaker-mlflow"}, "models outlive a release"
    crd = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    assert "servedmodels.kingmaker.dev" in release.names(crd), "other namespaces have models too"


def test_weights_in_the_values_are_fought_over_as_the_notes_say(release: Release, kubectl_patch: Any) -> None:
    release("install", values=WEIGHTED)
    assert release.weights() == {"gbm": 5}
    kubectl_patch(30)
    if release.version == "helm 4":
        with pytest.raises(Refused, match=r'conflict.* with "kubectl-patch".*'):
            release("upgrade", values={**WEIGHTED, **LOUD})
        assert release.weights() == {"gbm": 30}, "nothing of that model was changed"
        assert release.log_level() == "DEBUG", "everything else was"
        release("upgrade", "--force-conflicts", values={**WEIGHTED, **LOUD})
        assert release.weights() == {"gbm": 5}
    else:
        release("upgrade", values={**WEIGHTED, **LOUD})
        assert release.weights() == {"gbm": 30}, "the values' weight has not changed"
        changed = {"models": {"flights": {**MODEL, "weights": {"gbm": 7}}}}
        release("upgrade", values=changed)
        assert release.weights() == {"gbm": 7}
