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
