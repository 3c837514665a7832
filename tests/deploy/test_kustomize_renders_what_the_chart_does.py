"""deploy/k8s, rendered by kubectl, against the chart, rendered by Helm: the same objects, to the last field.

What may differ is taken away first: marks of Helm, the Namespace and the CRD, which a chart does not render, and how a
pod learns its namespace.
"""

import copy
import json
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy import chart, kubernetes_schemas
from tests.deploy.chart import CHART, PROMETHEUS_OPERATOR, ROOT, Object
from tests.deploy.conftest import Kubectl
from tests.fakes.fake_apiserver import FakeApiserver

K8S = ROOT / "deploy/k8s"
OVERLAYS = {"dev": ("values-laptop.yaml", ()), "production": ("values-production.yaml", PROMETHEUS_OPERATOR)}
NAMESPACE = "kingmaker"
MARKS_OF_HELM = {"app.kubernetes.io/managed-by", "helm.sh/chart"}


@cache
def _kustomized(folder: Path) -> tuple[Object, ...]:
    kubectl = subprocess.run([ROOT / "scripts/kubectl"], capture_output=True, text=True, check=True).stdout.strip()
    done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr, done.stderr
    return tuple(yaml.load_all(done.stdout, yaml.CSafeLoader))


def of_kustomize(folder: Path) -> dict[tuple[str, str], Object]:
    return by_name(
        [item for item in _kustomized(folder) if item["kind"] not in ("Namespace", "CustomResourceDefinition")]
    )


def of_chart(values: str, apis: tuple[str, ...]) -> dict[tuple[str, str], Object]:
    flags = [f"--api-versions={api}" for api in apis]
    flags += ["--set=helmTest.enabled=false", "--set=controller.tokenSecret=kingmaker-controller-token"]
    rendered = chart.helm("template", "kingmaker", CHART, "--namespace", NAMESPACE, "--values", CHART / values, *flags)
    return by_name([item for item in yaml.load_all(rendered, yaml.CSafeLoader) if item])


def by_name(items: list[Object]) -> dict[tuple[str, str], Object]:
    return {(item["kind"], item["metadata"]["name"]): plain(item) for item in items}


def plain(item: Object) -> Object:
    """Without what may differ. The item itself stays as it is."""
    meta = {key: value for key, value in item["metadata"].items() if key != "annotations" or value}
    meta["labels"] = {key: value for key, value in meta["labels"].items() if key not in MARKS_OF_HELM}
    found = {**item, "metadata": meta}
    if "template" not in item.get("spec", {}):
        return found
    pod = item["spec"]["template"]["spec"]
    containers = [told_its_namespace(container) for container in pod["containers"]]
    return {
        **found,
        "spec": {**item["spec"], "template": {**item["spec"]["template"], "spec": {**pod, "containers": containers}}},
    }


def told_its_namespace(container: Object) -> Object:
    """With values in place of what Kubernetes fills in: fields of the pod, and $(NAMES) of variables before them."""
    known: dict[str, str] = {}
    env = []

    def filled(text: str) -> str:
        return re.sub(r"\$\((\w+)\)", lambda name: known.get(name[1], name[0]), text)

    for variable in container.get("env", []):
        if variable.get("valueFrom") == {"fieldRef": {"fieldPath": "metadata.namespace"}}:
            known[variable["name"]] = NAMESPACE
            if variable["name"] != "POD_NAMESPACE":  # which is there for $(POD_NAMESPACE) alone
                env.append({"name": variable["name"], "value": NAMESPACE})
        elif "value" in variable:
            env.append({**variable, "value": filled(variable["value"])})
        else:
            env.append(variable)
    return {**container, "env": env, "args": [filled(text) for text in container.get("args", [])]}


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_is_what_the_chart_makes_of_its_values(name: str) -> None:
    kustomized, rendered = of_kustomize(K8S / "overlays" / name), of_chart(*OVERLAYS[name])
    assert kustomized.keys() == rendered.keys()
    for key in rendered:
        assert kustomized[key] == rendered[key], key
    assert len(rendered) > 25


