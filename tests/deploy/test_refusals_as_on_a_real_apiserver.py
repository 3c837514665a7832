"""What was tried on a real kube-apiserver with a sketch of this CRD, tried again: the same answers, row by row."""

import json
from typing import Any

import kubernetes.client as k8s
import pytest

from tests.deploy.conftest import Kubectl
from tests.fakes.fake_apiserver import FakeApiserver

PLACE = ("kingmaker.dev", "v1alpha1", "default", "servedmodels")
GBM, NN = {"name": "gbm", "model": "models:/f/2"}, {"name": "nn", "model": "models:/f/3"}
LR = {"name": "lr", "model": "models:/f/1"}
GATE = {"name": "g", "metric": "auc", "type": "NonInferiority"}
APPLY = "application/apply-patch+yaml"


def served_model(**spec: Any) -> dict[str, Any]:
    about = {"apiVersion": "kingmaker.dev/v1alpha1", "kind": "ServedModel", "metadata": {"name": "flights"}}
    return {**about, "spec": {"champion": LR, **spec}}


@pytest.fixture
def models(server: FakeApiserver) -> k8s.CustomObjectsApi:
    return k8s.CustomObjectsApi(k8s.ApiClient(k8s.Configuration(host=server.url)))


def refusal(models: k8s.CustomObjectsApi, **spec: Any) -> str:
    with pytest.raises(k8s.ApiException) as caught:
        models.create_namespaced_custom_object(*PLACE, served_model(**spec))
    assert caught.value.status == 422 and caught.value.body is not None
    return str(json.loads(caught.value.body)["message"])


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"challengers": [GBM, NN], "weights": {"gbm": 90, "nn": 11}}, "challenger weights add up to more than 100"),
        ({"challengers": [GBM], "weights": {"lr": 5}}, "weights names something that is no challenger"),
        ({"challengers": [GBM], "weights": {"gmb": 5}}, "weights names something that is no challenger"),
        ({"challengers": [GBM], "weights": {"gbm": -1}}, "spec.weights.gbm: Invalid value: -1"),
        ({"challengers": [GBM], "weights": {"gbm": 5.5}}, "spec.weights.gbm in body must be of type integer"),
        ({"challengers": [GBM], "weights": {"gbm": "7"}}, "spec.weights.gbm in body must be of type integer"),
        ({"challengers": [GBM, GBM]}, 'spec.challengers[1]: Duplicate value: {"name":"gbm"}'),
        ({"challengers": [{**GBM, "name": "lr"}]}, "a challenger cannot carry the champion's name"),
        ({"mode": "ABTest"}, "mode ABTest needs spec.sticky"),
        ({"mode": "BlueGreen", "challengers": [GBM, NN]}, "mode BlueGreen needs exactly one challenger"),
        ({"mode": "Shadow", "challengers": [GBM], "weights": {"gbm": 1}}, "mode Shadow gives challengers no live"),
        ({"rollout": {"steps": [{"weight": 5}, {"weight": 3}]}}, "step weights must not fall"),
        ({"rollout": {"steps": [{"weight": 5, "mirrorPercent": 5}]}}, "a step has either weight or mirrorPercent"),
        ({"gates": [GATE]}, "a NonInferiority gate needs exactly one of margin and relativeMargin"),
        ({"gates": [{**GATE, "margin": "1", "relativeMargin": "1"}]}, "a NonInferiority gate needs exactly one of"),
        ({"gates": [{**GATE, "type": "Absolute"}]}, "an Absolute gate needs min or max"),
        ({"challengers": [{"name": "gbm"}]}, "a challenger needs exactly one of model and modelAlias"),
        ({"challengers": [{**GBM, "modelAlias": "a"}]}, "a challenger needs exactly one of model and modelAlias"),
        (
            {"gates": [{**GATE, "metric": "f1"}]},
            'spec.gates[0].metric: Unsupported value: "f1": supported values: "acc',
        ),
        ({"weights": {"gbm": "x"}, "mode": "ABTest"}, "some validation rules were not checked"),
        ({"rollout": {"strategy": "Automatic"}}, "Automatic is not supported yet; use Manual"),
    ],
)
def test_a_resource_that_breaks_a_rule_is_refused_at_the_api(
    models: k8s.CustomObjectsApi, spec: dict[str, Any], text: str
) -> None:
    assert text in refusal(models, **spec)


def test_a_challenger_and_its_weight_go_in_one_patch(kubectl: Kubectl, models: k8s.CustomObjectsApi) -> None:
    models.create_namespaced_custom_object(*PLACE, served_model(challengers=[GBM], weights={"gbm": 5}))
    patch = ("patch", "sm", "flights", "--type", "merge", "-p")
    assert "weights names something that is no challenger" in kubectl.refuses(*patch, '{"spec":{"challengers":[]}}')
    kubectl.says(*patch, '{"spec":{"challengers":[],"weights":{"gbm":null}}}')
    assert kubectl.says("get", "sm", "flights", "-o", "jsonpath={.spec.challengers}{.spec.weights}") == "[]{}"


