"""The answers of `/invocations` that V1 does not have: by output as MLflow's server gives them, CSV, JSON lines."""

import csv
import io
from typing import Any, Final

import msgspec

from kingmaker_contracts.inference import TensorSpec
from kingmaker_model_server.answers import JSON, Answer, Outputs, PredictWriter, Writer
from kingmaker_model_server.media import Media

_CSV: Final = ((b"content-type", b"text/csv; charset=utf-8"),)
_JSON_LINES: Final = ((b"content-type", Media.JSON_LINES.encode()),)

_encode: Final = msgspec.json.Encoder().encode


class ByOutputWriter(Writer):
    """Every output by its name with a value a row: what MLflow's server answers for a model of its ONNX flavour."""

    def __init__(self, outputs: list[TensorSpec]) -> None:
        self.outputs = [spec.name for spec in outputs]

    def write(self, _: bytes, outputs: Outputs, start: int, stop: int) -> Answer:
        predictions = {name: outputs[name].rows(start, stop) for name in self.outputs}
        return Answer(200, (JSON,), _encode({"predictions": predictions}))


class CsvWriter(Writer):
    """A line a row, without names: the outputs in the model's order, each with all its values. Empty is missing."""

    def __init__(self, outputs: list[TensorSpec]) -> None:
        self.outputs = [spec.name for spec in outputs]

    def write(self, _: bytes, outputs: Outputs, start: int, stop: int) -> Answer:
        columns: list[list[Any]] = []
        for name in self.outputs:
            values = outputs[name].values(start, stop)
            width = len(values) // (stop - start)
            columns += [values[at::width] for at in range(width)]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([_cell(v) for v in row] for row in zip(*columns, strict=True))
        return Answer(200, _CSV, text.getvalue().encode())


class JsonLinesWriter(Writer):
    """A line a row, each what `predictions` would hold for it."""

    def __init__(self, outputs: list[TensorSpec]) -> None:
        self._rows = PredictWriter(outputs)
        self.outputs = self._rows.outputs

    def write(self, _: bytes, outputs: Outputs, start: int, stop: int) -> Answer:
        lines = [_encode(row) for row in self._rows.predictions(outputs, start, stop)]
        return Answer(200, _JSON_LINES, b"\n".join([*lines, b""]))


def _cell(value: Any) -> Any:
    """A value as CSV has it; words for booleans as in JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value != value else value  # noqa: PLR0124 - NaN alone differs from itself
