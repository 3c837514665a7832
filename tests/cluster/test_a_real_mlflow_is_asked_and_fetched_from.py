"""The way of a model on Kubernetes with nothing in MLflow's place: published, resolved, fetched over HTTP, served."""

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kingmaker_contracts import keys, wire
from kingmaker_contracts.profile import Profile
from tests.cluster.mlflow_registry import MlflowServer, mlflow_server
from tests.cluster.stage import Stage

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.fake_only("it stops MLflow, and looks into the folders of its pods"),
]
CHAMPION = {"name": "lr", "model": "models:/flights@champion"}
SLOW_S = 120.0
"""A fetch step imports MLflow, which takes seconds of a whole core."""


def published(uri: str, seed: int, alias: str | None) -> Any:
    import numpy as np
    import pandas as pd
    from sklearn.linear_model import LogisticRegression

    from kingmaker import publish

    rng = np.random.default_rng(seed)

    def rows(count: int) -> tuple[Any, Any]:
        frame = pd.DataFrame({name: rng.normal(size=count).astype(np.float32) for name in ("delay", "distance")})
        return frame, (frame["delay"] + rng.normal(size=count) > 0).astype(int).to_numpy()

    train, label = rows(600)
    model = LogisticRegression().fit(train, label)
    return publish(model, reference=train, evaluation=rows(300), name="flights", alias=alias, registry=uri)


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow") / "server") as running:
        yield running


@pytest.fixture(scope="module")
def versions(mlflow: MlflowServer) -> list[Any]:
    """Of `flights`, by the product's own publish; the alias `champion` is on the first."""
    return [published(mlflow.uri, 1, "champion"), published(mlflow.uri, 2, None)]


@pytest.fixture(scope="module")
def serving(
    tmp_path_factory: pytest.TempPathFactory, mlflow: MlflowServer, versions: list[Any], new_stage: Any
) -> Iterator[Any]:
    with new_stage(tmp_path_factory.mktemp("stage"), registry=mlflow) as stage:
        stage.leader = stage.controller()
        stage.start_gateway()
        assert stage.create({"champion": CHAMPION}).status_code == 201
        stage.until(lambda: stage.answered_by() == "lr", "the champion answers", SLOW_S)
        yield stage


def variant(stage: Stage, name: str) -> dict[str, Any]:
    return next(v for v in stage.get()["status"]["variants"] if v["name"] == name)


def folder_of(stage: Stage, name: str) -> Path:
    """What the fetch step of a variant's pod made."""
    pods = [
        p["metadata"]["name"] for p in stage.all("pods") if p["metadata"]["labels"]["kingmaker.dev/variant"] == name
    ]
    return Path(stage.folder) / "pods" / "default" / pods[0] / "volumes" / "models" / "current"


def challenge(stage: Stage, model: str) -> None:
    stage.patch({"challengers": [{"name": "new", "model": model}], "weights": {"new": 10}})


def reset(stage: Stage) -> None:
    stage.patch({"challengers": [], "weights": None})
    stage.until(lambda: stage.condition("VariantsReady")["status"] == "True", "all is well again", SLOW_S)
    stage.until(lambda: set(stage.deployments()) == {"lr"}, "the challenger is gone", SLOW_S)


def test_an_alias_becomes_a_pinned_version_whose_bytes_are_those_that_were_published(
    serving: Stage, versions: list[Any]
) -> None:
    stage, first = serving, versions[0]
    pinned = variant(stage, "lr")
    assert (pinned["version"], pinned["sha256"]) == ("1", first.onnx_sha256)
    assert pinned["profile"] == first.profile_sha256
    raw = (folder_of(stage, "lr") / "model.onnx").read_bytes()
    assert hashlib.sha256(raw).hexdigest() == first.onnx_sha256
    stored = stage.redis.get(keys.profile("default", "flights", first.profile_sha256))
    assert [i.name for i in wire.read_json(stored, Profile).inputs] == ["delay", "distance"]
    assert stage.condition("ResolvedRefs")["message"] == "lr is version 1"


def test_an_alias_that_moves_changes_nothing_that_serves(
    serving: Stage, mlflow: MlflowServer, versions: list[Any]
) -> None:
    stage = serving
    mlflow.client.set_registered_model_alias("flights", "champion", "2")
    challenge(stage, "models:/flights@champion")
    stage.until(lambda: stage.record().ranges == "new:0-999", "the same alias of a new variant is asked about", SLOW_S)
    assert (variant(stage, "new")["version"], variant(stage, "new")["sha256"]) == ("2", versions[1].onnx_sha256)
    assert variant(stage, "lr")["version"] == "1"
    mlflow.client.set_registered_model_alias("flights", "champion", "1")
    reset(stage)


@pytest.mark.parametrize(
    ("model", "reason", "words"),
    [
        ("models:/boats/1", "ModelNotFound", "the registry has no model 'boats'"),
        ("models:/flights/77", "VersionNotFound", "model 'flights' has no version 77"),
        ("models:/flights@crown", "AliasNotFound", "model 'flights' has no alias 'crown'; it has champion"),
    ],
)
def test_what_mlflow_does_not_have_is_a_condition_in_words(serving: Stage, model: str, reason: str, words: str) -> None:
    stage = serving
    challenge(stage, model)

    def says_so(kind: str) -> bool:
        return bool(stage.condition(kind)["reason"] == reason)

    for kind in ("ResolvedRefs", "VariantsReady"):
        stage.until(partial(says_so, kind), f"{kind} says so")
        assert words in stage.condition(kind)["message"]
    assert stage.answered_by() == "lr"
    reset(stage)


def test_a_tag_that_is_not_the_models_stops_the_fetch_step_until_it_is_right(
    serving: Stage, mlflow: MlflowServer, versions: list[Any]
) -> None:
    stage = serving
    mlflow.mistag("2")
    challenge(stage, "models:/flights/2")
    stage.until(lambda: stage.condition("VariantsReady")["reason"] == "ShaMismatch", "it is said", SLOW_S)
    assert "the tag kingmaker.onnx_sha256 says 0000" in stage.condition("VariantsReady")["message"]
    assert stage.answered_by() == "lr"
    mlflow.client.set_model_version_tag("flights", "2", "kingmaker.onnx_sha256", versions[1].onnx_sha256)
    stage.until(lambda: stage.record().ranges == "new:0-999", "put right, it is noticed", SLOW_S)
    reset(stage)


def test_a_server_that_is_away_is_a_condition_and_delays_only_who_needs_it(
    serving: Stage, mlflow: MlflowServer
) -> None:
    stage = serving
    mlflow.go_away()
    challenge(stage, "models:/flights/2")
    stage.until(lambda: stage.condition("ResolvedRefs")["reason"] == "RegistryUnreachable", "it is said")
    assert mlflow.uri in stage.condition("ResolvedRefs")["message"]
    assert stage.answered_by() == "lr"
    mlflow.come_back()
    stage.until(lambda: stage.record().ranges == "new:0-999", "it heals by itself", SLOW_S)
    reset(stage)
