"""The fake apiserver counts versions, keeps status apart and notices races as the API conventions say."""

import threading
from typing import Any

from tests.fakes.apiserver_requests import APPLY, JSON, MERGE, SM, Api, served_model

FLIGHTS = f"{SM}/flights"
CONFIGMAPS = "/api/v1/namespaces/default/configmaps"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"


def lease(holder: str) -> dict[str, Any]:
    meta = {"name": "leader"}
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": meta,
        "spec": {"holderIdentity": holder},
    }


def test_every_write_has_a_version_of_its_own_across_kinds(api: Api) -> None:
    first = api.model()
    other = api.done("POST", LEASES, lease("a"))
    second = api.done("PATCH", FLIGHTS, {"spec": {"paused": True}}, MERGE)
    versions = [int(item["metadata"]["resourceVersion"]) for item in (first, other, second)]
    assert versions == sorted(set(versions))


def test_a_write_that_changes_nothing_is_none(api: Api) -> None:
    before = api.model()
    assert api.done("PATCH", FLIGHTS, {"spec": {"paused": False}}, MERGE) == before
    assert api.done("PUT", FLIGHTS, before) == before


def test_generation_counts_changes_of_spec_alone(api: Api) -> None:
    assert api.model()["metadata"]["generation"] == 1
    assert api.done("PATCH", FLIGHTS, {"metadata": {"labels": {"a": "b"}}}, MERGE)["metadata"]["generation"] == 1
    assert api.done("PATCH", f"{FLIGHTS}/status", {"status": {"phase": "Ready"}}, MERGE)["metadata"]["generation"] == 1
    assert api.done("PATCH", FLIGHTS, {"spec": {"paused": True}}, MERGE)["metadata"]["generation"] == 2


def test_clients_cannot_set_what_the_server_counts(api: Api) -> None:
    body = served_model()
    body["metadata"] |= {"uid": "mine", "generation": 7, "creationTimestamp": "2001-01-01T00:00:00Z"}
    meta = api.done("POST", SM, body)["metadata"]
    assert (meta["uid"], meta["generation"], meta["creationTimestamp"][:2]) != ("mine", 7, "2001")
    assert meta["generation"] == 1
    patched = api.done("PATCH", FLIGHTS, {"metadata": {"generation": 9, "labels": {"a": "b"}}}, MERGE)
    assert patched["metadata"]["generation"] == 1


def test_status_is_dropped_on_creation_and_from_the_main_resource(api: Api) -> None:
    created = api.done("POST", SM, {**served_model(), "status": {"phase": "Forged"}})
    assert "status" not in created
    patched = api.done("PATCH", FLIGHTS, {"status": {"phase": "Forged"}, "spec": {"paused": True}}, MERGE)
    assert "status" not in patched


def test_a_write_to_status_leaves_spec_and_metadata_alone(api: Api) -> None:
    before = api.model()
    body = {"metadata": {"labels": {"a": "b"}}, "spec": {"paused": True}, "status": {"phase": "Ready"}}
    after = api.done("PATCH", f"{FLIGHTS}/status", body, MERGE)
    assert after["status"] == {"phase": "Ready"}
    assert after["spec"] == before["spec"]
    assert "labels" not in after["metadata"]


def test_a_stale_put_is_a_conflict_and_changes_nothing(api: Api) -> None:
    stale = api.model()
    api.done("PATCH", FLIGHTS, {"spec": {"paused": True}}, MERGE)
    code, answer = api("PUT", FLIGHTS, stale)
    assert (code, answer["reason"]) == (409, "Conflict")
    assert "the object has been modified" in answer["message"]
    assert api.done("GET", FLIGHTS)["spec"]["paused"] is True


def test_a_put_of_a_custom_resource_needs_its_version(api: Api) -> None:
    item = api.model()
    del item["metadata"]["resourceVersion"]
    code, answer = api("PUT", FLIGHTS, item)
    assert (code, answer["details"]["causes"][0]["field"]) == (422, "metadata.resourceVersion")


