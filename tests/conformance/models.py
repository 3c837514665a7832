"""The models the conformance tests serve, and ONNX Runtime in this process as the oracle of their answers."""

import hashlib
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pandas as pd
from numpy.typing import NDArray
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

from kingmaker_contracts.profile import CategoricalReference, Feature, NumericReference, Output, Profile, Reference

CARRIERS = ("UA", "AA", "DL")
KINDS = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


def flights() -> bytes:
    """distance, delay FP32 [N,1], carrier BYTES [N,1] -> label INT64 [N], probabilities FP32 [N,2]."""
    rng = np.random.default_rng(7)
    frame = pd.DataFrame(
        {
            "distance": rng.uniform(100, 2500, 300).astype(np.float32),
            "delay": rng.normal(5, 20, 300).astype(np.float32),
            "carrier": rng.choice(CARRIERS, 300),
        }
    )
    columns = ColumnTransformer(
        [
            ("num", SimpleImputer(), ["distance", "delay"]),
            ("cat", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["carrier"]),
        ]
    )
    pipe = Pipeline([("columns", columns), ("lr", LogisticRegression(max_iter=500))])
    pipe.fit(frame, (frame["delay"] + rng.normal(0, 5, 300) > 10).astype(int))
    types = [("distance", FloatTensorType([None, 1])), ("delay", FloatTensorType([None, 1]))]
    types += [("carrier", StringTensorType([None, 1]))]
    options = {id(pipe): {"zipmap": False}}
    converted = to_onnx(pipe, initial_types=types, options=options, target_opset={"": 21, "ai.onnx.ml": 3})
    return bytes(converted.SerializeToString())


def flights_profile(model: bytes) -> Profile:
    """The profile of `flights`; only delay may be missing."""
    numbers = NumericReference([0.5], [150, 150], 0, 0.0, 1.0, 0.5, 0.5)
    return Profile(
        name="flights",
        onnx_sha256=hashlib.sha256(model).hexdigest(),
        inputs=[
            Feature("distance", "FP32", [-1, 1], "numeric"),
            Feature("delay", "FP32", [-1, 1], "numeric", nullable=True),
            Feature("carrier", "BYTES", [-1, 1], "categorical"),
        ],
        outputs=[Output("label", "INT64", [-1]), Output("probabilities", "FP32", [-1, 2])],
        score=None,
        reference=Reference(
            rows=300,
            numeric={"distance": numbers, "delay": numbers},
            categorical={"carrier": CategoricalReference(list(CARRIERS), [100] * 3, 0, 0)},
        ),
        quality=None,
        parity=None,
        created_at="2026-01-01T00:00:00Z",
    )


def block() -> bytes:
    """One tensor in, one out: x FP32 [N,4] -> twice FP32 [N,4]."""
    nodes = [helper.make_node("Add", ["x", "x"], ["twice"])]
    return _onnx(nodes, [_value("x", "FP32", ["N", 4])], [_value("twice", "FP32", ["N", 4])])


def echo() -> bytes:
    """An input of every datatype, <datatype> [N,1] in lower case, each given back as <name>_out."""
    nodes = [helper.make_node("Identity", [d.lower()], [f"{d.lower()}_out"]) for d in KINDS]
    inputs = [_value(d.lower(), d, ["N", 1]) for d in KINDS]
    return _onnx(nodes, inputs, [_value(f"{d.lower()}_out", d, ["N", 1]) for d in KINDS])


class Oracle:
    """What a model says of arrays, without any server. A missing value is NaN, as the model was trained."""

    def __init__(self, model: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.outputs = [output.name for output in self._session.get_outputs()]

    def __call__(self, arrays: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return dict(zip(self.outputs, self._session.run(None, arrays), strict=True))


def _value(name: str, datatype: str, shape: list[Any]) -> Any:
    return helper.make_tensor_value_info(name, KINDS[datatype], shape)


def _onnx(nodes: list[Any], inputs: list[Any], outputs: list[Any]) -> bytes:
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
