"""Manifests a real apiserver refuses are refused here too: built-in kinds beyond their schema, pod security, quota."""

import copy
import time
from typing import Any

import pytest

from tests.fakes.apiserver_requests import MERGE, SM, Api, served_model
from tests.fakes.fake_apiserver.kubelet import Kubelet

NAMESPACE = "/api/v1/namespaces/default"
EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events"
PATHS = {
    "Deployment": "/apis/apps/v1/namespaces/default/deployments",
    "Service": f"{NAMESPACE}/services",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/default/poddisruptionbudgets",
    "HorizontalPodAutoscaler": "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers",
    "Lease": "/apis/coordination.k8s.io/v1/namespaces/default/leases",
    "Event": EVENTS,
}
CONTAINER = {
    "name": "server",
    "image": "a:1",
    "ports": [{"name": "http", "containerPort": 8080}],
    "volumeMounts": [{"name": "model", "mountPath": "/model"}],
    "resources": {"requests": {"cpu": "500m", "memory": "256Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
    "readinessProbe": {"httpGet": {"path": "/v2/health/ready", "port": "http"}},
    "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
}
GOOD: dict[str, dict[str, Any]] = {
    "Deployment": {
        "selector": {"matchLabels": {"app": "d"}},
        "template": {
            "metadata": {"labels": {"app": "d"}},
            "spec": {"containers": [CONTAINER], "volumes": [{"name": "model", "emptyDir": {}}]},
        },
    },
    "Service": {"clusterIP": "None", "selector": {"app": "d"}, "ports": [{"name": "http", "port": 80}]},
    "PodDisruptionBudget": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "d"}}},
    "HorizontalPodAutoscaler": {
        "scaleTargetRef": {"kind": "Deployment", "name": "d"}, "minReplicas": 2, "maxReplicas": 4
    },
    "Lease": {"holderIdentity": "a", "leaseDurationSeconds": 15, "renewTime": "2026-11-21T05:00:00.000000Z"},
}  # fmt: skip


def item(kind: str, name: str = "d", **changes: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": copy.deepcopy(GOOD[kind]) | changes}


def pod(**changes: Any) -> dict[str, Any]:
    found = item("Deployment")
    found["spec"]["template"]["spec"]["containers"][0] |= changes
    return found


@pytest.mark.parametrize("kind", GOOD)
def test_a_right_manifest_is_accepted(api: Api, kind: str) -> None:
    api.done("POST", PATHS[kind], item(kind))


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        ("Deployment", item("Deployment", "Upper"), "metadata.name"),
        ("Deployment", item("Deployment", selector={"matchLabels": {"app": "x"}}), "does not match template"),
        ("Deployment", {**item("Deployment"), "metadata": {"name": "d", "labels": {"a": "x" * 64}}}, "at most 63"),
        ("Deployment", {**item("Deployment"), "metadata": {"name": "d", "labels": {"a": "x:y"}}}, "metadata.labels"),
        ("Deployment", pod(name="Server"), "containers[0].name"),
        ("Deployment", pod(image=""), "containers[0].image: Required"),
        ("Deployment", pod(volumeMounts=[{"name": "modle", "mountPath": "/x"}]), 'Not found: "modle"'),
        ("Deployment", pod(ports=[{"name": "a-name-too-long-for-it", "containerPort": 1}]), "15 characters"),
        ("Deployment", pod(resources={"limits": {"cpu": "one"}}), "resources.limits[cpu]"),
        ("Deployment", pod(resources={"limits": {"cpu": "1"}, "requests": {"cpu": "1500m"}}), "equal to cpu limit"),
        ("Deployment", pod(livenessProbe={"periodSeconds": 5}), "livenessProbe: Required value"),
        ("Deployment", pod(env=[{"value": "1"}]), "env[0].name: Required value"),
        ("Deployment", pod(image=7), "must be of type string"),
        ("Service", item("Service", "3d-lr"), "must start with a letter"),
        ("Service", item("Service", "x" * 64), "at most 63"),
        ("Service", item("Service", ports=[{"port": 80}, {"port": 81}]), "ports[0].name: Required"),
        ("PodDisruptionBudget", item("PodDisruptionBudget", minAvailable=1), "cannot be both set"),
        ("HorizontalPodAutoscaler", item("HorizontalPodAutoscaler", maxReplicas=1), "minReplicas"),
        ("Lease", item("Lease", leaseDurationSeconds=0), "greater than 0"),
        ("Lease", item("Lease", renewTime="2026-11-21T05:00:00Z"), "2006-01-02T15:04:05.000000Z07:00"),
    ],
)  # fmt: skip
def test_a_wrong_manifest_is_refused_by_its_field(api: Api, kind: str, body: dict[str, Any], text: str) -> None:
    code, answer = api("POST", PATHS[kind], body)
    assert (code, text in answer["message"]) == (422, True), answer


