"""Replicas go over to an autoscaler and back, and what somebody else does to a variant's objects is undone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cluster.conftest import a_stage
from tests.cluster.pretended import Answers

LR = {"name": "lr", "model": "models:/flights/1", "replicas": 3}
MERGE = {"content-type": "application/merge-patch+json"}


@pytest.fixture
def settled(tmp_path: Path) -> Iterator[Any]:
    """A champion with three pretended pods."""
    answers = Answers()
    with a_stage(tmp_path, runner=answers) as stage:
        stage.controller()
        assert stage.create({"champion": LR}).status_code == 201
        stage.until(lambda: stage.condition("VariantsReady")["status"] == "True", "the champion is ready", 60)
        stage.until(lambda: len(stage.all("pods")) == 3, "it has its pods")
        yield stage
    answers.close()


def replicas(stage: Any) -> int:
    return int(stage.deployments()["lr"]["spec"]["replicas"])


def change(stage: Any, what: dict[str, Any], manager: str) -> None:
    name = stage.deployments()["lr"]["metadata"]["name"]
    url = f"{stage.server.url}/apis/apps/v1/namespaces/default/deployments/{name}"
    httpx.patch(url, params={"fieldManager": manager}, json=what, headers=MERGE, trust_env=False).raise_for_status()


def test_an_autoscaler_gets_the_replicas_without_a_dip_and_gives_them_back(settled: Any) -> None:
    stage = settled
    stage.patch({"champion": {"autoscaling": {"maxReplicas": 6}}})
    stage.until(lambda: stage.all("horizontalpodautoscalers.autoscaling"), "there is an autoscaler")
    stage.until(lambda: stage.condition("Accepted")["observedGeneration"] == 2, "the edit was seen")
    assert replicas(stage) == 3
    change(stage, {"spec": {"replicas": 5}}, "kube-controller-manager")
    stage.patch({"champion": {"resources": {"cpu": "2"}}})
    stage.until(lambda: "cpu" in str(stage.deployments()["lr"]) and '"2"' in as_text(stage), "another edit is applied")
    assert replicas(stage) == 5, "the autoscaler's number stays"
    stage.patch({"champion": {"autoscaling": None}})
    stage.until(lambda: not stage.all("horizontalpodautoscalers.autoscaling"), "the autoscaler is gone")
    stage.until(lambda: replicas(stage) == 3, "the spec's number counts again")


def as_text(stage: Any) -> str:
    return str(stage.deployments()["lr"]["spec"]["template"]["spec"]).replace("'", '"')


def test_somebody_elses_edit_of_a_deployment_is_undone_and_a_deleted_one_made_again(settled: Any) -> None:
    stage = settled
    containers = stage.deployments()["lr"]["spec"]["template"]["spec"]["containers"]
    strange = [{**containers[0], "image": "somebody/else:1"}]
    change(stage, {"spec": {"template": {"spec": {"containers": strange}}}}, "kubectl-edit")
    stage.until(lambda: "somebody/else" not in as_text(stage), "the image is ours again")
    change(stage, {"spec": {"replicas": 1}}, "kubectl-scale")
    stage.until(lambda: replicas(stage) == 3, "so are the replicas")
    uid = stage.deployments()["lr"]["metadata"]["uid"]
    name = stage.deployments()["lr"]["metadata"]["name"]
    url = f"{stage.server.url}/apis/apps/v1/namespaces/default/deployments/{name}"
    httpx.delete(url, trust_env=False).raise_for_status()
    stage.until(lambda: stage.deployments()["lr"]["metadata"]["uid"] != uid, "it is made again")
    stage.until(lambda: stage.condition("VariantsReady")["status"] == "True", "and ready")
    assert replicas(stage) == 3


PATHS = {
    "services": "/api/v1/namespaces/default/services",
    "poddisruptionbudgets.policy": "/apis/policy/v1/namespaces/default/poddisruptionbudgets",
    "horizontalpodautoscalers.autoscaling": "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers",
    "servicemonitors.monitoring.coreos.com": "/apis/monitoring.coreos.com/v1/namespaces/default/servicemonitors",
}
WRONG = {
    "services": {"spec": {"selector": {"kingmaker.dev/id": "nobody"}}},
    "poddisruptionbudgets.policy": {"spec": {"maxUnavailable": 3}},
    "horizontalpodautoscalers.autoscaling": {"spec": {"maxReplicas": 99}},
    "servicemonitors.monitoring.coreos.com": {"metadata": {"labels": {"app.kubernetes.io/managed-by": "me"}}},
}


def url_of(stage: Any, kind: str) -> str:
    return f"{stage.server.url}{PATHS[kind]}/{stage.all(kind)[0]['metadata']['name']}"


def test_every_kind_of_child_is_put_right_at_once_when_it_is_edited_or_deleted(settled: Any) -> None:
    stage = settled
    stage.patch({"champion": {"autoscaling": {"maxReplicas": 6}}})
    stage.until(lambda: all(stage.all(kind) for kind in PATHS), "there is one of each")
    stage.until(lambda: stage.condition("Accepted")["observedGeneration"] == 2, "the edit was seen")
    right = {kind: stage.all(kind)[0] for kind in PATHS}
    for kind, wrong in WRONG.items():
        query = {"fieldManager": "kubectl-edit"}
        httpx.patch(url_of(stage, kind), params=query, json=wrong, headers=MERGE, trust_env=False).raise_for_status()
    for kind in PATHS:
        stage.until(lambda kind=kind: stage.all(kind)[0]["spec"] == right[kind]["spec"], f"{kind} says what it said")
        labels = right[kind]["metadata"]["labels"]
        stage.until(lambda k=kind, w=labels: stage.all(k)[0]["metadata"]["labels"] == w, f"{kind} has its labels")
    for kind in PATHS:
        httpx.delete(url_of(stage, kind), trust_env=False).raise_for_status()
    for kind in PATHS:
        uid = right[kind]["metadata"]["uid"]
        stage.until(lambda k=kind, u=uid: stage.all(k)[0]["metadata"]["uid"] != u, f"{kind} is made again")
        assert stage.all(kind)[0]["spec"] == right[kind]["spec"]


def test_what_somebody_adds_stays_and_is_not_fought_over(settled: Any) -> None:
    stage = settled
    added = {"metadata": {"labels": {"team": "pricing"}}}
    httpx.patch(url_of(stage, "services"), json=added, headers=MERGE, trust_env=False).raise_for_status()
    change(stage, {"spec": {"replicas": 1}}, "kubectl-scale")
    stage.until(lambda: replicas(stage) == 3, "a later edit was seen and undone")
    assert stage.all("services")[0]["metadata"]["labels"]["team"] == "pricing"
    applied = [r for r in stage.server.faults.seen(verb="PATCH", path="/services/") if "httpx" not in r.agent]
    assert len(applied) == 1, "it was applied once, when it was made"


def test_what_was_done_while_nobody_led_is_undone_by_the_next_leader(settled: Any) -> None:
    stage = settled
    stage.processes[0].terminate()
    assert stage.processes[0].wait(10) == 0
    containers = stage.deployments()["lr"]["spec"]["template"]["spec"]["containers"]
    strange = [{**containers[0], "image": "somebody/else:1"}]
    change(stage, {"spec": {"template": {"spec": {"containers": strange}}}}, "kubectl-edit")
    httpx.delete(url_of(stage, "services"), trust_env=False).raise_for_status()
    budgets = len(stage.server.faults.seen(verb="PATCH", path="poddisruptionbudgets"))
    stage.controller()
    stage.until(lambda: "somebody/else" not in as_text(stage), "the image is ours again", 60)
    stage.until(lambda: stage.all("services"), "the Service is back")
    after = len(stage.server.faults.seen(verb="PATCH", path="poddisruptionbudgets"))
    assert after == budgets, "what was right is not applied again"
