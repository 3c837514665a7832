"""Every case of values, with Helm 3 and 4: objects that three versions of Kubernetes accept, in pods a security
reviewer has nothing to say about."""

import json
from collections import Counter
from typing import Any

import pytest
import yaml

from kingmaker_contracts import served_model
from tests.deploy import chart, kubernetes_schemas
from tests.deploy.chart import CHART, HELMS, NAMESPACE, ROOT, Object, helm, pods
from tests.deploy.chart_cases import CASES, MODEL
from tests.fakes.fake_apiserver import pod_security

FOREIGN = {"ServedModel", "HTTPRoute", "ServiceMonitor", "PrometheusRule"}
"""Kinds Kubernetes itself has no schema of; each has a test of its own."""


def rendered(case: str, version: str = "helm 4") -> list[Object]:
    return chart.render(CASES[case].values, apis=CASES[case].apis, version=version)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("version", HELMS)
def test_lint_finds_nothing(version: str) -> None:
    said = helm("lint", "--strict", CHART, version=version)
    assert "[WARNING]" not in said and "[ERROR]" not in said, said


FAST = ("nothing set", "redis with users", "sentinel", "prometheus operator", "placed", "settings", "models")


@pytest.mark.parametrize("case", [pytest.param(c, marks=() if c in FAST else pytest.mark.slow) for c in CASES])
def test_both_helms_render_the_same(case: str) -> None:
    three, four = (rendered(case, version) for version in ("helm 3", "helm 4"))
    for item in (*three, *four):
        if item["kind"] == "Secret":
            item["data"]["token"] = "drawn anew"
    assert three == four


def test_three_versions_of_kubernetes_accept_every_object(case: str) -> None:
    found = [
        fault
        for item in rendered(case)
        if item["kind"] not in FOREIGN
        for version in kubernetes_schemas.VERSIONS
        for fault in kubernetes_schemas.faults(item, version)
    ]
    assert not found


def test_names_are_unique_and_in_the_release_s_namespace(case: str) -> None:
    objects = rendered(case)
    counted = Counter((item["kind"], item["metadata"]["name"]) for item in objects)
    assert max(counted.values()) == 1, counted
    assert {item["metadata"]["namespace"] for item in objects} == {NAMESPACE}, "nothing is cluster-wide"


def test_pods_keep_the_restricted_pod_security_standard(case: str) -> None:
    for name, pod in pods(rendered(case)).items():
        assert not list(pod_security.violations(pod)), name


def test_nothing_of_the_cluster_leaks_into_a_pod(case: str) -> None:
    for name, pod in pods(rendered(case)).items():
        assert pod["automountServiceAccountToken"] is name.endswith("-controller"), name
        assert pod["enableServiceLinks"] is False, name
        for container in containers(pod):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, name


def test_every_container_says_what_it_gets(case: str) -> None:
    for name, pod in pods(rendered(case)).items():
        for container in containers(pod):
            resources = container["resources"]
            assert {"cpu", "memory"} <= resources["requests"].keys() and "memory" in resources["limits"], name


def test_pods_of_one_component_spread_over_nodes_and_zones(case: str) -> None:
    for item in rendered(case):
        if item["kind"] in ("Deployment", "StatefulSet"):
            spread = item["spec"]["template"]["spec"]["topologySpreadConstraints"]
            assert [one["topologyKey"] for one in spread] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
            for one in spread:
                assert one["labelSelector"] == item["spec"]["selector"]


def test_every_selector_finds_its_pods_and_no_others(case: str) -> None:
    """Services, budgets and StatefulSets of one component must not catch another's pods."""
    objects = rendered(case)
    labels = {
        i["metadata"]["name"]: i["spec"]["template"]["metadata"]["labels"]
        for i in objects
        if "template" in i.get("spec", {})
    }
    for item in objects:
        selector = item.get("spec", {}).get("selector")
        if item["kind"] not in ("Service", "PodDisruptionBudget", "Deployment", "StatefulSet") or not selector:
            continue
        wanted = selector.get("matchLabels", selector).items()
        found = [name for name, there in labels.items() if wanted <= there.items()]
        assert found == [item["metadata"]["name"].removesuffix("-admin")], (item["kind"], item["metadata"]["name"])


def test_a_rollback_reaches_a_stateful_pod_that_never_became_ready(case: str) -> None:
    """Under OrderedReady a StatefulSet waits for the pod of a bad image to become ready before it replaces it, which
    it never does: a rollback would change nothing until somebody deleted the pod by hand."""
    for item in rendered(case):
        if item["kind"] == "StatefulSet":
            assert item["spec"]["podManagementPolicy"] == "Parallel", item["metadata"]["name"]


