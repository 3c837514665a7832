"""Bodies of `POST /invocations`, and of Vertex AI's predict route, into V1 rows.

Four platforms call with one body each: `instances` (SageMaker, Vertex AI, KServe), `dataframe_split`,
`dataframe_records` and `inputs` (MLflow), and CSV and JSON lines beside them. All become the rows `:predict` takes.
What a platform may send beside the rows (`parameters`, `params`) an ONNX model has no use for, so anything in it is
refused rather than ignored.
"""

from typing import Any, Final, NamedTuple

import msgspec

from kingmaker_contracts import tensors
from kingmaker_model_server import csv_rows, frames
from kingmaker_model_server.frames import kind_of
from kingmaker_model_server.media import Content, Media
from kingmaker_model_server.signature import Signature, refuse

_FORMATS: Final = ("instances", "dataframe_split", "dataframe_records", "inputs")
_PARAMETERS: Final = ("parameters", "params")
_SPLIT: Final = ("columns", "data", "index")
_EXPECTED: Final = "expected an object with exactly one of " + ", ".join(f'"{name}"' for name in _FORMATS)
_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_decode: Final = msgspec.json.Decoder().decode


class Rows(NamedTuple):
    """V1 rows. by_output: the answer goes out as MLflow's server gives it, every output with its rows."""

    instances: list[Any]
    by_output: bool = False


def read(content: Content, body: bytes, signature: Signature) -> Rows:
    """The rows of a body. Raises Problem (bad_input)."""
    if content.media is Media.CSV:
        return Rows(csv_rows.rows_of(body, content.has_header, signature))
    if content.media is Media.JSON_LINES:
        return Rows([_unwrapped(row, signature) for row in _lines(body)])
    found = _json(body)
    if not isinstance(found, dict):
        raise refuse(f"the body is {kind_of(found)}, {_EXPECTED}")
    name = _format_of(found)
    return _READERS[name](found[name], signature)


def _format_of(found: dict[str, Any]) -> str:
    names = [name for name in found if name in _FORMATS]
    if len(names) != 1:
        shown = ", ".join(f'"{name}"' for name in list(found)[:8]) or "nothing"
        raise refuse(f"the body has {shown}, {_EXPECTED}")
    for name, value in found.items():
        if name in _PARAMETERS and value not in (None, {}):
            raise refuse(f'"{name}" is not empty, but the model takes no parameters')
        if name not in _FORMATS and name not in _PARAMETERS:
            raise refuse(f'unknown field "{name}" beside "{names[0]}"')
    return names[0]


def _instances(value: Any, signature: Signature) -> Rows:
    rows = _array(value, "instances")
    if not rows:
        raise refuse('"instances" is empty, expected at least one row')
    return Rows([_unwrapped(row, signature) for row in rows])


def _split(value: Any, signature: Signature) -> Rows:
    if not isinstance(value, dict):
        raise refuse(f'"dataframe_split" is {kind_of(value)}, expected an object with "columns" and "data"')
    for name in value:
        if name not in _SPLIT:
            raise refuse(f'"dataframe_split" has the unknown field "{name}", known are {", ".join(_SPLIT)}')
    if "data" not in value:
        raise refuse('"dataframe_split" has no "data", expected an array of rows')
    columns = value.get("columns")
    if columns is not None:
        columns = _array(columns, "dataframe_split.columns")
    data = _array(value["data"], "dataframe_split.data")
    return Rows(frames.rows_of(columns, data, "dataframe_split", signature), by_output=True)


def _records(value: Any, signature: Signature) -> Rows:
    records = _array(value, "dataframe_records")
    return Rows(frames.rows_of_records(records, "dataframe_records", signature), by_output=True)


def _inputs(value: Any, _: Signature) -> Rows:
    if isinstance(value, dict):
        return Rows(frames.rows_of_columns(value, "inputs"), by_output=True)
    if not isinstance(value, list):
        raise refuse(f'"inputs" is {kind_of(value)}, expected an array, or an object of arrays')
    if not value:
        raise refuse('"inputs" is empty, expected at least one row')
    return Rows(value, by_output=True)


_READERS: Final = {
    "instances": _instances,
    "dataframe_split": _split,
    "dataframe_records": _records,
    "inputs": _inputs,
}


def _unwrapped(row: Any, signature: Signature) -> Any:
    """SageMaker's own algorithms write a row as `{"features": [...]}`; taken when no input is called so."""
    if isinstance(row, dict) and list(row) == ["features"] and "features" not in signature.by_name:
        return row["features"]
    return row


def _lines(body: bytes) -> list[Any]:
    lines = body.splitlines()
    if not lines:
        raise refuse("the body is empty, expected a JSON value a line")
    return [_json(line, f"line {at}: ") for at, line in enumerate(lines, 1)]


def _json(body: bytes, where: str = "") -> Any:
    try:
        return _decode(body)
    except _ERRORS as error:
        raise refuse(where + tensors.json_fault(body, error)) from None


def _array(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise refuse(f'"{where}" is {kind_of(value)}, expected an array')
    return value
