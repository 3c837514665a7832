"""scikit-learn to ONNX with the preprocessing inside: the only module that knows skl2onnx.

Inputs keep the DataFrame's column names, whatever characters they hold (skl2onnx would replace some),
and a column that no step reads is no input, so nobody has to send it.
"""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Final

import onnx
import pandas as pd
from skl2onnx import to_onnx
from skl2onnx._supported_operators import sklearn_operator_name_map
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import FeatureUnion, Pipeline

from kingmaker.publishing.columns import Column
from kingmaker.publishing.errors import TooBig, UnsupportedModel

TARGET_OPSET: Final = {"": 21, "ai.onnx.ml": 3}
MAX_MODEL_BYTES: Final = 1024 * 1024 * 1024
"""Protobuf ends at 2 GiB, and a model server holds a model several times while loading it."""


def convert(
    estimator: Any, is_classifier: bool, columns: Sequence[Column], sample: pd.DataFrame, limit: int = MAX_MODEL_BYTES
) -> bytes:
    """The bytes of the ONNX file.

    sample: a few reference rows, columns in the model's order. Raises UnsupportedModel, naming the step
    that has no ONNX form, and TooBig beyond `limit` bytes.
    """
    model = _with_columns(estimator, sample)
    types = {"numeric": FloatTensorType, "categorical": StringTensorType}
    inputs = [(column.name, types[column.kind]([None, 1])) for column in columns]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            proto = to_onnx(
                model,
                initial_types=inputs,
                options={id(model): {"zipmap": False}} if is_classifier else None,
                target_opset=TARGET_OPSET,
            )
    except Exception as error:  # skl2onnx raises whatever its converters happen to raise
        raise UnsupportedModel(_blame(estimator, error)) from error
    _restore_inputs(proto.graph, columns)
    size = proto.ByteSize()
    if size > limit:
        raise TooBig(f"the model is {size / 1e6:.1f} MB as ONNX, more than the {limit / 1e6:.1f} MB that can be served")
    raw: bytes = proto.SerializeToString()
    return raw


def _with_columns(estimator: Any, sample: pd.DataFrame) -> Any:
    """skl2onnx joins separate inputs only in front of a transformer: give a bare estimator one that does nothing."""
    first = estimator.steps[0][1] if isinstance(estimator, Pipeline) else estimator
    if hasattr(first, "transform") and isinstance(estimator, Pipeline):
        return estimator
    join = ColumnTransformer([("columns", "passthrough", list(sample.columns))]).fit(sample)
    return Pipeline([("columns", join), ("model", estimator)])


def _restore_inputs(graph: onnx.GraphProto, columns: Sequence[Column]) -> None:
    """Give inputs their columns' names again, and drop those that no node reads."""
    names = {value.name: column.name for value, column in zip(graph.input, columns, strict=True)}
    read: set[str] = set()
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name in names:
                node.input[position] = names[name]
                read.add(name)
    kept = [value for value in graph.input if value.name in read]
    del graph.input[:]
    for value in kept:
        value.name = names[value.name]
        graph.input.append(value)


def _blame(estimator: Any, error: Exception) -> str:
    """Which step cannot be converted, as far as that can be known."""
    for path, step in _steps(estimator, ""):
        if type(step) not in sklearn_operator_name_map and not isinstance(
            step, Pipeline | FeatureUnion | ColumnTransformer
        ):
            return f"step {path or 'model'!r} ({type(step).__name__}) has no ONNX form: skl2onnx does not know it"
        if getattr(step, "func", None) is not None:
            return f"step {path!r} ({type(step).__name__}) calls a Python function, which has no ONNX form"
    reason = " ".join(str(error).split())[:300]
    return f"{type(estimator).__name__} cannot be converted to ONNX: {type(error).__name__}: {reason}"


def _steps(estimator: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every part of a model with its dotted place in it."""
    if isinstance(estimator, str) or estimator is None:  # "passthrough", "drop"
        return
    yield path, estimator
    inner: list[tuple[str, Any]] = []
    if isinstance(estimator, Pipeline):
        inner = list(estimator.steps)
    elif isinstance(estimator, ColumnTransformer):
        inner = [(name, step) for name, step, *_ in estimator.transformers_]
    elif isinstance(estimator, FeatureUnion):
        inner = list(estimator.transformer_list)
    for name, step in inner:
        yield from _steps(step, f"{path}.{name}" if path else name)
