"""Chunking and batching are invisible: every row gets the answer it would get alone."""

import json
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

floats = st.floats(-5000, 5000, width=32)
row = st.fixed_dictionaries({"distance": floats, "delay": floats, "carrier": st.sampled_from(["UA", "AA", "DL", "?"])})


def assert_same(one: Any, other: Any) -> None:
    assert one["label"] == other["label"]
    assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-6)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(row, min_size=1, max_size=20), copies=st.sampled_from([1, 4, 13]))
def test_a_row_in_any_batch_is_answered_as_alone(core: Any, rows: list[Any], copies: int) -> None:
    alone = [core.predict([one])[1][0] for one in rows]
    status, together = core.predict(rows * copies)
    assert status == 200
    assert len(together) == len(rows) * copies
    for at, answer in enumerate(together):
        assert_same(answer, alone[at % len(rows)])


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 128, 129, 300])
def test_a_chunked_batch_is_what_the_model_gives_for_each_chunk_bit_for_bit(
    core: Any, flights_bytes: bytes, rows: int
) -> None:
    rng = np.random.default_rng(rows)
    feed = {
        "distance": rng.uniform(100, 2000, (rows, 1)).astype(np.float32),
        "delay": rng.normal(10, 20, (rows, 1)).astype(np.float32),
        "carrier": rng.choice(np.array(["UA", "AA"], dtype=object), (rows, 1)),
    }
    names = ["label", "probabilities"]
    bare = ort.InferenceSession(flights_bytes, providers=["CPUExecutionProvider"])
    parts = [bare.run(names, {name: array[at : at + 64] for name, array in feed.items()}) for at in range(0, rows, 64)]
    for output, expected in zip(core.model.run(names, feed), zip(*parts, strict=True), strict=True):
        assert np.array_equal(output, np.concatenate(expected))


def test_a_model_of_fixed_size_runs_whole_and_takes_no_other_size(make: Any) -> None:
    core = make.Core(make.one_column_model(shape=(100, 1)))
    assert not core.model.row_wise

    def infer(rows: int) -> Any:
        tensor = {"name": "x", "shape": [rows, 1], "datatype": "FP32", "data": list(range(rows))}
        return core.infer(json.dumps({"inputs": [tensor]}).encode())

    assert json.loads(infer(100).body)["outputs"][0]["data"] == list(range(100))
    answer = infer(3)
    assert answer.status == 400
    assert b"shape is [3, 1], expected [100, 1]" in answer.body


@pytest.mark.parametrize("length", [1, 64])
def test_an_output_as_long_as_a_batch_of_the_warm_up_is_not_taken_for_rows(make: Any, length: int) -> None:
    classes = helper.make_tensor("w", TensorProto.FLOAT, [length], list(range(length)))
    nodes = [helper.make_node("Add", ["x", "x"], ["y"]), helper.make_node("Identity", ["w"], ["classes"])]
    outputs = [make.value("y", TensorProto.FLOAT, ["N", 1]), make.value("classes", TensorProto.FLOAT, [length])]
    core = make.Core(make.onnx_bytes(nodes, [make.value("x", TensorProto.FLOAT, ["N", 1])], outputs, (classes,)))
    for rows in (1, 3, 64):
        tensor = {"name": "x", "shape": [rows, 1], "datatype": "FP32", "data": list(range(rows))}
        answer = core.infer(json.dumps({"inputs": [tensor]}).encode())
        assert answer.status == 200, answer.body
        found = {output["name"]: output["data"] for output in json.loads(answer.body)["outputs"]}
        assert found == {"y": [2 * at for at in range(rows)], "classes": list(range(length))}
