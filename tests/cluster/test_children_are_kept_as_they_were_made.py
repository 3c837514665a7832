"""Replicas go over to an autoscaler and back, and what somebody else does to a variant's objects is undone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.pretended import Answers
from tests.cluster.stage import Stage

LR = {"name": "lr", "model": "models:/flights/1", "replicas": 3}


@pytest.fixture
def settled(tmp_path: Path, new_stage: Any) -> Iterator[Any]:
    """A champion with three pods, pretended ones where that can be."""
    answers = Answers()
    with new_stage(tmp_path, runner=answers) as stage:
        stage.leader = stage.controller()
        assert stage.create({"champion": LR}).status_code == 201
        stage.until(lambda: stage.condition("VariantsReady")["status"] == "True", "the champion is ready", 60)
        stage.until(lambda: len(stage.all("pods")) == 3, "it has its pods")
        yield stage
    answers.close()


def replicas(stage: Stage) -> int:
    return int(stage.deployments()["lr"]["spec"]["replicas"])


def change(stage: Stage, what: dict[str, Any], manager: str) -> None:
    stage.change("deployments", stage.deployments()["lr"]["metadata"]["name"], what, manager)


def test_an_autoscaler_gets_the_replicas_without_a_dip_and_gives_them_back(settled: Any) -> None:
    stage = settled
    stage.patch({"champion": {"autoscaling": {"maxReplicas": 6}}})
    stage.until(lambda: stage.all("horizontalpodautoscalers"), "there is an autoscaler")
    stage.until(lambda: stage.condition("Accepted")["observedGeneration"] == 2, "the edit was seen")
    assert replicas(stage) == 3
    change(stage, {"spec": {"replicas": 5}}, "kube-controller-manager")
    stage.patch({"champion": {"resources": {"cpu": "2"}}})
    stage.until(lambda: "cpu" in str(stage.deployments()["lr"]) and '"2"' in as_text(stage), "another edit is applied")
    assert replicas(stage) == 5, "the autoscaler's number stays"
    stage.patch({"champion": {"autoscaling": None}})
    stage.until(lambda: not stage.all("horizontalpodautoscalers"), "the autoscaler is gone")
    stage.until(lambda: replicas(stage) == 3, "the spec's number counts again")


def as_text(stage: Stage) -> str:
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
    stage.delete("deployments", stage.deployments()["lr"]["metadata"]["name"])
    stage.until(lambda: stage.deployments()["lr"]["metadata"]["uid"] != uid, "it is made again")
    stage.until(lambda: stage.condition("VariantsReady")["status"] == "True", "and ready")
    assert replicas(stage) == 3


WRONG = {
    "services": {"spec": {"selector": {"kingmaker.dev/id": "nobody"}}},
    "poddisruptionbudgets": {"spec": {"maxUnavailable": 3}},
    "horizontalpodautoscalers": {"spec": {"maxReplicas": 99}},
    "servicemonitors": {"spec": {"endpoints": [{"port": "http", "path": "/elsewhere"}]}},
}


def only(stage: Stage, kind: str) -> dict[str, Any]:
    return dict(stage.all(kind)[0])


def name_of(stage: Stage, kind: str) -> str:
    return str(only(stage, kind)["metadata"]["name"])


@pytest.fixture
def kinds(settled: Any) -> list[str]:
    """Those of the cluster: not every one knows ServiceMonitors."""
    return [kind for kind in WRONG if kind != "servicemonitors" or settled.knows(kind)]


def test_every_kind_of_child_is_put_right_at_once_when_it_is_edited_or_deleted(settled: Any, kinds: list[str]) -> None:
    stage = settled
    stage.patch({"champion": {"autoscaling": {"maxReplicas": 6}}})
    stage.until(lambda: all(stage.all(kind) for kind in kinds), "there is one of each")
    right = {kind: only(stage, kind) for kind in kinds}
    for kind in kinds:
        stage.change(kind, name_of(stage, kind), WRONG[kind], "kubectl-edit")
    for kind in kinds:
        stage.until(lambda k=kind: only(stage, k)["spec"] == right[k]["spec"], f"{kind} says what it said")
    stage.change("services", name_of(stage, "services"), {"metadata": {"labels": {"kingmaker.dev/model": "x"}}})
    labels = right["services"]["metadata"]["labels"]
    stage.until(lambda: only(stage, "services")["metadata"]["labels"] == labels, "it has its labels")
    for kind in kinds:
        stage.delete(kind, name_of(stage, kind))
    for kind in kinds:
        uid = right[kind]["metadata"]["uid"]
        stage.until(lambda k=kind, u=uid: only(stage, k)["metadata"]["uid"] != u, f"{kind} is made again")
        assert only(stage, kind)["spec"] == right[kind]["spec"]


COUNTS = "the requests of the controller are counted"


@pytest.mark.fake_only(COUNTS)
def test_what_somebody_adds_stays_and_is_not_fought_over(settled: Any) -> None:
    stage = settled
    stage.change("services", name_of(stage, "services"), {"metadata": {"labels": {"team": "pricing"}}})
    change(stage, {"spec": {"replicas": 1}}, "kubectl-scale")
    stage.until(lambda: replicas(stage) == 3, "a later edit was seen and undone")
    assert only(stage, "services")["metadata"]["labels"]["team"] == "pricing"
    applied = [r for r in stage.fake.server.faults.seen("PATCH", "/services/") if "httpx" not in r.agent]
    assert len(applied) == 1, "it was applied once, when it was made"


@pytest.mark.fake_only(COUNTS)
def test_what_was_done_while_nobody_led_is_undone_by_the_next_leader(settled: Any) -> None:
    stage = settled
    stage.leader.terminate()
    stage.leader.ended(20)
    containers = stage.deployments()["lr"]["spec"]["template"]["spec"]["containers"]
    strange = [{**containers[0], "image": "somebody/else:1"}]
    change(stage, {"spec": {"template": {"spec": {"containers": strange}}}}, "kubectl-edit")
    stage.delete("services", name_of(stage, "services"))
    budgets = len(stage.fake.server.faults.seen("PATCH", "poddisruptionbudgets"))
    stage.controller()
    stage.until(lambda: "somebody/else" not in as_text(stage), "the image is ours again", 60)
    stage.until(lambda: stage.all("services"), "the Service is back")
    after = len(stage.fake.server.faults.seen("PATCH", "poddisruptionbudgets"))
    assert after == budgets, "what was right is not applied again"
