"""What is not the model that was meant is refused, naming the file and the field."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from kingmaker_model_server import loading
from kingmaker_model_server.errors import BadModel
from kingmaker_model_server.settings import BadSettings, Settings, read


def load(path: Path, **settings: Any) -> Any:
    return loading.load(Settings(model_dir=path, model_name="flights", **settings))


def edit(name: str, **changes: Any) -> Any:
    def change(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | changes))

    return change


def cut(folder: Path) -> None:
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:100])


DAMAGE = [
    (cut, "model.onnx: sha256 is .* manifest.json says .* damaged"),
    (edit("manifest.json", sha256="0" * 64), "model.onnx: sha256 is .* manifest.json says 0000"),
    (lambda folder: (folder / "manifest.json").unlink(), "manifest.json: is missing; .* fetch it again"),
    (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json: Manifest"),
    (lambda folder: (folder / "manifest.json").write_bytes(b'{"source": "\xff"}'), "Manifest: 'utf-8' codec"),
    (edit("manifest.json", v=2), r"manifest.json: Manifest: .*`\$.v`"),
    (lambda folder: (folder / "model.onnx").unlink(), "model.onnx: no such file"),
    (edit("profile.json", created_at="later"), "profile.json: sha256 is .* profile_sha256 of manifest.json"),
    (edit("manifest.json", profile_sha256=None), "profile.json: is not in manifest.json"),
    (lambda folder: (folder / "profile.json").unlink(), "profile.json: no such file"),
]


@pytest.mark.parametrize(("damage", "text"), DAMAGE, ids=[text for _, text in DAMAGE])
def test_a_damaged_package_names_its_file(
    make: Any, tmp_path: Path, flights_bytes: bytes, damage: Any, text: str
) -> None:
    folder = make.write_package(tmp_path / "p", flights_bytes, make.flights_profile(flights_bytes))
    load(folder)
    damage(folder)
    with pytest.raises(BadModel, match=text):
        load(folder)


def wrong_type(profile: Any) -> None:
    profile["inputs"][0]["datatype"] = "INT64"


def wrong_shape(profile: Any) -> None:
    profile["inputs"][0]["shape"] = [-1, 2]


def another_name(profile: Any) -> None:
    profile["inputs"][0]["name"] = "speed"


def another_output(profile: Any) -> None:
    profile["outputs"][0]["name"] = "class"


def another_model(profile: Any) -> None:
    profile["onnx_sha256"] = "1" * 64


def no_type(profile: Any) -> None:
    profile["inputs"][0]["datatype"] = "FLOAT"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (wrong_type, r"profile.json: inputs: 'distance' is INT64 \[-1, 1\], in the model FP32"),
        (wrong_shape, r"profile.json: inputs: 'distance' is FP32 \[-1, 2\], in the model FP32 \[-1, 1\]"),
        (another_name, "profile.json: inputs: .*'distance'"),
        (another_output, "profile.json: outputs: .*'class'"),
        (another_model, "profile.json: onnx_sha256 is 1111"),
        (no_type, "profile.json: .*FLOAT"),
    ],
)
def test_a_profile_of_another_model_is_refused(
    make: Any, tmp_path: Path, flights_bytes: bytes, change: Any, text: str
) -> None:
    profile = make.flights_profile(flights_bytes)
    change(profile)
    with pytest.raises(BadModel, match=text):
        load(make.write_package(tmp_path / "p", flights_bytes, profile))


def test_another_model_than_the_setting_expects_is_refused(make: Any, tmp_path: Path) -> None:
    with pytest.raises(BadModel, match=r"model.onnx: sha256 is .*, EXPECTED_SHA256 says aaaa"):
        load(make.write_package(tmp_path / "p", make.one_column_model()), expected_sha256="a" * 64)


def test_a_folder_must_hold_exactly_one_model(make: Any, tmp_path: Path) -> None:
    with pytest.raises(BadModel, match=r"holds none where one .onnx file was expected"):
        load(tmp_path)
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).write_bytes(make.one_column_model())
    with pytest.raises(BadModel, match=r"holds a.onnx, b.onnx where one"):
        load(tmp_path)
    with pytest.raises(BadModel, match=r"none: does not exist"):
        load(tmp_path / "none")


def test_a_path_that_cannot_be_looked_at_is_a_bad_model(tmp_path: Path) -> None:
    """As a folder of another user is, into which root looks all the same."""
    with pytest.raises(BadModel, match="mmm: file name too long"):
        load(tmp_path / ("m" * 300))


def test_a_classifier_with_zipmap_is_refused_with_the_cure(make: Any, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(make.flights_model(zipmap=True))
    with pytest.raises(BadModel, match=r"output .* is seq.*zipmap"):
        load(tmp_path / "m.onnx")


def test_weights_in_a_file_beside_the_model_are_refused_also_in_the_working_directory(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = numpy_helper.from_array(np.ones((1, 400), np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    inputs, outputs = [make.value("x", TensorProto.FLOAT, ["N", 1])], [make.value("y", TensorProto.FLOAT, ["N", 400])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    monkeypatch.chdir(tmp_path)
    onnx.save_model(model, "m.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    with pytest.raises(BadModel, match=r"m.onnx: not a model .* External data"):
        load(Path("m.onnx"))


def test_a_model_without_outputs_is_refused(make: Any, tmp_path: Path) -> None:
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    graph = helper.make_graph(nodes, "g", [make.value("x", TensorProto.FLOAT, ["N", 1])], [])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BadModel, match=r"m.onnx: the model has no outputs"):
        load(tmp_path / "m.onnx")


def test_a_model_that_cannot_answer_rows_like_its_training_rows_is_refused(make: Any, tmp_path: Path) -> None:
    model = make.text_to_number_model()
    profile = make.flights_profile(model)
    profile["inputs"] = [{"name": "s", "datatype": "BYTES", "shape": [-1, 1], "kind": "categorical"}]
    profile["outputs"] = [{"name": "y", "datatype": "FP32", "shape": [-1, 1]}]
    profile["reference"]["categorical"] = {"s": {"categories": ["UA"], "counts": [1], "other": 0, "missing": 0}}
    with pytest.raises(BadModel, match=r"model.onnx: loads, but cannot answer a plausible row"):
        load(make.write_package(tmp_path / "p", model, profile))


@pytest.mark.parametrize(("datatype", "kind"), [("INT64", Int64TensorType), ("FP32", FloatTensorType)])
def test_a_model_that_knows_only_the_numbers_of_its_training_rows_is_served(
    make: Any, tmp_path: Path, datatype: str, kind: Any
) -> None:
    """scikit-learn's OneHotEncoder, unless told otherwise, refuses others, such as the mean of those."""
    frame = pd.DataFrame({"zone": np.array([10, 20, 70] * 20, np.int64 if kind is Int64TensorType else np.float32)})
    columns = ColumnTransformer([("zone", OneHotEncoder(sparse_output=False), ["zone"])])
    pipe = Pipeline([("columns", columns), ("lr", LogisticRegression())]).fit(frame, frame["zone"] > 10)
    types, options = [("zone", kind([None, 1]))], {id(pipe): {"zipmap": False}}
    model = to_onnx(pipe, initial_types=types, options=options).SerializeToString()
    profile = make.flights_profile(model, outputs=[])
    profile["inputs"] = [{"name": "zone", "datatype": datatype, "shape": [-1, 1], "kind": "numeric"}]
    numbers = profile["reference"]["numeric"]["distance"] | {"minimum": 10.0, "maximum": 70.0, "mean": 33.3}
    profile["reference"] |= {"numeric": {"zone": numbers}, "categorical": {}}
    loaded, _ = load(make.write_package(tmp_path / "p", model, profile))
    assert loaded.model.row_wise


def test_a_profile_without_training_rows_does_not_make_invented_rows_plausible(make: Any, tmp_path: Path) -> None:
    model = make.text_to_number_model()
    profile = make.flights_profile(model, reference=None, outputs=[])
    profile["inputs"] = [{"name": "s", "datatype": "BYTES", "shape": [-1, 1], "kind": "categorical"}]
    loaded, _ = load(make.write_package(tmp_path / "p", model, profile))
    assert loaded.profile is not None


def test_without_a_profile_a_model_that_refuses_invented_rows_is_served(make: Any, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(make.text_to_number_model())
    loaded, _ = load(tmp_path / "m.onnx")
    assert loaded.version == "0"


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "http"), ("MODEL_NAME", "a/b"), ("EXPECTED_SHA256", "abc"), ("MAX_BODY_BYTES", "1"), ("THREADS", "-1")],
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    variables = {"MODEL_DIR": "m", "MODEL_NAME": "flights"} | {name: value}
    for key, text in variables.items():
        monkeypatch.setenv(f"KINGMAKER_MODEL_SERVER_{key}", text)
    with pytest.raises(BadSettings, match=f"KINGMAKER_MODEL_SERVER_{name}: "):
        read({})
