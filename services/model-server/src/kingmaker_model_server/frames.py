"""Tables of other platforms into V1 rows: columns with names, columns without, and what one vector input makes of both.

A model with several inputs takes columns by their names. A model with one input of several values takes the columns
as that vector, whatever they are called: its inputs have no names of their own.
"""

from collections.abc import Sequence
from typing import Any

from kingmaker_model_server.signature import Signature, refuse


def vector_width(signature: Signature) -> int | None:
    """Values a row of the only input holds, -1 when it takes any number; None for a model whose inputs have names."""
    if len(signature.inputs) != 1:
        return None
    tail = signature.inputs[0].shape[1:]
    return None if len(tail) != 1 or tail == [1] else tail[0]


def rows_of(columns: Sequence[Any] | None, data: list[Any], where: str, signature: Signature) -> list[Any]:
    """V1 rows of a table. columns: names, or None; where: the field, for errors. Raises Problem (bad_input)."""
    if not data:
        raise refuse(f"{where} holds no rows, expected at least one")
    names = None if columns is None else _names(columns, where)
    for at, row in enumerate(data):
        if not isinstance(row, list):
            raise refuse(f"{where}: row {at} is {kind_of(row)}, expected an array")
        if names is not None and len(row) != len(names):
            raise refuse(f"{where}: row {at} has {len(row)} values, expected {len(names)}, one a column")
    if names is None or _is_vector(names, signature):
        return _bare(data, signature)
    return [dict(zip(names, row, strict=True)) for row in data]


def rows_of_records(records: list[Any], where: str, signature: Signature) -> list[Any]:
    """V1 rows of objects that all have the same keys. Raises Problem (bad_input)."""
    if not records:
        raise refuse(f"{where} holds no rows, expected at least one")
    for at, record in enumerate(records):
        if not isinstance(record, dict):
            raise refuse(f"{where}: row {at} is {kind_of(record)}, expected an object of features")
    names = list(records[0])
    if not _is_vector(names, signature):
        return records
    for at, record in enumerate(records):
        if list(record) != names:
            raise refuse(f"{where}: row {at} has other columns than row 0, or in another order")
    return [list(record.values()) for record in records]


def rows_of_columns(columns: dict[str, Any], where: str) -> list[Any]:
    """V1 rows of arrays by input, each with one item a row. Raises Problem (bad_input)."""
    if not columns:
        raise refuse(f"{where} names no input")
    for name, values in columns.items():
        if not isinstance(values, list):
            raise refuse(f"{where}: {name!r} is {kind_of(values)}, expected an array with one item a row")
    first, count = next((name, len(values)) for name, values in columns.items())
    for name, values in columns.items():
        if len(values) != count:
            raise refuse(f"{where}: {name!r} has {len(values)} rows, but {first!r} has {count}")
    if not count:
        raise refuse(f"{where} holds no rows, expected at least one")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _names(columns: Sequence[Any], where: str) -> list[str] | None:
    """The names of columns; None when they are numbered, as pandas does where nobody named them."""
    if columns and all(type(name) is int for name in columns):
        return None
    seen: set[str] = set()
    for at, name in enumerate(columns):
        if not isinstance(name, str):
            raise refuse(f"{where}: column {at} is {kind_of(name)}, expected a name")
        if name in seen:
            raise refuse(f"{where}: column {name!r} stands twice")
        seen.add(name)
    return list(columns)


def _is_vector(names: list[str], signature: Signature) -> bool:
    """Whether the columns are the elements of the model's one vector."""
    return vector_width(signature) is not None and names != [signature.inputs[0].name]


def _bare(data: list[Any], signature: Signature) -> list[Any]:
    """Rows without names. V1 takes a row of a model with one input for the input itself, which a vector is."""
    if len(signature.inputs) != 1 or vector_width(signature) is not None:
        return data
    for at, row in enumerate(data):
        if len(row) != 1:
            raise refuse(f"row {at} has {len(row)} values, expected 1: {signature.inputs[0].name!r}")
    return [row[0] for row in data]


def kind_of(value: Any) -> str:
    """A JSON value's type, for errors."""
    names = {type(None): "null", dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
    return names.get(type(value), "a number")
