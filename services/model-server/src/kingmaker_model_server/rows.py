"""V1 rows into tensors.

A row is an object of named features, an array with one element an input in the model's order, or, for a
model with one input, that input's vector (a bare number or string when it holds one). `null`, or a named
feature left out, is a missing value. Rows of several kinds may stand in one request.
"""

import math
from typing import Any, Final

import msgspec
import numpy as np

from kingmaker_contracts import json_tensors, tensors
from kingmaker_contracts.inference import FLOATS, BadTensor, Tensor, TensorSpec
from kingmaker_model_server.signature import Signature, refuse


class _Body(msgspec.Struct):
    instances: list[Any] | None = None
    inputs: list[Any] | None = None


_read: Final = msgspec.json.Decoder(_Body).decode


def instances_of(body: bytes) -> list[Any]:
    """The rows of a `:predict` body. Raises Problem (bad_input)."""
    try:
        wire = _read(body)
    except msgspec.ValidationError as error:
        raise refuse(f"not a prediction request: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise refuse(tensors.json_fault(body, error)) from None
    instances = wire.inputs if wire.instances is None else wire.instances
    if instances is None:
        raise refuse('"instances" is missing, expected {"instances": [row, ...]}')
    if not instances:
        raise refuse('"instances" is empty, expected at least one row')
    return instances


def to_tensors(instances: list[Any], signature: Signature) -> list[Tensor]:
    """One tensor an input. Raises Problem (bad_input), naming feature and row."""
    columns: list[list[Any]] = [[] for _ in signature.inputs]
    for at, row in enumerate(instances):
        for column, cell in zip(columns, _cells(row, at, signature), strict=True):
            column.append(cell)
    return [_tensor(spec, column, signature) for spec, column in zip(signature.inputs, columns, strict=True)]


def _cells(row: Any, at: int, signature: Signature) -> list[Any]:
    """What the row gives for every input, in the model's order; None for a missing value."""
    specs = signature.inputs
    if isinstance(row, dict):
        return _named(row, at, signature)
    if len(specs) == 1:
        return [row]
    if isinstance(row, list):
        if len(row) != len(specs):
            raise refuse(f"row {at} has {len(row)} values, expected {len(specs)}: {_order(specs)}")
        return row
    raise refuse(f"row {at} is {_shown(row)}, expected an object of features or an array of {_order(specs)}")


def _named(row: dict[str, Any], at: int, signature: Signature) -> list[Any]:
    for name in row:
        if name not in signature.by_name:
            raise refuse(f"row {at}: unknown feature {name!r}; the model takes {_order(signature.inputs)}")
    for spec in signature.inputs:
        if spec.name not in row and spec.name not in signature.nullable:
            raise signature.missing(spec.name, at)
    return [row.get(spec.name) for spec in signature.inputs]


def _tensor(spec: TensorSpec, column: list[Any], signature: Signature) -> Tensor:
    """One input from its cells, checked row by row only when something is wrong with the whole."""
    tail = _tail(spec, column)
    size = math.prod(tail)
    try:
        if spec.datatype not in FLOATS and spec.datatype != "BYTES" and None in column:
            raise signature.missing(spec.name, column.index(None))
        flat = [value for cell in column for value in _values(cell, size, tail)] if tail else column
        return json_tensors.from_values(spec.name, spec.datatype, [len(column), *tail], flat)
    except BadTensor:
        for at, cell in enumerate(column):
            _check(spec, at, cell, tail)
        raise


def _check(spec: TensorSpec, at: int, cell: Any, tail: list[int]) -> None:
    """Raises Problem when this one cell is at fault."""
    try:
        flat = _values(cell, math.prod(tail), tail) if tail else [cell]
    except BadTensor as error:
        raise refuse(f"row {at}: input {spec.name!r} {error}") from None
    try:
        json_tensors.from_values(spec.name, spec.datatype, [1, *tail], flat)
    except BadTensor as error:
        raise refuse(f"row {at}: input {error}") from None


def _tail(spec: TensorSpec, column: list[Any]) -> list[int]:
    """The shape of one row: as declared; what is open there is read from the first row that has a value."""
    tail = spec.shape[1:]
    if -1 not in tail:
        return tail
    try:
        found = np.shape(next((cell for cell in column if cell is not None), 0))
    except ValueError:
        raise refuse(f"input {spec.name!r}: a row is not nested evenly, expected {tail}") from None
    if len(found) != len(tail):
        raise refuse(f"input {spec.name!r}: a row has shape {list(found)}, expected {tail}")
    return [is_ if want < 0 else want for want, is_ in zip(tail, found, strict=True)]


def _values(cell: Any, size: int, tail: list[int]) -> list[Any]:
    """The `size` values of one cell, row-major. Raises BadTensor for a wrong length or nesting."""
    if not isinstance(cell, list):
        if size != 1 and cell is not None:
            raise BadTensor(f"is {_shown(cell)}, expected {size} values")
        return [cell] * size
    level = cell
    for depth, wanted in enumerate(tail):
        if len(level) != math.prod(tail[: depth + 1]):
            raise BadTensor(f"has {len(level)} values, expected {wanted}" if depth == 0 else f"is not nested as {tail}")
        if depth == len(tail) - 1:
            return level
        nested = [item for item in level if isinstance(item, list) and len(item) == tail[depth + 1]]
        if len(nested) != len(level):
            raise BadTensor(f"is not nested as {tail}")
        level = [value for item in nested for value in item]
    return level


def _order(specs: list[TensorSpec]) -> str:
    return ", ".join(repr(spec.name) for spec in specs)


def _shown(value: Any) -> str:
    return {type(None): "null", dict: "an object", list: "an array"}.get(type(value)) or msgspec.json.encode(
        value
    ).decode()[:60]