def test_the_base_was_written_from_the_chart_as_it_is_now() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/kustomize", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_generated_file_is_used() -> None:
    for folder in ("base", "components/monitoring"):
        listed = set(yaml.safe_load((K8S / folder / "kustomization.yaml").read_text())["resources"])
        there = {path.name for path in (K8S / folder).glob("*.yaml")} - {"kustomization.yaml", "images.yaml"}
        assert there == listed - {"../crd"}


def test_an_overlay_of_ones_own_needs_a_namespace_and_images_alone(tmp_path: Path) -> None:
    shutil.copytree(K8S, tmp_path / "k8s")
    folder = tmp_path / "k8s/overlays/shop"
    folder.mkdir()
    image = {"newName": "registry.example/ml/kingmaker-model-server", "newTag": "1.2.3"}
    mine: dict[str, Any] = {"namespace": "shop", "resources": ["../../base"]}
    mine["images"] = [{"name": "kingmaker-model-server", **image}, {"name": "kingmaker-gateway", "newTag": "9"}]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(mine))
    items = _kustomized(folder)
    namespaced = [item for item in items if item["kind"] != "CustomResourceDefinition"]
    assert {item["metadata"]["namespace"] for item in namespaced} == {"shop"}
    [binding] = [item for item in items if item["kind"] == "RoleBinding"]
    assert {subject["namespace"] for subject in binding["subjects"]} == {"shop"}
    pods = chart.pods(list(items))
    assert pods["kingmaker-gateway"]["containers"][0]["image"] == "kingmaker-gateway:9"
    told = chart.environment(pods["kingmaker-controller"])["KINGMAKER_CONTROLLER_KUBERNETES__IMAGE"]
    assert told == "registry.example/ml/kingmaker-model-server:1.2.3"


@pytest.mark.parametrize("name", OVERLAYS)
@pytest.mark.parametrize("version", kubernetes_schemas.VERSIONS)
def test_clusters_accept_an_overlay(name: str, version: str) -> None:
    not_kubernetes_own = ("CustomResourceDefinition", "ServiceMonitor", "PrometheusRule")
    items = [item for item in _kustomized(K8S / "overlays" / name) if item["kind"] not in not_kubernetes_own]
    assert [fault for item in items for fault in kubernetes_schemas.faults(item, version)] == []


@pytest.mark.parametrize("name", OVERLAYS)
def test_its_namespace_asks_for_the_strictest_pods(name: str) -> None:
    [namespace] = [item for item in _kustomized(K8S / "overlays" / name) if item["kind"] == "Namespace"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_kubectl_applies_an_overlay_to_an_empty_cluster_and_again(tmp_path: Path, kubectl_binary: Path) -> None:
    """The namespace enforces `restricted`, so every pod is created once, as its controller would."""
    with FakeApiserver([], namespaces=("default",)) as server:
        kubectl = Kubectl(kubectl_binary, server.kubeconfig(tmp_path / "kubeconfig"))
        first = kubectl.says("apply", "-k", str(K8S / "overlays/dev")).splitlines()
        assert {line.rpartition(" ")[2] for line in first} == {"created"}
        makers = [item for item in _kustomized(K8S / "overlays/dev") if item["kind"] in ("Deployment", "StatefulSet")]
        assert len(makers) == 5
        for maker in makers:
            kubectl.says("create", "-f", "-", stdin=json.dumps(pod_of(maker)))
        loose = copy.deepcopy(pod_of(makers[0]))
        loose["metadata"]["name"] = "loose"
        loose["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
        assert "violates PodSecurity" in kubectl.refuses("create", "-f", "-", stdin=json.dumps(loose))
        again = kubectl.says("apply", "-k", str(K8S / "overlays/dev")).splitlines()
        assert {line.rpartition(" ")[2] for line in again} == {"unchanged"}


def pod_of(maker: Object) -> Object:
    """The pod a Deployment or StatefulSet makes; the latter adds the volumes of its claims."""
    template = maker["spec"]["template"]
    claims = [claim["metadata"]["name"] for claim in maker["spec"].get("volumeClaimTemplates", [])]
    volumes = [{"name": name, "persistentVolumeClaim": {"claimName": f"{name}-0"}} for name in claims]
    meta = {**template["metadata"], "name": maker["metadata"]["name"], "namespace": NAMESPACE}
    spec = {**template["spec"], "volumes": [*template["spec"].get("volumes", []), *volumes]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}