def test_every_claim_secret_and_account_a_pod_names_is_there_or_given(case: str) -> None:
    objects = rendered(case)
    made = {(item["kind"], item["metadata"]["name"]) for item in objects}
    for name, pod in pods(objects).items():
        account = pod.get("serviceAccountName")
        assert account is None or ("ServiceAccount", account) in made, name
        mounted = {m["name"] for c in containers(pod) for m in c.get("volumeMounts", [])}
        claimed: list[Object] = next(
            (
                i["spec"].get("volumeClaimTemplates", [])
                for i in objects
                if i["metadata"]["name"] == name and i["kind"] == "StatefulSet"
            ),
            [],
        )
        volumes = {v["name"]: v for v in pod.get("volumes") or []} | {c["metadata"]["name"]: {} for c in claimed}
        assert mounted == volumes.keys(), name
        for volume in volumes.values():
            if "persistentVolumeClaim" in volume:
                assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in made
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in made
            if "secret" in volume and volume["secret"]["secretName"].startswith("km-"):
                assert ("Secret", volume["secret"]["secretName"]) in made


def test_models_are_served_models_and_say_nothing_that_was_not_said() -> None:
    [item] = [i for i in rendered("models") if i["kind"] == "ServedModel" and i["metadata"]["name"] == "flights"]
    assert item["spec"] == MODEL, "a weight that is not in the values is not this release's"
    served_model.parse(item)


def test_weights_that_were_given_are_rendered() -> None:
    [item] = [i for i in rendered("models with weights") if i["kind"] == "ServedModel"]
    assert served_model.parse(item).spec.weights == {"gbm": 20}


@pytest.mark.parametrize("kind", sorted(FOREIGN))
def test_kinds_a_cluster_may_not_know_come_only_when_it_does(kind: str) -> None:
    seen = {name for name in CASES if kind in {item["kind"] for item in rendered(name)}}
    expected = {"ServedModel": {"models", "models with weights"}, "HTTPRoute": {"a route"}}
    assert seen == expected.get(kind, {"prometheus operator"})


def test_a_route_and_an_ingress_lead_to_the_gateway_s_service() -> None:
    objects = rendered("a route")
    route = chart.one(objects, "HTTPRoute", "kingmaker-gateway")
    [rule] = route["spec"]["rules"]
    service = chart.one(objects, "Service", "kingmaker-gateway")
    assert rule["backendRefs"] == [{"name": service["metadata"]["name"], "port": service["spec"]["ports"][0]["port"]}]
    assert route["spec"]["parentRefs"] == [{"name": "public", "namespace": "edge", "sectionName": "https"}]
    [entry] = chart.one(rendered("an ingress"), "Ingress", "kingmaker-gateway")["spec"]["rules"]
    [path] = entry["http"]["paths"]
    assert path["backend"]["service"] == {"name": service["metadata"]["name"], "port": {"name": "http"}}


def test_service_monitors_find_a_port_that_is_there() -> None:
    objects = rendered("prometheus operator")
    services = [item for item in objects if item["kind"] == "Service"]
    monitors = [item for item in objects if item["kind"] == "ServiceMonitor"]
    assert len(monitors) == 3
    for item in monitors:
        assert item["metadata"]["labels"]["release"] == "prometheus"
        [endpoint] = item["spec"]["endpoints"]
        wanted = item["spec"]["selector"]["matchLabels"].items()
        ports = [p for s in services if wanted <= s["metadata"]["labels"].items() for p in s["spec"]["ports"]]
        assert [p["name"] for p in ports].count(endpoint["port"]) == 1, "a port twice would be scraped twice"


def test_rules_and_dashboard_are_the_files_of_deploy_monitoring() -> None:
    objects = rendered("prometheus operator")
    rules = {item["metadata"]["name"]: item["spec"] for item in objects if item["kind"] == "PrometheusRule"}
    files = list((ROOT / "deploy/monitoring/rules").glob("*.yaml"))
    assert rules == {f"km-kingmaker-{file.stem}": yaml.safe_load(file.read_text()) for file in files}
    dashboard = chart.one(objects, "ConfigMap", "kingmaker-dashboard")
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    [(name, content)] = dashboard["data"].items()
    original = (ROOT / "deploy/monitoring/dashboards" / name).read_text()
    assert json.loads(content) == json.loads(original)
    assert len(json.dumps(dashboard)) < 1 << 20, "a ConfigMap holds no more"


def test_autoscaling_counts_requests_in_flight_only_where_an_adapter_is_declared() -> None:
    def metrics(case: str) -> list[str]:
        scaler = chart.one(rendered(case), "HorizontalPodAutoscaler", "kingmaker-gateway")
        return [metric["type"] for metric in scaler["spec"]["metrics"]]

    assert metrics("autoscaled on CPU alone") == ["Resource"]
    assert metrics("autoscaled") == ["Resource", "Pods"]
    for case in ("autoscaled", "autoscaled on CPU alone"):
        assert "replicas" not in chart.one(rendered(case), "Deployment", "kingmaker-gateway")["spec"]


def containers(pod: Object) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]
