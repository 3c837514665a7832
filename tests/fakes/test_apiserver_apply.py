"""Server-side apply as documented: who names a field owns it, what is no longer named goes, conflicts are named."""

from typing import Any

import pytest

from tests.fakes.apiserver_requests import MERGE, SM, Api, served_model

FLIGHTS = f"{SM}/flights"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
TWO = [{"name": "gbm", "model": "models:/flights/2"}, {"name": "nn", "model": "models:/flights/3"}]


def partial(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "kingmaker.dev/v1alpha1", "kind": "ServedModel", "spec": spec}


def status(**fields: Any) -> dict[str, Any]:
    return {"apiVersion": "kingmaker.dev/v1alpha1", "kind": "ServedModel", "status": fields}


def condition(type_: str, message: str = "") -> dict[str, Any]:
    at = {"lastTransitionTime": "2026-11-21T05:00:00Z", "observedGeneration": 1}
    return {"type": type_, "status": "True", "reason": "Because", "message": message, **at}


def deployment(image: str = "a:1", **spec: Any) -> dict[str, Any]:
    container = {
        "name": "server",
        "image": image,
        "ports": [{"containerPort": 8080}],
        "env": [{"name": "A", "value": "1"}],
    }
    template = {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [container]}}
    body = {"selector": {"matchLabels": {"app": "d"}}, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": body}


def owners(item: dict[str, Any]) -> dict[tuple[str, str, str], dict[str, Any]]:
    entries = item["metadata"]["managedFields"]
    return {(e["manager"], e["operation"], e.get("subresource", "")): e["fieldsV1"] for e in entries}


def test_an_apply_creates_what_is_not_there_and_owns_what_it_named(api: Api) -> None:
    code, item = api.apply(FLIGHTS, served_model(weights={}), "ops")
    assert code == 201
    champion: dict[str, Any] = {"f:champion": {"f:model": {}, "f:name": {}}}
    assert owners(item) == {("ops", "Apply", ""): {"f:spec": {**champion, "f:weights": {}}}}
    assert item["spec"]["mode"] == "Canary", "defaults are filled in and owned by nobody"


def test_an_apply_of_the_same_again_is_no_write(api: Api) -> None:
    first = api.apply(FLIGHTS, served_model(challengers=TWO), "ops")
    assert api.apply(FLIGHTS, served_model(challengers=TWO), "ops") == (200, first[1])
    built_in = api.apply(f"{DEPLOYMENTS}/d", deployment(), "ops")
    assert api.apply(f"{DEPLOYMENTS}/d", deployment(), "ops") == (200, built_in[1])


def test_a_partial_apply_owns_one_weight_and_touches_nothing_else(api: Api) -> None:
    before = api.model(challengers=TWO, weights={"nn": 5})
    code, after = api.apply(FLIGHTS, partial(weights={"gbm": 44}), "ops")
    assert code == 200
    assert after["spec"] == {**before["spec"], "weights": {"gbm": 44, "nn": 5}}
    assert owners(after)[("ops", "Apply", "")] == {"f:spec": {"f:weights": {"f:gbm": {}}}}


def test_a_field_of_another_manager_is_a_conflict_that_names_both(api: Api) -> None:
    api.model(challengers=TWO)
    api.done("PATCH", FLIGHTS, {"spec": {"weights": {"gbm": 30}}}, MERGE, fieldManager="kubectl-patch")
    code, answer = api.apply(FLIGHTS, partial(weights={"gbm": 5, "nn": 1}), "helm")
    assert (code, answer["reason"]) == (409, "Conflict")
    assert answer["message"] == (
        'Apply failed with 1 conflict: conflict with "kubectl-patch" using kingmaker.dev/v1alpha1: .spec.weights.gbm'
    )
    assert answer["details"]["causes"][0]["reason"] == "FieldManagerConflict"
    assert api.done("GET", FLIGHTS)["spec"]["weights"] == {"gbm": 30}, "nothing changed"


def test_forced_the_field_changes_hands_and_back_again(api: Api) -> None:
    api.model(challengers=TWO)
    api.done("PATCH", FLIGHTS, {"spec": {"weights": {"gbm": 30}}}, MERGE, fieldManager="kubectl-patch")
    _, item = api.apply(FLIGHTS, partial(weights={"gbm": 5}), "helm", force=True)
    assert item["spec"]["weights"] == {"gbm": 5}
    assert ("kubectl-patch", "Update", "") not in owners(item)
    item = api.done("PATCH", FLIGHTS, {"spec": {"weights": {"gbm": 6}}}, MERGE, fieldManager="kubectl-patch")
    assert ("helm", "Apply", "") not in owners(item)
    assert api.apply(FLIGHTS, partial(weights={"gbm": 5}), "helm")[0] == 409


def test_the_same_value_is_owned_by_both_and_goes_with_the_last(api: Api) -> None:
    api.model(challengers=TWO)
    for manager in ("a", "b"):
        assert api.apply(FLIGHTS, partial(weights={"gbm": 7}), manager)[0] == 200
    assert api.apply(FLIGHTS, partial(), "a")[1]["spec"]["weights"] == {"gbm": 7}
    assert "weights" not in api.apply(FLIGHTS, partial(), "b")[1]["spec"]


def test_what_an_apply_no_longer_names_goes_unless_somebody_else_named_it(api: Api) -> None:
    api.apply(FLIGHTS, served_model(challengers=TWO, weights={"gbm": 1, "nn": 2}, paused=True), "ops")
    api.done("PATCH", FLIGHTS, {"spec": {"weights": {"nn": 9}}}, MERGE)
    _, item = api.apply(FLIGHTS, served_model(challengers=TWO), "ops")
    assert item["spec"]["weights"] == {"nn": 9}
    assert item["spec"]["paused"] is False, "the default is back"


def test_an_item_of_a_list_map_comes_and_goes_by_its_key(api: Api) -> None:
    api.apply(FLIGHTS, served_model(challengers=TWO[:1]), "a")
    _, item = api.apply(FLIGHTS, partial(challengers=TWO[1:]), "b")
    assert [c["name"] for c in item["spec"]["challengers"]] == ["gbm", "nn"]
    _, item = api.apply(FLIGHTS, served_model(), "a")
    assert [c["name"] for c in item["spec"]["challengers"]] == ["nn"]


def test_a_field_another_manager_put_into_an_item_stays_with_the_item(api: Api) -> None:
    api.apply(f"{DEPLOYMENTS}/d", deployment(), "kingmaker")
    resources = {"containers": [{"name": "server", "resources": {"limits": {"cpu": "1"}}}]}
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": {"spec": resources}}}
    assert api.apply(f"{DEPLOYMENTS}/d", body, "vpa")[0] == 200
    _, item = api.apply(f"{DEPLOYMENTS}/d", deployment("a:2"), "kingmaker")
    [container] = item["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "a:2"
    assert container["resources"] == {"limits": {"cpu": "1"}}


def test_replicas_left_out_belong_to_the_autoscaler(api: Api) -> None:
    api.apply(f"{DEPLOYMENTS}/d", deployment(replicas=2), "kingmaker")
    api.done("PATCH", f"{DEPLOYMENTS}/d", {"spec": {"replicas": 5}}, MERGE, fieldManager="hpa")
    _, item = api.apply(f"{DEPLOYMENTS}/d", deployment("a:2"), "kingmaker")
    assert item["spec"]["replicas"] == 5


def test_a_status_apply_replaces_the_managers_conditions_as_a_whole(api: Api) -> None:
    api.model()
    both = status(phase="Ready", conditions=[condition("Ready"), condition("Accepted")])
    _, item = api.apply(f"{FLIGHTS}/status", both, "controller", force=True)
    assert item["metadata"]["generation"] == 1
    assert owners(item)[("controller", "Apply", "status")]["f:status"]["f:phase"] == {}
    _, item = api.apply(f"{FLIGHTS}/status", status(phase="Ready", conditions=[condition("Ready")]), "controller")
    assert [c["type"] for c in item["status"]["conditions"]] == ["Ready"], "one left out is removed"


def test_a_status_apply_that_carries_spec_changes_no_spec(api: Api) -> None:
    before = api.model()
    body = {**served_model(paused=True), **status(phase="Ready")}
    code, after = api.apply(f"{FLIGHTS}/status", body, "controller")
    assert (code, after["spec"]) == (200, before["spec"])
    assert owners(after)[("controller", "Apply", "status")] == {"f:status": {"f:phase": {}}}


def test_a_change_through_the_main_resource_cannot_touch_status(api: Api) -> None:
    api.model()
    api.apply(f"{FLIGHTS}/status", status(phase="Ready"), "controller")
    _, item = api.apply(FLIGHTS, {**partial(paused=True), **status(phase="Forged")}, "ops", force=True)
    assert item["status"] == {"phase": "Ready"}


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        (partial(wieghts={"gbm": 1}), 500, ".spec.wieghts: field not declared in schema"),
        ({"kind": "ServedModel", "spec": {}}, 400, "apiVersion"),
        (partial(weights={"gbm": 101}), 422, "less than or equal to 100"),
        ({**partial(), "metadata": {"name": "other"}}, 400, "does not match"),
        ({**partial(), "metadata": {"managedFields": [{"manager": "x"}]}}, 400, "managedFields must be nil"),
    ],
)
def test_an_apply_that_makes_no_sense_is_refused(api: Api, body: Any, code: int, text: str) -> None:
    api.model()
    found, answer = api.apply(FLIGHTS, body, "ops")
    assert (found, text in answer["message"]) == (code, True), answer


def test_an_apply_needs_a_manager(api: Api) -> None:
    assert api("PATCH", FLIGHTS, served_model(), "application/apply-patch+yaml")[0] == 400


def test_ports_without_a_protocol_have_one_key(api: Api) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "spec": {"selector": {"a": "b"}, "ports": [{"port": 80, "name": "x"}]},
    }
    path = "/api/v1/namespaces/default/services/s"
    api.apply(path, service, "a")
    _, item = api.apply(path, service, "a")
    assert item["spec"]["ports"] == [{"port": 80, "name": "x", "protocol": "TCP", "targetPort": 80}]
