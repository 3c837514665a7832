"""V1 bodies (`{"instances": [...]}`): rows as arrays, named features or single values, into a batch and back.

Array rows follow the champion's input order, so a client needs no knowledge of challengers. Named rows may
leave a nullable feature out; a feature only a challenger knows counts as absent when no row names it, and
that challenger is then not asked.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from kingmaker_contracts import json_tensors, tensors
from kingmaker_contracts.inference import DTYPES, FLOATS, BadTensor
from kingmaker_contracts.problems import Code, Problem
from kingmaker_gateway.batch import Batch, Vocabulary, finish, refuse, refuse_unknown, shown
from kingmaker_gateway.frames import Slice
from kingmaker_gateway.signature import InputSpec

_EXPECTED: Final = {"BOOL": "true or false", "BYTES": "a string"}
_KINDS: Final[dict[str, frozenset[type]]] = {"BOOL": frozenset({bool}), "BYTES": frozenset({str})}
_NUMBERS: Final = frozenset({int, float})


class _Body(msgspec.Struct):
    instances: Any = msgspec.UNSET
    inputs: Any = msgspec.UNSET


_read: Final = msgspec.json.Decoder(_Body).decode


def decode(body: bytes, vocabulary: Vocabulary) -> Batch:
    """A batch from a V1 body. Raises Problem."""
    try:
        wire = _read(body)
    except msgspec.ValidationError as error:
        refuse(f"not a V1 request: {error}")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        refuse(tensors.json_fault(body, error))
    rows = wire.inputs if wire.instances is msgspec.UNSET else wire.instances
    if rows is msgspec.UNSET:
        refuse('the body has no "instances", expected {"instances": [row, ...]}')
    if not isinstance(rows, list):
        refuse(f'"instances" is {shown(rows)}, expected a list of rows')
    if not rows:
        refuse("the batch is empty, expected at least one row")
    if isinstance(rows[0], dict):
        return _named(rows, vocabulary)
    return _arrays(rows, vocabulary)


def encode(answer: Slice) -> bytes:
    """`{"predictions": [...]}`: plain values for one output, an object a row for several."""
    columns = {tensor.name: tensor.array.tolist() for tensor in answer.tensors}
    if len(columns) == 1:
        return msgspec.json.encode({"predictions": next(iter(columns.values()))})
    rows = zip(*columns.values(), strict=True)
    return msgspec.json.encode({"predictions": [dict(zip(columns, row, strict=True)) for row in rows]})


def _named(rows: list[Any], vocabulary: Vocabulary) -> Batch:
    names: dict[str, None] = {}
    for at, row in enumerate(rows):
        if not isinstance(row, dict):
            refuse(f"row {at} is {shown(row)}, expected an object of features like row 0")
        names.update(dict.fromkeys(row))
    for name in names:
        if name not in vocabulary.specs and name != vocabulary.extra:
            refuse_unknown(name, vocabulary)
    for spec in vocabulary.required.inputs.values():
        if spec.nullable:
            names.setdefault(spec.name)
    columns: dict[str, list[Any]] = {}
    for name in names:
        try:
            columns[name] = [row[name] for row in rows]
        except KeyError:
            columns[name] = _with_holes(name, rows, vocabulary)
    return _batch(columns, len(rows), vocabulary)


def _with_holes(name: str, rows: list[dict[str, Any]], vocabulary: Vocabulary) -> list[Any]:
    spec = vocabulary.specs.get(name)
    if spec is not None and spec.nullable:
        hole = None if spec.width == 1 else [None] * max(spec.width, 0)
        return [row.get(name, hole) for row in rows]
    at = next(at for at, row in enumerate(rows) if name not in row)
    if spec is None:
        refuse(f"row {at} lacks the feature {name!r} that other rows have; rows must share the same features")
    return refuse(f"row {at} lacks the feature {name!r}, expected a value ({spec.datatype}); it is not nullable")


def _arrays(rows: list[Any], vocabulary: Vocabulary) -> Batch:
    order = vocabulary.order
    for spec in order:
        _flat_only(spec)
    total = sum(spec.width for spec in order)
    for at, row in enumerate(rows):
        if not isinstance(row, list) and total == 1 and not isinstance(row, dict):
            continue
        if not isinstance(row, list) or len(row) != total:
            found = f"has {len(row)} values" if isinstance(row, list) else f"is {shown(row)}"
            names = ", ".join(spec.name for spec in order)
            refuse(f"row {at} {found}, expected {total} values ({names}) or named features")
    columns: dict[str, list[Any]] = {}
    at = 0
    for spec in order:
        if spec.width == 1:
            columns[spec.name] = [row[at] if isinstance(row, list) else row for row in rows]
        else:
            columns[spec.name] = [row[at : at + spec.width] for row in rows]
        at += spec.width
    return _batch(columns, len(rows), vocabulary)


def _batch(columns: dict[str, list[Any]], rows: int, vocabulary: Vocabulary) -> Batch:
    arrays: dict[str, NDArray[Any]] = {}
    nulls: set[str] = set()
    extra: NDArray[Any] | None = None
    for name, values in columns.items():
        spec = vocabulary.specs.get(name)
        if spec is None:
            extra = _loose(name, values)
            continue
        arrays[name], has_null = _column(spec, values)
        if has_null:
            nulls.add(name)
    return finish(rows, arrays, frozenset(nulls), extra, vocabulary)


def _column(spec: InputSpec, values: list[Any]) -> tuple[NDArray[Any], bool]:
    """The array of one input from one value a row, and whether it holds a missing one."""
    _flat_only(spec)
    rows = len(values)
    flat = values if spec.width == 1 else _joined(spec, values)
    kinds = set(map(type, flat))
    if list in kinds and spec.width == 1:  # {"x": [5]} is {"x": 5}
        flat = [v[0] if isinstance(v, list) and len(v) == 1 else v for v in flat]
        kinds = set(map(type, flat))
    allowed = _KINDS.get(spec.datatype, _NUMBERS)
    has_null = type(None) in kinds
    if not kinds <= allowed:
        nulls_ok = spec.nullable and (spec.datatype in FLOATS or spec.datatype == "BYTES")
        for at, value in enumerate(flat):
            if type(value) not in allowed and not (value is None and nulls_ok):
                hint = "; it is not nullable" if value is None else ""
                expected = _EXPECTED.get(spec.datatype, "a number")
                refuse(
                    f"input {spec.name!r}, row {at // spec.width}: found {shown(value)}, "
                    f"expected {expected} ({spec.datatype}){hint}"
                )
    try:
        tensor = json_tensors.from_values(spec.name, spec.datatype, [rows, *spec.tail], flat)
    except BadTensor as error:
        refuse(f"input {error}")
    return tensor.array, has_null


def _joined(spec: InputSpec, values: list[Any]) -> list[Any]:
    flat: list[Any] = []
    for at, value in enumerate(values):
        if not isinstance(value, list) or len(value) != spec.width:
            found = f"{len(value)} values" if isinstance(value, list) else shown(value)
            refuse(f"input {spec.name!r}, row {at}: found {found}, expected a list of {spec.width}")
        flat += value
    return flat


def _flat_only(spec: InputSpec) -> None:
    if len(spec.tail) > 1 or spec.is_open:
        raise Problem(
            Code.NOT_SUPPORTED,
            f"V1 rows for input {spec.name!r} of shape {spec.shape_text()} are not supported yet; send V2 tensors",
        )


def _loose(name: str, values: Iterable[Any]) -> NDArray[Any]:
    """Values of a feature no model takes: only the split looks at them."""
    column = list(values)
    for at, value in enumerate(column):
        if value is not None and type(value) not in (str, int, float, bool):
            refuse(f"input {name!r}, row {at}: found {shown(value)}, expected a string or a number")
    array = np.empty(len(column), DTYPES["BYTES"])
    array[:] = column
    return array