def test_a_refusal_is_a_sentence_for_people(kubectl: Kubectl) -> None:
    spec = served_model(challengers=[GBM, NN], weights={"gbm": 90, "nn": 11})
    error = kubectl.refuses("apply", "-f", "-", stdin=json.dumps(spec))
    assert error == (
        'The ServedModel "flights" is invalid: spec.weights: Invalid value: "object": '
        "challenger weights add up to more than 100; the champion gets what is left\n"
    )


def test_status_by_server_side_apply_leaves_spec_and_generation_alone(models: k8s.CustomObjectsApi) -> None:
    models.create_namespaced_custom_object(*PLACE, served_model())
    how: dict[str, Any] = {"field_manager": "kingmaker-controller", "force": True, "_content_type": APPLY}

    def apply(*types: str) -> dict[str, Any]:
        found = {"status": "True", "reason": "R", "message": "", "observedGeneration": 1}
        moment = {"lastTransitionTime": "2026-11-21T05:00:00Z"}
        body = {"apiVersion": "kingmaker.dev/v1alpha1", "kind": "ServedModel"}
        status = {"status": {"conditions": [{"type": t, **found, **moment} for t in types]}}
        told: Any = models.patch_namespaced_custom_object_status(*PLACE, "flights", body | status, **how)
        return dict(told)

    first = apply("Ready", "Programmed")
    assert (first["metadata"]["generation"], first["spec"]["champion"]["name"]) == (1, "lr")
    second = apply("Ready")
    assert [one["type"] for one in second["status"]["conditions"]] == ["Ready"], "one left out is removed"


def test_a_watch_from_long_ago_is_410_at_once(server: FakeApiserver, models: k8s.CustomObjectsApi) -> None:
    models.create_namespaced_custom_object(*PLACE, served_model())
    server.cluster.store.compact()
    from kubernetes import watch

    with pytest.raises(k8s.ApiException) as caught:
        list(
            watch.Watch().stream(models.list_namespaced_custom_object, *PLACE, resource_version="1", timeout_seconds=2)
        )
    assert caught.value.status == 410
    assert "too old resource version" in str(caught.value.reason)


def test_a_watch_with_a_time_limit_ends_quietly(models: k8s.CustomObjectsApi) -> None:
    from kubernetes import watch

    models.create_namespaced_custom_object(*PLACE, served_model())
    listed: Any = models.list_namespaced_custom_object(*PLACE)
    version = listed["metadata"]["resourceVersion"]
    stream = watch.Watch().stream(
        models.list_namespaced_custom_object, *PLACE, resource_version=version, timeout_seconds=1
    )
    assert list(stream) == []


def test_a_lease_is_replaced_by_compare_and_swap(server: FakeApiserver) -> None:
    leases = k8s.CoordinationV1Api(k8s.ApiClient(k8s.Configuration(host=server.url)))
    body = k8s.V1Lease(metadata=k8s.V1ObjectMeta(name="leader"), spec=k8s.V1LeaseSpec(holder_identity="a"))
    stale = leases.create_namespaced_lease("default", body)
    fresh = leases.read_namespaced_lease("leader", "default")
    assert fresh.spec is not None and stale.spec is not None
    fresh.spec.holder_identity = "b"
    leases.replace_namespaced_lease("leader", "default", fresh)
    stale.spec.holder_identity = "c"
    with pytest.raises(k8s.ApiException) as caught:
        leases.replace_namespaced_lease("leader", "default", stale)
    assert caught.value.status == 409


def test_a_deployment_is_created_and_updated_by_apply(server: FakeApiserver) -> None:
    apps = k8s.AppsV1Api(k8s.ApiClient(k8s.Configuration(host=server.url)))
    labels = {"app": "d"}
    pod: dict[str, Any] = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "s", "image": "a:1"}]}}
    spec = {"selector": {"matchLabels": labels}, "template": pod}
    body: dict[str, Any] = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec}
    how: dict[str, Any] = {"field_manager": "kingmaker-controller", "force": True, "_content_type": APPLY}
    created = apps.patch_namespaced_deployment("d", "default", body, **how).metadata
    again = apps.patch_namespaced_deployment("d", "default", body, **how).metadata
    assert created is not None and again is not None
    assert again.resource_version == created.resource_version
    pod["spec"]["containers"][0]["image"] = "a:2"
    updated = apps.patch_namespaced_deployment("d", "default", body, **how)
    assert updated.metadata is not None and created.generation is not None
    assert updated.metadata.generation == created.generation + 1
    assert updated.spec.template.spec is not None
    assert updated.spec.template.spec.containers[0].image == "a:2"