def test_a_selector_never_changes(api: Api) -> None:
    api.done("POST", PATHS["Deployment"], item("Deployment"))
    labels = {"app": "e"}
    body = {"spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}}}}
    code, answer = api("PATCH", f"{PATHS['Deployment']}/d", body, MERGE)
    assert (code, "field is immutable" in answer["message"]) == (422, True)


EVENT = {
    "metadata": {"name": "e"}, "regarding": {"kind": "ServedModel", "name": "f", "namespace": "default"},
    "reason": "WeightChanged", "note": "gbm: 5 % -> 20 %", "type": "Normal", "action": "Route",
    "eventTime": "2026-11-21T05:00:00.000000Z", "reportingController": "kingmaker.dev/controller",
    "reportingInstance": "controller-0",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"eventTime": None}, "eventTime: Required"),
        ({"eventTime": "2026-11-21T05:00:00Z"}, "000000"),
        ({"action": ""}, "action: Required"),
        ({"reportingInstance": ""}, "reportingInstance: Required"),
        ({"reportingController": "a/b/c"}, "reportingController"),
        ({"type": "Bad"}, "has invalid value"),
        ({"note": "x" * 1025}, "at most 1024"),
        ({"regarding": {"namespace": "other"}}, "does not match event.namespace"),
        ({"series": {"count": 1, "lastObservedTime": "2026-11-21T05:00:00.000000Z"}}, "at least 2"),
    ],
)
def test_an_event_that_breaks_its_rules_is_refused(api: Api, changes: dict[str, Any], text: str) -> None:
    code, answer = api("POST", EVENTS, EVENT | changes)
    assert (code, text in answer["message"]) == (422, True), answer


def test_an_event_changes_its_count_and_nothing_it_says(api: Api) -> None:
    api.done("POST", EVENTS, EVENT)
    series = {"count": 2, "lastObservedTime": "2026-11-21T05:01:00.000000Z"}
    assert api("PATCH", f"{EVENTS}/e", {"series": series}, MERGE)[0] == 200
    code, answer = api("PATCH", f"{EVENTS}/e", {"note": "other"}, MERGE)
    assert (code, "message: Invalid value" in answer["message"]) == (422, True)


def test_a_status_is_written_even_when_the_spec_no_longer_fits(api: Api) -> None:
    """A CRD may grow a rule that stored resources break; their status must go on."""
    api.model()
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/servedmodels.kingmaker.dev"
    rule = {"op": "add", "value": [{"rule": "self.champion.name == 'x'", "message": "no longer"}]}
    path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/x-kubernetes-validations"
    api.done("PATCH", crds, [{**rule, "path": path}], "application/json-patch+json")
    assert api("POST", SM, served_model("other"))[0] == 422
    assert api("PATCH", f"{SM}/flights/status", {"status": {"phase": "Ready"}}, MERGE)[0] == 200
    assert api("PATCH", f"{SM}/flights", {"metadata": {"labels": {"a": "b"}}}, MERGE)[0] == 200
    assert api("PATCH", f"{SM}/flights", {"spec": {"paused": True}}, MERGE)[0] == 422


def restricted() -> dict[str, Any]:
    own = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    found = pod(securityContext=own)
    found["spec"]["template"]["spec"]["securityContext"] = {
        "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}
    }  # fmt: skip
    return found


def refusal(api: Api, body: dict[str, Any], most_pods: int | None = None) -> str:
    """What the Deployment says of pods that could not be created; "" once it is available."""
    if most_pods is not None:
        quota = {"metadata": {"name": "few"}, "spec": {"hard": {"pods": str(most_pods)}}}
        api.done("POST", f"{NAMESPACE}/resourcequotas", quota)
    with Kubelet(api.server.cluster):
        api.done("POST", PATHS["Deployment"], body)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            status = api.done("GET", f"{PATHS['Deployment']}/d").get("status", {})
            found = {one["type"]: one for one in status.get("conditions", [])}
            if "ReplicaFailure" in found:
                return str(found["ReplicaFailure"]["message"])
            if found.get("Available", {}).get("status") == "True":
                return ""
            time.sleep(0.02)
    raise AssertionError(status)


def enforce(api: Api) -> None:
    api.done("PATCH", NAMESPACE, {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}, MERGE)


def test_restricted_pods_run_where_the_standard_is_enforced(api: Api) -> None:
    enforce(api)
    assert refusal(api, restricted()) == ""


def test_pods_that_break_the_standard_are_refused_by_every_point(api: Api) -> None:
    enforce(api)
    text = refusal(api, item("Deployment"))
    assert 'violates PodSecurity "restricted:latest"' in text
    for point in ("allowPrivilegeEscalation != false", "unrestricted capabilities", "runAsNonRoot", "seccompProfile"):
        assert point in text


def test_a_full_quota_is_said_by_the_deployment(api: Api) -> None:
    text = refusal(api, item("Deployment", replicas=3), most_pods=2)
    assert "exceeded quota: few, requested: pods=1, used: pods=2, limited: pods=2" in text
