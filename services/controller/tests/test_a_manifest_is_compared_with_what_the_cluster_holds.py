"""What counts as another object than was applied, and what is somebody else's to add."""

from typing import Any

import pytest

from kingmaker_controller.kube.api import AUTOSCALER, SERVICE
from kingmaker_controller.runtimes import applying, children
from kingmaker_controller.runtimes.children import Children

OWNER = {"apiVersion": "kingmaker.dev/v1alpha1", "kind": "ServedModel", "name": "flights", "uid": "u1"}


def service(**spec: Any) -> dict[str, Any]:
    meta = {"name": "km-a", "namespace": "shop", "labels": {"x": "1"}, "ownerReferences": [OWNER]}
    ports = [{"name": "http", "port": 8080}]
    told = {"clusterIP": "None", "selector": {"id": "km-a"}, "ports": ports, **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": told}


def as_served(manifest: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """With what an API server and other people add."""
    meta = {**manifest["metadata"], "uid": "u2", "resourceVersion": "7", "creationTimestamp": "2026-11-21T00:00:00Z"}
    return {**manifest, "metadata": meta, "spec": {**manifest["spec"], "sessionAffinity": "None", **spec}}


@pytest.mark.parametrize(
    ("spec", "is_as_it_should_be"),
    [
        ({}, True),
        ({"ports": [{"name": "debug", "port": 1}, {"name": "http", "port": 8080, "protocol": "TCP"}]}, True),
        ({"ports": [{"name": "http", "port": 80}]}, False),
        ({"ports": []}, False),
        ({"selector": {"id": "km-a", "canary": "yes"}}, True),
        ({"selector": {"id": "km-b"}}, False),
        ({"clusterIP": "10.0.0.1"}, False),
        ({"selector": None}, False),
    ],
)
def test_an_object_is_right_when_it_says_what_its_manifest_says(spec: Any, is_as_it_should_be: bool) -> None:
    known = Children()
    assert not known.is_as(service())
    known.note(SERVICE, "km-a", as_served(service(), **spec))
    assert known.is_as(service()) is is_as_it_should_be


def test_a_label_that_is_gone_matters_and_one_that_was_added_does_not() -> None:
    known = Children()
    live = as_served(service())
    live["metadata"]["labels"] = {"x": "1", "team": "a"}
    known.note(SERVICE, "km-a", live)
    assert known.is_as(service())
    live["metadata"]["labels"] = {"team": "a"}
    known.note(SERVICE, "km-a", live)
    assert not known.is_as(service())


def test_only_news_that_matter_are_reported_and_with_the_model() -> None:
    known = Children()
    live = as_served(service())
    assert known.note(SERVICE, "km-a", live) == "shop/flights"
    again = {**live, "metadata": {**live["metadata"], "resourceVersion": "8"}, "status": {"loadBalancer": {}}}
    assert known.note(SERVICE, "km-a", children.slim(again)) == ""
    assert known.of("shop/flights", [SERVICE, AUTOSCALER]) == [(SERVICE, "km-a")]
    assert known.note(SERVICE, "km-a", None) == "shop/flights"
    assert known.note(SERVICE, "km-a", None) == ""
    assert known.of("shop/flights", [SERVICE]) == []


def test_an_object_that_belongs_to_no_model_is_nobodys_news() -> None:
    stray = as_served(service())
    stray["metadata"]["ownerReferences"] = []
    assert Children().note(SERVICE, "km-a", stray) == ""


@pytest.mark.parametrize(
    ("entry", "is_touched"),
    [
        ({"manager": "kingmaker-controller", "fieldsV1": {"f:spec": {}}}, False),
        ({"manager": "kingmaker-controller-replicas", "fieldsV1": {"f:spec": {}}}, False),
        ({"manager": "kube-controller-manager", "subresource": "scale", "fieldsV1": {"f:spec": {}}}, False),
        ({"manager": "kube-controller-manager", "subresource": "status", "fieldsV1": {"f:status": {}}}, False),
        ({"manager": "somebody", "fieldsV1": {"f:metadata": {}}}, False),
        ({"manager": "kubectl-edit", "fieldsV1": {"f:spec": {}}}, True),
    ],
)
def test_a_deployment_others_had_their_hands_in_is_known_by_who_owns_its_fields(entry: Any, is_touched: bool) -> None:
    deployment = {"metadata": {"name": "d", "managedFields": [entry]}, "spec": {"replicas": 2}}
    assert applying.is_touched(deployment) is is_touched
    assert (applying.TOUCHED in applying.slim(deployment)["metadata"]) is is_touched
