"""Removal with finalizers, owners and preconditions; lists in pages, by selector, and as tables; events."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes.apiserver_requests import MERGE, SM, Api

FLIGHTS = f"{SM}/flights"
CONFIGMAPS = "/api/v1/namespaces/default/configmaps"


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def child(api: Api, name: str, *owners: dict[str, Any], **more: Any) -> dict[str, Any]:
    references = [
        {"apiVersion": o["apiVersion"], "kind": o["kind"], "name": o["metadata"]["name"], "uid": o["metadata"]["uid"]}
        for o in owners
    ]
    return dict(api.done("POST", CONFIGMAPS, {"metadata": {"name": name, "ownerReferences": references, **more}}))


def is_gone(api: Api, path: str) -> bool:
    return api("GET", path)[0] == 404


def test_an_object_with_finalizers_waits_for_the_last_of_them(api: Api) -> None:
    api.model()
    api.done("PATCH", FLIGHTS, {"metadata": {"finalizers": ["kingmaker.dev/drain", "x.dev/y"]}}, MERGE)
    marked = api.done("DELETE", FLIGHTS)
    assert marked["metadata"]["deletionTimestamp"]
    assert marked["metadata"]["generation"] == 2, "marking counts as a change"
    assert api.done("DELETE", FLIGHTS) == marked
    api.done("PATCH", FLIGHTS, {"metadata": {"finalizers": ["x.dev/y"]}}, MERGE)
    assert api.done("GET", FLIGHTS)["metadata"]["deletionTimestamp"] == marked["metadata"]["deletionTimestamp"]
    api.done("PATCH", FLIGHTS, {"metadata": {"finalizers": None}}, MERGE)
    assert is_gone(api, FLIGHTS)


def test_children_go_after_their_owner_and_theirs_after_them(api: Api) -> None:
    owner = api.model()
    middle = child(api, "middle", owner)
    child(api, "leaf", middle)
    child(api, "other")
    api.done("DELETE", FLIGHTS)
    until(lambda: is_gone(api, f"{CONFIGMAPS}/leaf"))
    assert not is_gone(api, f"{CONFIGMAPS}/other")


def test_a_child_with_another_living_owner_stays(api: Api) -> None:
    first, second = api.model("a"), api.model("b")
    child(api, "shared", first, second)
    child(api, "own", first)
    api.done("DELETE", f"{SM}/a")
    until(lambda: is_gone(api, f"{CONFIGMAPS}/own"))
    assert not is_gone(api, f"{CONFIGMAPS}/shared")


def test_a_child_of_an_owner_that_never_was_goes(api: Api) -> None:
    ghost = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x", "uid": "nobody"}}
    child(api, "orphan", ghost)
    until(lambda: is_gone(api, f"{CONFIGMAPS}/orphan"))


def test_orphaned_children_stay_without_their_owner(api: Api) -> None:
    child(api, "kept", api.model())
    api.done("DELETE", FLIGHTS, propagationPolicy="Orphan")
    until(lambda: is_gone(api, FLIGHTS))
    assert not api.done("GET", f"{CONFIGMAPS}/kept")["metadata"]["ownerReferences"]


def test_in_the_foreground_the_owner_goes_last(api: Api) -> None:
    child(api, "slow", api.model(), finalizers=["x.dev/y"])
    api.done("DELETE", FLIGHTS, propagationPolicy="Foreground")
    until(lambda: "deletionTimestamp" in api.done("GET", f"{CONFIGMAPS}/slow")["metadata"])
    assert not is_gone(api, FLIGHTS)
    api.done("PATCH", f"{CONFIGMAPS}/slow", {"metadata": {"finalizers": None}}, MERGE)
    until(lambda: is_gone(api, FLIGHTS))


def test_a_removal_meant_for_another_object_is_a_conflict(api: Api) -> None:
    item = api.model()
    assert api("DELETE", FLIGHTS, {"preconditions": {"uid": "other"}})[0] == 409
    assert api("DELETE", FLIGHTS, {"preconditions": {"uid": item["metadata"]["uid"]}})[0] == 200


def test_a_selection_is_removed_at_once(api: Api) -> None:
    for name, team in (("a", "x"), ("b", "y"), ("c", "x")):
        child(api, name, labels={"team": team})
    api.done("DELETE", CONFIGMAPS, labelSelector="team=x")
    assert [item["metadata"]["name"] for item in api.done("GET", CONFIGMAPS)["items"]] == ["b"]


def test_a_list_comes_in_pages_of_one_moment(api: Api) -> None:
    for i in range(5):
        api.model(f"m{i}")
    page = api.done("GET", SM, limit=2)
    names, version = [i["metadata"]["name"] for i in page["items"]], page["metadata"]["resourceVersion"]
    assert page["metadata"]["remainingItemCount"] == 3
    api.done("POST", CONFIGMAPS, {"metadata": {"name": "x"}})
    while token := page["metadata"].get("continue"):
        page = api.done("GET", SM, limit=2, **{"continue": token})
        assert page["metadata"]["resourceVersion"] == version
        names += [i["metadata"]["name"] for i in page["items"]]
    assert names == [f"m{i}" for i in range(5)]


def test_a_page_of_a_forgotten_moment_is_410(api: Api) -> None:
    api.model("a")
    api.model("b")
    token = api.done("GET", SM, limit=1)["metadata"]["continue"]
    api.model("c")
    api.server.cluster.store.compact()
    assert api("GET", SM, limit=1, **{"continue": token})[0] == 410
    assert api("GET", SM, limit=1, **{"continue": "nonsense"})[0] == 400


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("team=x", ["a"]),
        ("team==x", ["a"]),
        ("team!=x", ["b", "c"]),
        ("team", ["a", "b"]),
        ("!team", ["c"]),
        ("team in (x, y)", ["a", "b"]),
        ("team notin (x)", ["b", "c"]),
        ("team in (x,y),tier=1", ["b"]),
        ("", ["a", "b", "c"]),
    ],
)
def test_label_selectors_of_every_form(api: Api, selector: str, names: list[str]) -> None:
    child(api, "a", labels={"team": "x"})
    child(api, "b", labels={"team": "y", "tier": "1"})
    child(api, "c")
    found = api.done("GET", CONFIGMAPS, labelSelector=selector)["items"]
    assert [item["metadata"]["name"] for item in found] == names


def test_a_field_that_cannot_be_selected_by_is_a_bad_request(api: Api) -> None:
    child(api, "a")
    child(api, "b")
    found = api.done("GET", CONFIGMAPS, fieldSelector="metadata.name!=a")["items"]
    assert [item["metadata"]["name"] for item in found] == ["b"]
    assert api("GET", CONFIGMAPS, fieldSelector="data.x=1")[0] == 400


def test_a_table_shows_the_columns_of_the_crd(api: Api) -> None:
    api.model()
    ready = {"type": "Ready", "status": "True", "reason": "Serving", "message": "", "observedGeneration": 1}
    conditions = [{**ready, "type": "Accepted"}, ready]
    for one in conditions:
        one["lastTransitionTime"] = "2026-11-21T05:00:00Z"
    summary = {"summary": {"weights": "gbm=20"}, "conditions": conditions, "phase": "Stable"}
    api.done("PATCH", f"{FLIGHTS}/status", {"status": summary}, MERGE)
    accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
    table = api.http.get(SM, headers={"Accept": accept}).json()
    columns = [c["name"] for c in table["columnDefinitions"] if not c["priority"]]
    assert columns == ["Name", "Mode", "Phase", "Champion", "Weights", "Ready", "Age"]
    [row] = table["rows"]
    assert row["cells"][:6] == ["flights", "Canary", "Stable", "", "gbm=20", "True"]
    assert row["object"]["kind"] == "PartialObjectMetadata"


def test_an_event_of_either_api_is_one_object(api: Api) -> None:
    uid = api.model()["metadata"]["uid"]
    about = {"kind": "ServedModel", "name": "flights", "namespace": "default", "uid": uid}
    event = {"metadata": {"name": "e1"}, "regarding": about, "note": "gbm got 20", "reason": "WeightChanged",
             "type": "Normal", "action": "Route", "reportingController": "kingmaker.dev/controller",
             "reportingInstance": "pod-1", "eventTime": "2026-11-21T05:00:00.000000Z"}  # fmt: skip
    api.done("POST", "/apis/events.k8s.io/v1/namespaces/default/events", event)
    selector = f"involvedObject.uid={uid},involvedObject.name=flights"
    [core] = api.done("GET", "/api/v1/namespaces/default/events", fieldSelector=selector)["items"]
    assert (core["message"], core["involvedObject"]["uid"]) == ("gbm got 20", uid)
    [new] = api.done("GET", "/apis/events.k8s.io/v1/namespaces/default/events")["items"]
    assert (new["note"], new["apiVersion"]) == ("gbm got 20", "events.k8s.io/v1")
    body = {"series": {"count": 2, "lastObservedTime": "2026-11-21T05:01:00.000000Z"}}
    patched = api.done("PATCH", "/apis/events.k8s.io/v1/namespaces/default/events/e1", body, MERGE)
    assert patched["series"]["count"] == 2


def test_a_crd_given_later_is_served_and_taken_away_again(api: Api) -> None:
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object"}}}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    names = {"plural": "crowns", "kind": "Crown"}
    spec = {"group": "x.dev", "scope": "Namespaced", "names": names, "versions": [version]}
    crd = api.done("POST", crds, {"metadata": {"name": "crowns.x.dev"}, "spec": spec})
    assert {c["type"] for c in crd["status"]["conditions"]} == {"Established", "NamesAccepted"}
    path = "/apis/x.dev/v1/namespaces/default/crowns"
    assert api.done("GET", path)["kind"] == "CrownList"
    api.done("DELETE", f"{crds}/crowns.x.dev")
    assert api("GET", path)[0] == 404
