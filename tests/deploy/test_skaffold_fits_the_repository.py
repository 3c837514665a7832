"""skaffold.yaml against what it points at. Its own schema is in no package registry: the fields used were compared with
skaffold/v4beta13 by hand, and one that is not in the lists below makes a test fail, so that somebody looks again.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy import chart
from tests.deploy.chart import CHART, ROOT

CONFIG: dict[str, Any] = yaml.safe_load((ROOT / "skaffold.yaml").read_text())
[RELEASE] = CONFIG["deploy"]["helm"]["releases"]
[PROFILE] = CONFIG["profiles"]
ARTIFACTS = {artifact["image"]: artifact for artifact in CONFIG["build"]["artifacts"]}
LOOKED_UP = {
    "": {"apiVersion", "kind", "metadata", "build", "deploy", "portForward", "profiles"},
    "metadata": {"name"},
    "build": {"tagPolicy", "artifacts"},
    "build.tagPolicy": {"inputDigest"},
    "build.artifacts.0": {"image", "docker"},
    "build.artifacts.0.docker": {"dockerfile"},
    "deploy": {"helm"},
    "deploy.helm": {"releases"},
    "deploy.helm.releases.0": {
        "name", "chartPath", "namespace", "createNamespace", "valuesFiles", "setValueTemplates",
    },
    "portForward.0": {"resourceType", "resourceName", "namespace", "port", "localPort"},
    "profiles.0": {"name", "manifests", "deploy", "patches"},
    "profiles.0.manifests": {"kustomize"},
    "profiles.0.manifests.kustomize": {"paths"},
    "profiles.0.deploy": {"kubectl"},
    "profiles.0.deploy.kubectl": {"hooks"},
    "profiles.0.deploy.kubectl.hooks": {"before"},
    "profiles.0.deploy.kubectl.hooks.before.0": {"host"},
    "profiles.0.deploy.kubectl.hooks.before.0.host": {"command"},
    "profiles.0.patches.0": {"op", "path"},
    "profiles.0.patches.1": {"op", "path", "value"},
    "profiles.0.patches.1.value": {"after"},
    "profiles.0.patches.1.value.after.0": {"command"},
}  # fmt: skip


def at(path: str) -> Any:
    found: Any = CONFIG
    for part in filter(None, path.split(".")):
        found = found[int(part)] if isinstance(found, list) else found[part]
    return found


@pytest.mark.parametrize("path", LOOKED_UP)
def test_fields_are_those_that_were_looked_up(path: str) -> None:
    assert CONFIG["apiVersion"] == "skaffold/v4beta13"
    assert set(at(path)) == LOOKED_UP[path]


def test_each_service_is_built_from_its_dockerfile() -> None:
    assert set(ARTIFACTS) == {f"kingmaker-{path.parent.name}" for path in ROOT.glob("services/*/Dockerfile")}
    for image, artifact in ARTIFACTS.items():
        assert artifact["docker"] == {"dockerfile": f"services/{image.removeprefix('kingmaker-')}/Dockerfile"}


def test_the_chart_takes_every_image_that_is_built() -> None:
    """As skaffold calls Helm: --set for each template, here with the names it would fill in."""
    told: dict[str, str] = {}
    for image in ARTIFACTS:
        name = image.replace("-", "_")
        told |= {f"{{{{.IMAGE_REPO_{name}}}}}": f"reg/{image}", f"{{{{.IMAGE_TAG_{name}}}}}": "abc"}
    sets = [f"--set={key}={told[template]}" for key, template in RELEASE["setValueTemplates"].items()]
    assert len(sets) == len(told)
    values = [f"--values={ROOT / path}" for path in RELEASE["valuesFiles"]]
    assert ROOT / RELEASE["chartPath"] == CHART
    rendered = chart.helm("template", RELEASE["name"], CHART, "--namespace", RELEASE["namespace"], *values, *sets)
    assert {image for image in ARTIFACTS if f"reg/{image}:abc" in rendered} == set(ARTIFACTS)


def test_the_forwarded_port_is_the_gateways() -> None:
    [forward] = CONFIG["portForward"]
    flags = ("--namespace", RELEASE["namespace"])
    items = yaml.safe_load_all(chart.helm("template", RELEASE["name"], CHART, *flags))
    [service] = [
        item
        for item in items
        if item and (item["kind"], item["metadata"]["name"]) == ("Service", forward["resourceName"])
    ]
    assert forward["port"] in [port["port"] for port in service["spec"]["ports"]]


def test_the_profile_changes_places_that_are_there() -> None:
    for path in PROFILE["manifests"]["kustomize"]["paths"]:
        assert (ROOT / path / "kustomization.yaml").is_file()
    remove, add = PROFILE["patches"]
    assert (remove["op"], at(remove["path"].strip("/").replace("/", "."))) == ("remove", CONFIG["deploy"]["helm"])
    artifact, _, field = add["path"].strip("/").replace("/", ".").rpartition(".")
    assert (at(artifact)["image"], field) == ("kingmaker-model-server", "hooks")


def test_the_profile_names_the_model_server_and_the_token_as_the_overlay_does() -> None:
    base = (ROOT / "deploy/k8s/base/controller.yaml").read_text()
    [hook] = PROFILE["patches"][1]["value"]["after"]
    assert "kingmaker-model-server:0.1.0" in hook["command"][-1]
    assert 'value: "kingmaker-model-server:0.1.0"' in base
    [before] = PROFILE["deploy"]["kubectl"]["hooks"]["before"]
    assert "secret generic kingmaker-controller-token" in before["host"]["command"][-1]
    assert "secretName: kingmaker-controller-token" in base
    assert Path(ROOT / PROFILE["manifests"]["kustomize"]["paths"][0] / "namespace.yaml").read_text().count("kingmaker")
