"""Faults no API server can see: each becomes a condition with its reason, and who served before serves on."""

from functools import partial

import pytest
from onnx import TensorProto

from tests.cluster.registry import tiny_model
from tests.cluster.stage import Stage

LR = {"name": "lr", "model": "models:/flights@champion"}


@pytest.fixture(scope="module")
def serving(one_stage: Stage) -> Stage:
    """One stage for the whole file: each test puts back what it broke."""
    stage = one_stage
    stage.leader = stage.controller()
    stage.start_gateway()
    assert stage.create({"champion": LR}).status_code == 201
    stage.until(lambda: stage.answered_by() == "lr", "the champion answers", 60)
    return stage


def challenge(stage: Stage, model: str, name: str = "new") -> None:
    stage.patch({"challengers": [{"name": name, "model": model}], "weights": {name: 10}})


def reset(stage: Stage) -> None:
    stage.patch({"champion": LR, "challengers": [], "weights": None})
    stage.until(lambda: stage.condition("VariantsReady")["status"] == "True", "all is well again", 60)
    stage.until(lambda: set(stage.deployments()) == {"lr"}, "what failed is gone", 60)


@pytest.mark.parametrize(
    ("model", "reason", "words"),
    [
        ("models:/boats/1", "ModelNotFound", "the registry has no model 'boats'"),
        ("models:/flights/77", "VersionNotFound", "no version 77"),
        ("models:/flights@crown", "AliasNotFound", "no alias 'crown'; it has champion"),
    ],
)
def test_a_model_that_is_not_there(serving: Stage, model: str, reason: str, words: str) -> None:
    stage = serving
    challenge(stage, model)

    def says_so(kind: str) -> bool:
        return bool(stage.condition(kind)["reason"] == reason)

    for kind in ("ResolvedRefs", "VariantsReady"):
        stage.until(partial(says_so, kind), f"{kind} says so")
        assert words in stage.condition(kind)["message"]
    assert stage.condition("Ready")["status"] == "True"
    assert stage.answered_by() == "lr"
    assert "VariantFailed" in stage.reasons()
    reset(stage)


def test_a_registry_that_is_away(serving: Stage) -> None:
    stage = serving
    stage.registry.go_away()
    challenge(stage, "models:/flights/2")
    stage.until(lambda: stage.condition("ResolvedRefs")["reason"] == "RegistryUnreachable", "it is said")
    stage.registry.come_back()
    stage.until(lambda: stage.record().ranges == "new:0-999", "it heals by itself", 60)
    reset(stage)


@pytest.mark.fake_only("one variant alone gets an image that cannot be pulled")
def test_an_image_that_cannot_be_pulled(serving: Stage) -> None:
    stage = serving
    stage.fake.pods.trouble["new"] = ("ImagePullBackOff", 'Back-off pulling image "kingmaker-model-server:test"')
    challenge(stage, "models:/flights/2")
    stage.until(lambda: stage.condition("VariantsReady")["reason"] == "ImagePullFailed", "it is said")
    assert "Back-off pulling image" in stage.condition("VariantsReady")["message"]
    assert stage.get()["status"]["phase"] == "Degraded"
    assert stage.answered_by() == "lr"
    del stage.fake.pods.trouble["new"]
    reset(stage)


def test_a_quota_that_is_used_up(serving: Stage) -> None:
    stage = serving
    stage.allow_no_more_pods()
    challenge(stage, "models:/flights/2")
    stage.until(lambda: stage.condition("VariantsReady")["reason"] == "QuotaExceeded", "it is said")
    assert "exceeded quota" in stage.condition("VariantsReady")["message"]
    assert stage.answered_by() == "lr"
    stage.allow_pods()
    stage.until(lambda: stage.record().ranges == "new:0-999", "it heals by itself", 60)
    reset(stage)


def test_a_model_that_is_not_what_the_registry_says_serves_once_the_tag_is_right(serving: Stage) -> None:
    stage = serving
    stage.registry.mistag("3")
    stage.patch({"champion": {"name": "next", "model": "models:/flights/3"}})
    stage.until(lambda: stage.condition("VariantsReady")["reason"] == "ShaMismatch", "it is said", 60)
    assert "says 0000" in stage.condition("VariantsReady")["message"]
    assert stage.condition("SpecCurrent")["reason"] == "ChampionPending"
    assert stage.condition("Ready")["status"] == "True" and stage.answered_by() == "lr"
    stage.registry.retag("3")
    stage.until(lambda: stage.get()["status"]["champion"]["name"] == "next", "it is noticed", 90)
    reset(stage)


@pytest.mark.fake_only("a registry of files takes a version of another type")
def test_a_challenger_without_a_profile_that_takes_another_type(serving: Stage) -> None:
    stage = serving
    stage.fake.registry.add("9", tiny_model(9.0, TensorProto.DOUBLE))
    challenge(stage, "models:/flights/9")
    stage.until(lambda: stage.condition("VariantsReady")["reason"] == "SignatureMismatch", "it is said", 60)
    text = "new gets no traffic: input 'x' is FP64[2], for lr it is FP32[2]"
    assert stage.condition("VariantsReady")["message"] == text
    assert stage.answered_by() == "lr"
    reset(stage)


def test_a_spec_the_controller_refuses_leaves_the_last_one_in_force(serving: Stage) -> None:
    """What an API server with an older CRD would let through."""
    stage = serving
    challenge(stage, "models:/flights/2")
    stage.until(lambda: stage.record().ranges == "new:0-999", "it has its weight", 60)
    champion = {"name": "lr", "model": "../flights.onnx"}
    stage.patch({"champion": champion, "weights": {"new": 50}})
    stage.until(lambda: stage.condition("Accepted")["status"] == "False", "it is refused")
    accepted = stage.condition("Accepted")
    assert "spec.champion.model: on Kubernetes a model is models:/NAME/VERSION" in accepted["message"]
    assert accepted["observedGeneration"] == stage.get()["metadata"]["generation"]
    assert stage.record().ranges == "new:0-999"

    stage.leader.kill()
    stage.end_lease()
    epoch = stage.record().epoch
    stage.leader = stage.controller()
    stage.until(lambda: stage.record().epoch > epoch, "the next leader knows what was in force", 60)
    assert stage.record().ranges == "new:0-999" and stage.condition("Accepted")["status"] == "False"
    assert set(stage.deployments()) == {"lr", "new"}
    reset(stage)


def test_automatic_and_gates_are_refused_at_the_api(serving: Stage) -> None:
    automatic = serving.create({"champion": LR, "rollout": {"strategy": "Automatic"}}, "other")
    assert automatic.status_code == 422 and "not supported yet" in automatic.json()["message"]
    gates = [{"name": "errors", "type": "Absolute", "metric": "errorRate", "max": "0.1"}]
    refused = serving.create({"champion": LR, "gates": gates}, "other")
    assert refused.status_code == 422 and "gates are not supported yet" in refused.json()["message"]
