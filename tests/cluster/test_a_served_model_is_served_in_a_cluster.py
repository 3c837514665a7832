"""From `kubectl apply` to answers, and every edit after that, with real controllers, gateways and model servers."""

import os
import signal
from typing import Any

import pytest

from tests.cluster.fake_cluster import ControllerProcess
from tests.cluster.stage import Stage

LR = {"name": "lr", "model": "models:/flights@champion"}
GBM = {"name": "gbm", "model": "models:/flights/2"}


@pytest.fixture
def serving(stage: Stage) -> Stage:
    """A stage whose champion answers."""
    stage.leader = stage.controller()
    stage.start_gateway()
    patient = {"deadlineMilliseconds": 8000}  # a busy machine is no reason for a 504
    assert stage.create({"champion": LR, "limits": patient}).status_code == 201
    stage.until(lambda: stage.condition("Programmed")["status"] == "True", "the champion is programmed", 60)
    stage.until(lambda: stage.answered_by() == "lr", "the gateway has found its pods")
    return stage


def is_programmed(stage: Stage, generation: int | None = None) -> bool:
    programmed = stage.condition("Programmed")
    wanted = generation or stage.get()["metadata"]["generation"]
    return bool(programmed["status"] == "True" and programmed["observedGeneration"] == wanted)


def add_challenger(stage: Stage, weight: int) -> None:
    stage.patch({"challengers": [GBM], "weights": {"gbm": weight}})
    stage.until(lambda: stage.record().ranges == f"gbm:0-{weight * 100 - 1}", "the challenger has its weight", 60)
    stage.until(lambda: is_programmed(stage), "the gateway knows it")


def test_challengers_come_and_go_and_weights_follow_a_patch(serving: Stage) -> None:
    stage = serving
    before = stage.get()["metadata"]
    with stage.load() as load:
        add_challenger(stage, 20)
        pods = {p["metadata"]["name"] for p in stage.all("pods")}

        stage.patch({"weights": {"gbm": 60}})
        stage.until(lambda: stage.record().ranges == "gbm:0-5999", "the weight is in Redis", 10)
        stage.until(lambda: stage.get()["status"]["summary"]["weights"] == "lr=40,gbm=60", "the column shows it")
        stage.until(lambda: set(load.answers[-100:]) == {"lr", "gbm"}, "both answer")
        assert {p["metadata"]["name"] for p in stage.all("pods")} == pods, "a weight moves no pod"

        stage.patch({"challengers": [], "weights": None})
        stage.until(lambda: stage.record().ranges == "", "the challenger has left the record")
        stage.until(lambda: set(stage.deployments()) == {"lr"}, "its Deployment is gone")
        stage.until(lambda: len(stage.all("services")) == 1, "so is its Service")
        assert stage.answered_by() == "lr"
    assert load.failures == []
    after = stage.get()["metadata"]
    assert after["uid"] == before["uid"] and after.get("annotations") == before.get("annotations")
    assert after["generation"] == before["generation"] + 3, "one for each patch: the controller writes no spec"
    managers = {field["manager"]: field.get("subresource") for field in after["managedFields"]}
    assert managers["kingmaker-controller"] == "status"
    reasons = stage.reasons()
    for expected in ("ChampionCrowned", "VersionPinned", "VariantReady", "WeightChanged", "VariantDraining"):
        assert expected in reasons


def test_a_champion_is_deposed_under_load_and_put_back_without_a_failed_request(serving: Stage) -> None:
    stage = serving
    with stage.load() as load:
        stage.patch({"champion": {"name": "gbm", "model": "models:/flights/2"}})
        stage.until(lambda: stage.get()["status"]["champion"]["name"] == "gbm", "the new champion reigns", 60)
        stage.until(lambda: load.answers[-20:] == ["gbm"] * 20, "it alone answers")
        stage.until(lambda: set(stage.deployments()) == {"gbm"}, "the old one's Deployment is gone", 60)

        stage.patch({"champion": LR})
        stage.until(lambda: stage.get()["status"]["champion"]["name"] == "lr", "the old champion is back", 60)
        stage.until(lambda: load.answers[-20:] == ["lr"] * 20, "it alone answers")
        stage.until(lambda: set(stage.deployments()) == {"lr"}, "the other is gone", 60)
        stage.until(lambda: len(stage.all("pods")) == 1, "its pods too", 60)
    assert load.failures == []
    assert len(load.answers) > 100
    assert stage.condition("SpecCurrent")["status"] == "True"


