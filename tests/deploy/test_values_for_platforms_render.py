"""The chart's values files for laptops, production and clouds: strict lint, every Helm, three Kubernetes versions."""

import pytest
import yaml

from tests.deploy import chart, kubernetes_schemas
from tests.deploy.chart import CHART

FILES = {path.stem.removeprefix("values-"): path for path in sorted(CHART.glob("values-*.yaml"))}
CLOUDS = ("eks", "gke", "aks")
IN_CLOUDS = [("production", cloud) for cloud in CLOUDS]
WITH_A_WAY_IN = ("--set=ingress.enabled=true", "--set=ingress.host=kingmaker.example.com")


def test_the_platforms_are_these() -> None:
    assert set(FILES) == {"laptop", "production", *CLOUDS}


ALL = [("laptop",), ("production",), *IN_CLOUDS]


@pytest.mark.parametrize(
    ("names", "version"), [*((names, "helm 4") for names in ALL), (IN_CLOUDS[0], "helm 3"), (("laptop",), "helm 3")]
)
def test_they_lint_and_render_objects_that_clusters_accept(names: tuple[str, ...], version: str) -> None:
    values = [f"--values={FILES[name]}" for name in names]
    chart.helm("lint", "--strict", CHART, *values, *WITH_A_WAY_IN, version=version)
    rendered = chart.helm("template", "kingmaker", CHART, *values, *WITH_A_WAY_IN, version=version)
    items = [item for item in yaml.load_all(rendered, yaml.CSafeLoader) if item]
    faults = [
        fault
        for item in items
        for number in kubernetes_schemas.VERSIONS
        for fault in kubernetes_schemas.faults(item, number)
    ]
    assert faults == []


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_cloud_chooses_its_disks_and_its_way_in(cloud: str) -> None:
    values = [f"--values={FILES[name]}" for name in ("production", cloud)]
    rendered = chart.helm("template", "kingmaker", CHART, *values, *WITH_A_WAY_IN)
    items = [item for item in yaml.load_all(rendered, yaml.CSafeLoader) if item]
    claims = [item["spec"] for item in items if item["kind"] == "PersistentVolumeClaim"]
    claims += [claim["spec"] for item in items for claim in item.get("spec", {}).get("volumeClaimTemplates", [])]
    disks = {"eks": "gp3", "gke": "premium-rwo", "aks": "managed-csi-premium"}
    assert [claim["storageClassName"] for claim in claims] == [disks[cloud]] * 3
    [ingress] = [item for item in items if item["kind"] == "Ingress"]
    classes = {"eks": "alb", "gke": None, "aks": "webapprouting.kubernetes.azure.com"}
    assert ingress["spec"].get("ingressClassName") == classes[cloud]
    assert ("kubernetes.io/ingress.class" in ingress["metadata"]["annotations"]) == (cloud == "gke")


@pytest.mark.parametrize("names", [("eks",), ("production", "eks")])
def test_a_leaving_gateway_outlasts_what_the_load_balancer_still_sends_it(names: tuple[str, ...]) -> None:
    values = [f"--values={FILES[name]}" for name in names]
    rendered = chart.helm("template", "kingmaker", CHART, *values, *WITH_A_WAY_IN)
    items = [item for item in yaml.load_all(rendered, yaml.CSafeLoader) if item]
    [pod] = [pod for name, pod in chart.pods(items).items() if name.endswith("-gateway")]
    [ingress] = [item for item in items if item["kind"] == "Ingress"]
    said = ingress["metadata"]["annotations"]["alb.ingress.kubernetes.io/target-group-attributes"]
    assert int(said.rpartition("=")[2]) < pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]


def test_nothing_is_opened_to_the_outside_by_a_file_alone() -> None:
    for names in ALL:
        rendered = chart.helm("template", "kingmaker", CHART, *[f"--values={FILES[name]}" for name in names])
        items = [item for item in yaml.load_all(rendered, yaml.CSafeLoader) if item]
        assert not [item for item in items if item["kind"] in ("Ingress", "HTTPRoute")]
        assert {item["spec"].get("type", "ClusterIP") for item in items if item["kind"] == "Service"} == {"ClusterIP"}
