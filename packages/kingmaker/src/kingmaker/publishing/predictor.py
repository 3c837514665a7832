"""The converted model as the model server will run it: ONNX Runtime, CPU, one thread, rows in batches."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from kingmaker.publishing.columns import Rows
from kingmaker.publishing.errors import UnsupportedModel
from kingmaker_contracts.feedback import label_text
from kingmaker_contracts.profile import Output

BATCH_ROWS = 8192
_DATATYPES = {"tensor(float)": "FP32", "tensor(int64)": "INT64", "tensor(string)": "BYTES", "tensor(double)": "FP64"}


@dataclass(slots=True, frozen=True)
class Predictions:
    """Answers for n rows. values: probabilities (n, classes), or numbers (n,); labels: the predicted class of
    each row as feedback spells it, None for a regression."""

    values: NDArray[Any]
    labels: NDArray[Any] | None

    def score(self, column: int) -> NDArray[np.float64]:
        """The one number a row is judged by, shape (n,)."""
        values = np.asarray(self.values, dtype=np.float64)
        return values if values.ndim == 1 else values[:, column]


class Predictor:
    """An ONNX model that answers rows. inputs, outputs: as the graph declares them."""

    def __init__(self, onnx: bytes, is_classifier: bool) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base below Exception
            raise UnsupportedModel(f"the converted model does not load in ONNX Runtime: {error}") from error
        self.inputs = [item.name for item in self._session.get_inputs()]
        self.outputs = [_output(item) for item in self._session.get_outputs()]
        self._is_classifier = is_classifier
        if is_classifier and len(self.outputs) != 2:
            raise UnsupportedModel(
                f"the converted classifier has outputs {[o.name for o in self.outputs]}, expected two"
            )

    @property
    def score_output(self) -> str:
        return self.outputs[-1].name

    @property
    def label_output(self) -> str | None:
        return self.outputs[0].name if self._is_classifier else None

    def predict(self, rows: Rows) -> Predictions:
        count = len(next(iter(rows.values())))
        parts = [self._run(rows, start) for start in range(0, count, BATCH_ROWS)]
        values = np.concatenate([part[-1] for part in parts])
        if not self._is_classifier:
            return Predictions(values.reshape(-1), None)
        return Predictions(values, spelled(np.concatenate([part[0] for part in parts])))

    def _run(self, rows: Rows, start: int) -> list[NDArray[Any]]:
        feed = {name: rows[name][start : start + BATCH_ROWS].reshape(-1, 1) for name in self.inputs}
        answer: list[NDArray[Any]] = self._session.run(None, feed)
        return answer


def spelled(values: Iterable[Any]) -> NDArray[Any]:
    """Labels as feedback spells them, an object array of str: 1, 1.0, True and "1" are one class."""
    array = np.asarray(values)
    flat = array.tolist()
    known = {
        value: label_text(value if isinstance(value, str | int | float | bool) else str(value)) for value in set(flat)
    }
    out = np.empty(len(flat), dtype=object)
    out[:] = [known[value] for value in flat]
    return out


def _output(item: Any) -> Output:
    if item.type not in _DATATYPES:
        raise UnsupportedModel(
            f"the converted model's output {item.name!r} has type {item.type}, which cannot be served"
        )
    return Output(item.name, _DATATYPES[item.type], [size if isinstance(size, int) else -1 for size in item.shape])