def test_a_put_without_version_is_refused_by_a_lease_and_wins_over_a_config_map(api: Api) -> None:
    api.done("POST", LEASES, lease("a"))
    assert api("PUT", f"{LEASES}/leader", lease("b"))[0] == 422
    api.done("POST", CONFIGMAPS, {"metadata": {"name": "x"}})
    assert api.done("PUT", f"{CONFIGMAPS}/x", {"metadata": {"name": "x"}, "data": {"a": "b"}})["data"] == {"a": "b"}


def test_a_put_creates_a_lease_and_nothing_else(api: Api) -> None:
    assert api.done("PUT", f"{LEASES}/leader", lease("a"))["metadata"]["uid"]
    assert api("PUT", f"{CONFIGMAPS}/x", {"metadata": {"name": "x"}})[0] == 404


def test_a_patch_that_names_a_stale_version_is_a_conflict(api: Api) -> None:
    stale = api.model()["metadata"]["resourceVersion"]
    api.done("PATCH", FLIGHTS, {"spec": {"paused": True}}, MERGE)
    body = {"metadata": {"resourceVersion": stale}, "spec": {"paused": False}}
    assert api("PATCH", FLIGHTS, body, MERGE)[0] == 409
    operations = [{"op": "test", "path": "/metadata/resourceVersion", "value": stale}]
    assert api("PATCH", FLIGHTS, operations, JSON)[0] == 422


def test_an_object_that_came_anew_is_not_the_old_one(api: Api) -> None:
    old = api.done("POST", CONFIGMAPS, {"metadata": {"name": "x"}})
    api.done("DELETE", f"{CONFIGMAPS}/x")
    api.done("POST", CONFIGMAPS, {"metadata": {"name": "x"}})
    code, answer = api("PUT", f"{CONFIGMAPS}/x", {"metadata": {"name": "x", "uid": old["metadata"]["uid"]}})
    assert code == 409
    assert "UID in precondition" in answer["message"]


def test_of_many_who_write_one_version_one_wins(api: Api) -> None:
    version = api.done("POST", LEASES, lease(""))["metadata"]["resourceVersion"]
    codes: list[int] = []

    def take(name: str) -> None:
        body = {**lease(name), "metadata": {"name": "leader", "resourceVersion": version}}
        codes.append(Api(api.server)("PUT", f"{LEASES}/leader", body)[0])

    threads = [threading.Thread(target=take, args=(str(i),)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == [200] + [409] * 7


def test_what_exists_cannot_be_created_and_what_is_not_there_not_changed(api: Api) -> None:
    api.model()
    code, answer = api("POST", SM, served_model())
    assert (code, answer["reason"]) == (409, "AlreadyExists")
    for method, path in (("GET", f"{SM}/x"), ("DELETE", f"{SM}/x"), ("GET", "/apis/kingmaker.dev/v1alpha1/nothings")):
        assert api(method, path)[0] == 404
    assert api("PATCH", f"{SM}/x", {"spec": {}}, MERGE)[0] == 404
    assert api("PATCH", f"{SM}/x/status", served_model("x"), APPLY, fieldManager="a")[0] == 404
    assert api("POST", SM.replace("default", "nowhere"), served_model())[0] == 404


def test_a_dry_run_answers_and_stores_nothing(api: Api) -> None:
    assert api("POST", f"{SM}", served_model(), dryRun="All")[0] == 201
    assert api("GET", FLIGHTS)[0] == 404


def test_a_body_in_protobuf_is_refused_with_415(api: Api) -> None:
    assert api("POST", SM, served_model(), "application/vnd.kubernetes.protobuf")[0] == 415


def test_defaults_of_the_schema_are_filled_in(api: Api) -> None:
    spec = api.model(challengers=[{"name": "gbm", "model": "models:/flights/2"}])["spec"]
    assert spec["mode"] == "Canary"
    assert spec["challengers"][0]["maxWeight"] == 100
    assert spec["limits"]["deadlineMilliseconds"] == 1000
    assert "weights" not in spec
