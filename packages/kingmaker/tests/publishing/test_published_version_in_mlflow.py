import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.models import Model
from mlflow.pyfunc import scoring_server as mlflow_scoring_server
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression

from kingmaker.publishing import profile as profiles
from kingmaker.publishing.errors import GateRefused, SharedRows, TooBig
from kingmaker.publishing.publisher import STAGES, publish
from kingmaker_contracts.profile import FILE_NAME, Profile, sha256_of
from kingmaker_contracts.wire import read_json, write_json

if TYPE_CHECKING:
    from packages.kingmaker.tests.publishing.conftest import Table


@pytest.fixture
def client(registry_uri: str) -> MlflowClient:
    return MlflowClient(registry_uri, registry_uri)


def folder_of(client: MlflowClient, name: str, version: int) -> Path:
    return Path(client.get_model_version_download_uri(name, str(version)))


def profile_of(client: MlflowClient, name: str, version: int) -> Profile:
    return read_json((folder_of(client, name, version) / FILE_NAME).read_bytes(), Profile)


def test_a_version_holds_the_checked_model_its_profile_tags_and_alias(
    table: "Table", mixed: Callable[..., Any], published: Callable[..., Any], client: MlflowClient
) -> None:
    result = published(mixed().fit(table.train, table.train_label), name="whole")
    folder = folder_of(client, "whole", result.version)
    profile = (folder / FILE_NAME).read_bytes()
    assert hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest() == result.onnx_sha256
    assert sha256_of(profile) == result.profile_sha256
    version = client.get_model_version_by_alias("whole", "challenger")
    assert (int(version.version), result.alias, result.uri) == (result.version, "challenger", "models:/whole/1")
    assert version.status == "READY"
    assert version.tags == {
        "kingmaker.onnx_sha256": result.onnx_sha256,
        "kingmaker.profile_sha256": result.profile_sha256,
        "kingmaker.parity_max_abs_difference": f"{result.parity.max_abs_difference:.3g}",
        **{f"kingmaker.{name}": f"{value:.6g}" for name, value in result.metrics.items()},
    }
    assert version.run_id is not None
    run = client.get_run(version.run_id)
    assert run.data.metrics == pytest.approx(result.metrics)
    assert run.info.status == "FINISHED"


def test_the_profile_says_what_goes_in_what_comes_out_and_what_training_looked_like(
    table: "Table", mixed: Callable[..., Any], published: Callable[..., Any], client: MlflowClient
) -> None:
    result = published(mixed().fit(table.train, table.train_label), name="described")
    profile = profile_of(client, "described", result.version)
    assert [(f.name, f.datatype, f.kind, f.shape, f.nullable) for f in profile.inputs] == [
        ("delay", "FP32", "numeric", [-1, 1], False),
        ("miles flown", "FP32", "numeric", [-1, 1], False),
        ("carrier", "BYTES", "categorical", [-1, 1], False),
    ]
    assert profile.score is not None
    assert (profile.score.task, profile.score.output, profile.score.column, profile.score.positive) == (
        "binary",
        "probabilities",
        1,
        "1",
    )
    assert (profile.score.labels, profile.score.label_output) == (["0", "1"], "label")
    reference, quality, parity = profile.reference, profile.quality, profile.parity
    assert reference is not None and quality is not None and parity is not None
    assert reference.score is not None
    assert reference.rows == sum(reference.score.counts) == 600
    assert set(reference.numeric) == {"delay", "miles flown"}
    counted = table.train["carrier"].value_counts()
    assert dict(
        zip(reference.categorical["carrier"].categories, reference.categorical["carrier"].counts, strict=True)
    ) == dict(counted)
    assert (quality.rows, quality.optimistic, quality.metrics) == (300, False, result.metrics)
    assert (parity.rows, parity.label_mismatches) == (300, 0)
    assert parity.max_abs_difference < 1e-6
    assert sum(b.count for b in profile.calibration) == 300
    assert set(profile.importance) == {"delay", "miles flown", "carrier"}
    assert profile.importance["delay"] > 0.05
    assert set(profile.libraries) == {"scikit-learn", "skl2onnx", "onnx", "onnxruntime"}
    assert profile.onnx_sha256 == result.onnx_sha256