@pytest.mark.parametrize(
    "edit",
    [
        "champion",
        pytest.param("weight", marks=pytest.mark.slow),
        pytest.param("challenger", marks=pytest.mark.slow),
        pytest.param("removal", marks=pytest.mark.slow),
        pytest.param("return", marks=pytest.mark.slow),
        pytest.param("creation", marks=pytest.mark.slow),
    ],
)
def test_a_leader_that_is_killed_in_the_middle_is_followed_by_another(serving: Stage, edit: str) -> None:
    stage = serving
    second = stage.controller()
    if edit in ("weight", "removal"):
        add_challenger(stage, 20)
    if edit == "return":
        stage.patch({"champion": {"name": "gbm", "model": "models:/flights/2"}})
        stage.until(lambda: stage.get()["status"]["champion"]["name"] == "gbm", "another reigns", 60)
        stage.until(lambda: set(stage.deployments()) == {"gbm"}, "the old one is gone", 60)
        stage.until(lambda: stage.answered_by() == "gbm", "it answers")
    epoch = stage.record().epoch
    with stage.load() as load:
        match edit:
            case "weight":
                stage.patch({"weights": {"gbm": 50}})
            case "challenger":
                stage.patch({"challengers": [GBM], "weights": {"gbm": 50}})
                stage.until(lambda: "gbm" in stage.deployments(), "its Deployment is made")
            case "champion":
                stage.patch({"champion": {"name": "gbm", "model": "models:/flights/2"}})
                stage.until(lambda: "gbm" in stage.deployments(), "its Deployment is made")
            case "removal":
                stage.patch({"challengers": [], "weights": None})
                stage.until(lambda: stage.record().ranges == "", "it has left the record")
            case "return":
                stage.patch({"champion": LR})
                stage.until(lambda: "lr" in stage.deployments(), "the old champion's Deployment is made again")
            case "creation":
                assert stage.create({"champion": GBM}, "trains").status_code == 201
                stage.until(lambda: "gbm" in stage.deployments(), "its Deployment is made")
        stage.leader.kill()
        stage.until(lambda: stage.record().epoch > epoch, "the second controller leads", 60)
        match edit:
            case "weight" | "challenger":
                stage.until(lambda: stage.record().ranges == "gbm:0-4999", "the edit has its effect", 60)
            case "champion":
                stage.until(lambda: stage.get()["status"]["champion"]["name"] == "gbm", "the new one reigns", 60)
                stage.until(lambda: set(stage.deployments()) == {"gbm"}, "the old one is gone", 60)
            case "removal":
                stage.until(lambda: set(stage.deployments()) == {"lr"}, "the removed one is gone", 60)
            case "return":
                stage.until(lambda: stage.get()["status"]["champion"]["name"] == "lr", "the old one is back", 60)
                stage.until(lambda: set(stage.deployments()) == {"lr"}, "the other is gone", 60)
            case "creation":
                stage.until(lambda: stage.answered_by("trains") == "gbm", "the new model answers", 60)
        stage.until(lambda: is_programmed(stage), "the gateways have it")
    assert load.failures == []
    assert second.is_running()


@pytest.mark.fake_only("a process is frozen in the middle, and goes on later")
def test_of_two_leaders_at_once_the_older_one_changes_nothing(serving: Stage) -> None:
    stage = serving
    add_challenger(stage, 20)
    assert isinstance(stage.leader, ControllerProcess)
    os.kill(stage.leader.pid, signal.SIGSTOP)
    stage.end_lease()
    epoch = stage.record().epoch
    second = stage.controller()
    stage.until(lambda: stage.record().epoch > epoch, "the second one takes over from one that is frozen", 60)
    stage.patch({"weights": {"gbm": 70}})
    stage.until(lambda: stage.record().ranges == "gbm:0-6999", "it leads")
    at = stage.record().order
    os.kill(stage.leader.pid, signal.SIGCONT)  # it still believes to lead, and finds an edit it never saw
    assert stage.leader.ended(20) == 4, "it learns that it lost the lease, and ends"
    assert stage.record().order == at
    assert stage.get()["status"]["routing"]["epoch"] == at[0]
    assert second.is_running()
    assert set(stage.deployments()) == {"lr", "gbm"}


def lease_of(stage: Stage) -> dict[str, Any]:
    return next(item["spec"] for item in stage.all("leases") if item["metadata"]["name"] == "kingmaker-controller")


def test_sigterm_gives_the_lease_back_so_that_the_next_one_need_not_wait(serving: Stage) -> None:
    stage = serving
    epoch = stage.record().epoch
    assert lease_of(stage)["holderIdentity"].startswith("controller-1")
    stage.leader.terminate()
    assert stage.leader.ended(20) in (0, None)
    assert lease_of(stage)["holderIdentity"] == "", "nobody has to wait until it expires"
    stage.controller()
    stage.until(lambda: stage.record().epoch > epoch, "the next one leads", 60)
    assert lease_of(stage)["holderIdentity"].startswith("controller-2")
    assert lease_of(stage)["leaseTransitions"] == stage.record().epoch


def test_a_wiped_redis_is_written_again_from_the_status(serving: Stage) -> None:
    stage = serving
    add_challenger(stage, 30)
    stage.patch({"weights": {"gbm": 10}})
    stage.until(lambda: stage.record().ranges == "gbm:0-999", "the weight shrank")
    with stage.load() as load:
        stage.redis.flushall()
        stage.until(lambda: stage.record().ranges == "gbm:0-999", "the record is back", 10)
    assert load.failures == []
    stage.leader.kill()
    stage.end_lease()
    stage.redis.flushall()
    stage.controller()
    stage.until(lambda: stage.record().ranges == "gbm:0-999", "a new leader knows the ranges from the status", 60)


def test_deleting_takes_routing_and_pods_away(serving: Stage) -> None:
    stage = serving
    add_challenger(stage, 20)
    stage.delete()
    stage.until(lambda: not stage.is_routed(), "the record is gone")
    kinds = ("deployments", "services", "poddisruptionbudgets", "pods")
    stage.until(lambda: not any(stage.all(kind) for kind in kinds), "everything it had is gone")
    assert stage.create({"champion": GBM}).status_code == 201
    stage.until(lambda: stage.answered_by() == "gbm", "one of the same name is another model", 60)


def test_a_model_deleted_while_nobody_leads_leaves_no_routing(serving: Stage) -> None:
    stage = serving
    stage.leader.kill()
    stage.end_lease()
    stage.delete()
    stage.controller()
    stage.until(lambda: not stage.is_routed(), "the next leader removes the orphaned record", 60)
