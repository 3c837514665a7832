"""CSV into V1 rows.

SageMaker's clients send values only, in the model's order; MLflow's send a line of names first. The first line is
taken for names when none of its cells is a number and one of them is the name of an input (or the model is one vector
of numbers, where words can be nothing else); `text/csv; header=present` or `absent` ends all doubt. An empty cell is a
missing value, and no line is ever skipped: a lost row would hand every later answer to the wrong one.
"""

import csv
import io
import re
from typing import Any, Final

from kingmaker_contracts.inference import TensorSpec
from kingmaker_model_server import frames
from kingmaker_model_server.signature import Signature, refuse

_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_WHOLE: Final = re.compile(r"[+-]?\d{1,400}", re.ASCII)
"""Longer ones fit no datatype, and Python would not read them at all from some length on."""
_BOOLEANS: Final = {"true": True, "True": True, "false": False, "False": False}


def rows_of(body: bytes, has_header: bool | None, signature: Signature) -> list[Any]:
    """The rows of a CSV body. Raises Problem (bad_input)."""
    lines = _lines(body)
    if not lines:
        raise refuse("the body is empty, expected CSV")
    is_vector = frames.vector_width(signature) is not None
    if not is_vector and any(len(spec.shape) > 2 or spec.shape[1:] not in ([], [1]) for spec in signature.inputs):
        raise refuse("CSV cannot carry this model's inputs: one of them holds several values a row, send JSON")
    if has_header is None:
        has_header = _is_header(lines[0], signature, is_vector)
    names = lines.pop(0) if has_header else None
    data = [_cells(at, line, names, signature, is_vector) for at, line in enumerate(lines)]
    return frames.rows_of(names, data, "CSV", signature)


def _lines(body: bytes) -> list[list[str]]:
    try:
        text = body.decode("utf-8-sig")  # spreadsheets put the mark there
        return list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except UnicodeDecodeError:
        raise refuse("the body is not UTF-8") from None
    except csv.Error as error:
        raise refuse(f"the body is not CSV: {error}") from None


def _is_header(cells: list[str], signature: Signature, is_vector: bool) -> bool:
    if any(not cell.strip() or _NUMBER.fullmatch(cell.strip()) for cell in cells):
        return False
    return any(cell in signature.by_name for cell in cells) or (is_vector and signature.inputs[0].datatype != "BYTES")


def _cells(at: int, line: list[str], names: list[str] | None, signature: Signature, is_vector: bool) -> list[Any]:
    """The values of one line, in the types of their inputs."""
    specs = signature.inputs
    if not line and len(specs) == 1:
        line = [""]
    if is_vector:
        return [_value(at, cell, specs[0], names) for cell in line]
    wanted: list[TensorSpec | None] = list(specs) if names is None else [signature.by_name.get(n) for n in names]
    if len(line) != len(wanted):
        shown = ", ".join(repr(spec.name) for spec in specs) if names is None else "one a column"
        raise refuse(f"row {at} has {len(line)} values, expected {len(wanted)}: {shown}")
    # a column nobody knows is the row reader's to refuse, by its name
    return [cell if spec is None else _value(at, cell, spec, names) for cell, spec in zip(line, wanted, strict=True)]


def _value(at: int, cell: str, spec: TensorSpec, names: list[str] | None) -> Any:
    """A cell as a JSON value of its input. Raises Problem (bad_input)."""
    if spec.datatype == "BYTES":
        return cell or None
    text = cell.strip()
    if not text:
        return None
    if spec.datatype == "BOOL":
        if text in _BOOLEANS:
            return _BOOLEANS[text]
        raise refuse(f"row {at}: input {spec.name!r} is {cell[:60]!r}, expected true or false")
    if _WHOLE.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text):
        return float(text)
    hint = "; a first line of names must name the model's inputs" if at == 0 and names is None else ""
    raise refuse(f"row {at}: input {spec.name!r} is {cell[:60]!r}, expected a number{hint}")