def test_other_mlflow_tools_load_and_serve_the_version(
    table: "Table",
    mixed: Callable[..., Any],
    published: Callable[..., Any],
    registry_uri: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipeline = mixed().fit(table.train, table.train_label)
    result = published(pipeline, name="loaded", alias="champion")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(registry_uri)
    try:
        assert mlflow.onnx.load_model("models:/loaded@champion").graph.input[0].name == "delay"
        flavour = mlflow.pyfunc.load_model(result.uri)
    finally:
        mlflow.set_tracking_uri(before)
    feed = {name: table.test[[name]].to_numpy() for name in table.test}
    answer = flavour.predict({**feed, "carrier": feed["carrier"].astype(object)})
    assert np.abs(answer["probabilities"] - pipeline.predict_proba(table.test)).max() < 1e-6


def test_the_version_says_its_types_as_mlflow_wants_them(
    table: "Table", mixed: Callable[..., Any], published: Callable[..., Any], client: MlflowClient
) -> None:
    result = published(mixed().fit(table.train, table.train_label), name="typed")
    signature = Model.load(folder_of(client, "typed", result.version)).signature
    number, text = np.dtype(np.float32), np.dtype(object)
    assert [(i.name, i.type, i.shape) for i in signature.inputs.inputs] == [
        ("delay", number, (-1, 1)),
        ("miles flown", number, (-1, 1)),
        ("carrier", text, (-1, 1)),
    ]
    assert [(o.name, o.type, o.shape) for o in signature.outputs.inputs] == [
        ("label", np.dtype(np.int64), (-1,)),
        ("probabilities", number, (-1, 2)),
    ]


def scoring_server(folder: Path) -> httpx.AsyncClient:
    """A client of what `mlflow models serve` starts."""
    app = mlflow_scoring_server.init(mlflow.pyfunc.load_model(str(folder)))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://mlflow")


async def test_mlflows_own_server_answers_tables_and_tensors(
    table: "Table", mixed: Callable[..., Any], published: Callable[..., Any], client: MlflowClient
) -> None:
    pipeline = mixed().fit(table.train, table.train_label)
    folder = folder_of(client, "served", published(pipeline, name="served").version)
    rows = table.test.head(20)
    expected = pipeline.predict_proba(rows)
    async with scoring_server(folder) as server:
        for body in (
            {"dataframe_split": rows.to_dict(orient="split", index=False)},
            {"dataframe_records": rows[["carrier", "miles flown", "delay"]].to_dict(orient="records")},
            {"inputs": {name: [[value] for value in rows[name]] for name in rows}},
        ):
            answer = await server.post("/invocations", json=body)
            assert answer.status_code == 200, answer.text
            found = answer.json()["predictions"]
            assert np.abs(np.array(found["probabilities"]) - expected).max() < 1e-6
            assert found["label"] == pipeline.predict(rows).tolist()
        records = rows.drop(columns="carrier").to_dict(orient="records")
        refused = await server.post("/invocations", json={"dataframe_records": records})
    assert refused.status_code == 400
    assert "Model is missing inputs ['carrier']" in refused.text


async def test_mlflows_own_server_answers_a_model_of_one_column_that_misses_values(
    table: "Table", published: Callable[..., Any], client: MlflowClient
) -> None:
    train, test = (frame[["delay"]].mask(frame["delay"] > 1.5) for frame in (table.train, table.test))
    model = HistGradientBoostingRegressor(max_iter=10, random_state=0).fit(train, table.train["miles flown"])
    result = published(model, reference=train, evaluation=(test, table.test["miles flown"]), name="column")
    rows = pd.DataFrame({"delay": np.array([0.5, np.nan, -1], np.float32)})
    body = {"dataframe_split": {"columns": ["delay"], "data": [[0.5], [None], [-1]]}}
    async with scoring_server(folder_of(client, "column", result.version)) as server:
        answer = await server.post("/invocations", json=body)
    found = answer.json()["predictions"]["variable"]
    assert np.allclose(np.ravel(found), model.predict(rows), rtol=1e-5)


def test_an_alias_moves_to_the_next_version_and_none_leaves_it(
    table: "Table", mixed: Callable[..., Any], published: Callable[..., Any], client: MlflowClient
) -> None:
    pipeline = mixed().fit(table.train, table.train_label)
    versions = [published(pipeline, name="moving", alias=alias).version for alias in ("champion", "champion", None)]
    assert versions == [1, 2, 3]
    assert int(client.get_model_version_by_alias("moving", "champion").version) == 2
    assert client.get_model_version("moving", "3").aliases == []


def test_the_gate_refuses_with_value_and_threshold_and_stores_nothing(
    table: "Table", mixed: Callable[..., Any], published: Callable[..., Any], client: MlflowClient
) -> None:
    pipeline = mixed().fit(table.train, table.train_label)
    with pytest.raises(GateRefused, match=r"AUC on the evaluation rows is 0\.\d{4}, below the wanted 0.9900") as no:
        published(pipeline, name="gated", min_auc=0.99)
    assert 0.7 < no.value.value < 0.99
    assert not client.search_model_versions("name = 'gated'")
    assert published(pipeline, name="gated", min_auc=no.value.value - 1e-6).version == 1


def test_training_rows_are_refused_and_when_allowed_quality_is_optimistic(
    table: "Table", mixed: Callable[..., Any], published: Callable[..., Any], client: MlflowClient
) -> None:
    pipeline = mixed().fit(table.train, table.train_label)
    seen = (table.train, table.train_label)
    with pytest.raises(SharedRows, match="600 of 600 evaluation rows also stand in the reference rows"):
        published(pipeline, evaluation=seen, name="seen")
    result = published(pipeline, evaluation=seen, name="seen", allow_training_rows=True)
    assert result.optimistic
    profile = profile_of(client, "seen", result.version)
    assert profile.quality is not None
    assert profile.quality.optimistic
    assert client.get_model_version("seen", "1").tags["kingmaker.quality_optimistic"] == "true"
    assert not published(pipeline, name="seen", allow_training_rows=True).optimistic


def test_a_regression_is_published_without_labels(
    table: "Table", published: Callable[..., Any], client: MlflowClient
) -> None:
    numbers = ["delay", "miles flown"]
    target = table.train["delay"] * 3 + 100
    model = LinearRegression().fit(table.train[numbers], target)
    result = published(
        model,
        reference=table.train[numbers],
        evaluation=(table.test[numbers], table.test["delay"] * 3 + 100),
        name="minutes",
    )
    profile = profile_of(client, "minutes", result.version)
    assert profile.score is not None
    assert (profile.score.task, profile.score.labels, profile.score.label_output) == ("regression", [], None)
    assert profile.calibration == []
    assert result.metrics["r2"] == pytest.approx(1, abs=1e-6)
    assert profile.importance["delay"] > 1


def test_several_classes_with_names_are_published(
    table: "Table", mixed: Callable[..., Any], published: Callable[..., Any], client: MlflowClient
) -> None:
    def named(frame: pd.DataFrame) -> Any:
        return np.array(["early", "on time", "late"])[np.digitize(frame["delay"], [-0.5, 0.5])]

    model = HistGradientBoostingClassifier(max_iter=10, random_state=0)
    numbers = ["delay", "miles flown"]
    model.fit(table.train[numbers], named(table.train))
    result = published(
        model,
        reference=table.train[numbers],
        evaluation=(table.test[numbers], named(table.test)),
        name="classes",
        positive="late",
    )
    profile = profile_of(client, "classes", result.version)
    assert profile.score is not None
    assert (profile.score.labels, profile.score.column, profile.score.positive) == (
        ["early", "late", "on time"],
        1,
        "late",
    )
    assert [o.datatype for o in profile.outputs] == ["BYTES", "FP32"]
    assert result.metrics["auc"] > 0.95


def test_publishing_is_silent_tells_its_stages_and_leaves_the_process_as_it_was(
    table: "Table", mixed: Callable[..., Any], registry_uri: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before = (mlflow.get_tracking_uri(), mlflow.get_registry_uri(), mlflow.active_run())
    told: list[tuple[str, int, int]] = []
    publish(
        mixed().fit(table.train, table.train_label),
        reference=table.train,
        evaluation=(table.test, table.test_label),
        name="silent",
        registry=registry_uri,
        progress=lambda *stage: told.append(stage),
    )
    assert (mlflow.get_tracking_uri(), mlflow.get_registry_uri(), mlflow.active_run()) == before
    assert told == [(name, i, len(STAGES)) for i, name in enumerate(STAGES)]
    assert capfd.readouterr() == ("", "")


def test_a_profile_beyond_the_limit_is_refused(
    table: "Table", mixed: Callable[..., Any], published: Callable[..., Any], client: MlflowClient
) -> None:
    result = published(mixed().fit(table.train, table.train_label), name="limit")
    profile = profile_of(client, "limit", result.version)
    size = len(write_json(profile))
    assert len(profiles.encoded(profile, size)) == size
    with pytest.raises(TooBig, match=f"the profile of 3 inputs is {size:,} bytes, a profile may have {size - 1:,}"):
        profiles.encoded(profile, size - 1)


def test_importing_kingmaker_costs_neither_mlflow_nor_scikit_learn() -> None:
    code = (
        "import sys, kingmaker, kingmaker.publishing.errors\n"
        "heavy = [m for m in ('mlflow', 'sklearn', 'skl2onnx', 'onnx', 'pandas', 'numpy') if m in sys.modules]\n"
        "assert not heavy, heavy\n"
        "assert callable(kingmaker.publish) and 'sklearn' in sys.modules and 'mlflow' not in sys.modules\n"
        "kingmaker.nothing"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False)
    assert done.stderr.splitlines()[-1] == "AttributeError: module 'kingmaker' has no attribute 'nothing'"
