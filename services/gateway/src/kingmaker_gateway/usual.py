"""The usual request bodies, read fast: typed decoders made once for a vocabulary.

They take well-formed bodies of the commonest forms and nothing else. Whatever is unusual (another datatype, nested
data, a parameter, a missing feature, any mistake) is not refused here but left to the general readers, so there
is one place that says what is wrong. What they take, the general readers would read as the same arrays.
"""

import math
import struct
from collections.abc import Callable
from itertools import chain
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from kingmaker_gateway.batch import MAX_ROWS, Batch, Vocabulary, of_lists
from kingmaker_gateway.signature import InputSpec

Read = TypeVar("Read")

_FP32_MAX: Final = math.nextafter(2.0**128 - 2.0**103, 0)
"""The largest number that does not become an infinity as FP32: half a place above its own largest."""
_EXACT: Final = 2**53
_WIDEST_ROW: Final = 1024
"""Making a decoder of rows of a fixed length takes 2 us a value."""
_Float32 = Annotated[float, Meta(ge=-_FP32_MAX, le=_FP32_MAX)]
_Whole = Annotated[int, Meta(ge=-_EXACT, le=_EXACT)]
_VALUE_TYPES: Final[dict[str, Any]] = {
    "FP32": _Float32,
    "FP64": Annotated[float, Meta(ge=-1.7e308, le=1.7e308)],
    "INT64": _Whole,
    "INT32": Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)],
    "BYTES": str,
    "BOOL": bool,
}
"""Datatypes with a column form here; None in a column means missing."""
_LITERAL: Final[Any] = Literal
_FIXED: Final[Any] = tuple
"""To make types of what a model says; a type checker would follow them."""
_NULLABLE: Final = frozenset({"FP32", "FP64", "BYTES"})


class _Tensor(msgspec.Struct, gc=False):
    name: str
    shape: list[int]
    datatype: str
    data: list[_Float32 | _Whole | str]
    parameters: None = None


class _Request(msgspec.Struct, gc=False):
    inputs: list[_Tensor]
    id: str | None = None
    outputs: None = None
    parameters: None = None


class _FloatTensor(msgspec.Struct, gc=False):
    name: str
    shape: list[int]
    datatype: Literal["FP32", "FP64"]
    data: list[_Float32]
    parameters: None = None


class _FloatRequest(msgspec.Struct, gc=False):
    """For models that take nothing else: half the price, for no value needs a second look."""

    inputs: list[_FloatTensor]
    id: str | None = None
    outputs: None = None
    parameters: None = None


_NOT_READ: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_read_v2: Final = msgspec.json.Decoder(_Request).decode
_read_floats: Final = msgspec.json.Decoder(_FloatRequest).decode
_NUMBERS: Final = frozenset({int, float})
_KINDS: Final = {"FP64": _NUMBERS, "INT64": frozenset({int}), "BYTES": frozenset({str})}
_NO_FIELD: Final = frozenset({'"', "\\", *map(chr, range(32))})
"""Characters no field of a msgspec.Struct may have in its name."""
_NO_KINDS: Final[frozenset[type]] = frozenset()
_NO_NULLS: Final[frozenset[str]] = frozenset()


def v2_reader(
    vocabulary: Vocabulary, made: Callable[[Batch, str | None], Read], otherwise: Callable[[bytes], Read]
) -> Callable[[bytes], Read]:
    """Reads V2 bodies. made: of rows and the request's own id; otherwise: reads what is not usual."""
    decoders: Decoders = vocabulary.usual or _remember(vocabulary)
    decode, row, specs = decoders.tensors, decoders.row, vocabulary.specs

    def read(body: bytes) -> Read:
        try:
            wire = decode(body)
        except _NOT_READ:
            return otherwise(body)
        batch = _tensors(wire.inputs, decoders, vocabulary)
        if batch is None:
            return otherwise(body)
        if row is not None:
            row.is_expected = wire.inputs[0].shape == row.shape
        return made(batch, wire.id)

    if row is None:
        return read
    decode_row, pack = row.decode, row.pack

    def read_row(body: bytes) -> Read:
        if not row.is_expected:
            return read(body)
        try:
            wire = decode_row(body)
            packed = pack(*wire.inputs[0].data)  # refuses what is too large for FP32
        except (*_NOT_READ, OverflowError):
            row.is_expected = False
            return read(body)
        return made(Batch(1, {}, _NO_NULLS, None, None, specs, True, packed), wire.id)

    return read_row


def _tensors(inputs: list[Any], decoders: "Decoders", vocabulary: Vocabulary) -> Batch | None:
    """Rows; None: not in one of the usual forms."""
    specs = vocabulary.specs
    columns: dict[str, list[Any]] = {}
    rows = inputs[0].shape[0] if inputs and inputs[0].shape else 0
    if not 0 < rows <= MAX_ROWS:
        return None
    for tensor in inputs:
        name, shape = tensor.name, tensor.shape
        spec = specs.get(name)
        if spec is None or spec.is_open or name in columns or len(tensor.data) != rows * spec.width:
            return None
        if shape != (spec.one_row if rows == 1 else [rows, *spec.tail]) and not (
            spec.is_single and shape in ([rows], [rows, 1])
        ):
            return None
        if not (decoders.only_floats or _is_of(tensor, spec.datatype)):
            return None
        columns[name] = tensor.data
    if len(columns) < len(specs) and not vocabulary.required.inputs.keys() <= columns.keys():
        return None
    return of_lists(rows, columns, specs, _NO_NULLS)


def _is_of(tensor: _Tensor, datatype: str) -> bool:
    """Whether all values are of a kind that goes into this datatype as it is."""
    kinds = set(map(type, tensor.data))
    if datatype == "FP32":
        return tensor.datatype in ("FP32", "FP64") and kinds <= _NUMBERS
    if tensor.datatype != datatype:
        return False
    return kinds <= _KINDS.get(datatype, _NO_KINDS)


class Row:
    """V2 bodies that hold one row of the only input there is, of FP32: name, shape and length are told by the decoder,
    so nothing is left to check of what it takes. is_expected: the last body was one, and so the next is read as one
    first; a body that is none is read twice."""

    __slots__ = ("decode", "is_expected", "pack", "shape")

    def __init__(self, spec: InputSpec) -> None:
        self.shape, self.is_expected = spec.one_row, True
        self.pack = struct.Struct(f"<{spec.width}f").pack
        tensor = msgspec.defstruct(
            "RowTensor",
            [
                ("name", _LITERAL[spec.name]),
                ("shape", _FIXED[tuple([_LITERAL[size] for size in spec.one_row])]),
                ("datatype", Literal["FP32", "FP64"]),
                ("data", _FIXED[(float,) * spec.width]),  # a tuple: a list grows, and its length is looked at after
                ("parameters", None, None),
            ],
            gc=False,
        )
        request = msgspec.defstruct(
            "RowRequest",
            [
                ("inputs", _FIXED[(tensor,)]),
                ("id", str | None, None),
                ("outputs", None, None),
                ("parameters", None, None),
            ],
            gc=False,
        )
        self.decode: Callable[[bytes], Any] = msgspec.json.Decoder(request).decode


class Decoders:
    """Of one vocabulary. tensors: V2 bodies; row: those with one row of a model with one input; named, arrays: V1 rows
    with features by name, or as arrays; None: its features have no such form. only_floats: every input is FP32."""

    __slots__ = ("arrays", "columns", "named", "only_floats", "order", "required", "row", "tensors", "width")

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.named: Any = None
        self.arrays: Any = None
        self.width = 0
        specs = vocabulary.specs
        self.only_floats = all(spec.datatype == "FP32" for spec in specs.values())
        only = next(iter(specs.values())) if self.only_floats and len(specs) == 1 else None
        self.row = None if only is None or only.is_open or not 0 < only.width <= _WIDEST_ROW else Row(only)
        self.tensors: Callable[[bytes], Any] = _read_floats if self.only_floats else _read_v2
        self.columns = [(f"f{at}", spec) for at, spec in enumerate(specs.values())]
        self.required = frozenset(vocabulary.required.inputs)
        self.order = [(f"f{at}", spec) for at, spec in enumerate(vocabulary.order)]
        if vocabulary.extra is None and all(
            _has_column_form(s) and _NO_FIELD.isdisjoint(s.name) for s in specs.values()
        ):
            row = msgspec.defstruct(
                "Row",
                [(field, _value_type(spec) | msgspec.UnsetType, msgspec.UNSET) for field, spec in self.columns],
                rename={field: spec.name for field, spec in self.columns},
                forbid_unknown_fields=True,
                gc=False,
            )
            self.named = msgspec.json.Decoder(_body(row)).decode
        if all(_has_column_form(spec) for spec in vocabulary.order):
            row = msgspec.defstruct(
                "ArrayRow",
                [(field, _value_type(spec)) for field, spec in self.order],
                array_like=True,
                forbid_unknown_fields=True,
                gc=False,
            )
            self.arrays = msgspec.json.Decoder(_body(row)).decode
        elif (
            len(vocabulary.order) == 1 and vocabulary.order[0].datatype == "FP32" and len(vocabulary.order[0].tail) == 1
        ):
            self.width = vocabulary.order[0].width
            if self.width > 0:
                self.arrays = msgspec.json.Decoder(_body(list[_Float32])).decode


def decode_v1(body: bytes, vocabulary: Vocabulary) -> Batch | None:
    """Rows; None: not one of the usual bodies."""
    decoders: Decoders = vocabulary.usual or _remember(vocabulary)
    is_named = body.find(b"{", 1) > 0
    read = decoders.named if is_named else decoders.arrays
    if read is None:
        return None
    try:
        rows = read(body).instances
    except _NOT_READ:
        return None
    if not 0 < len(rows) <= MAX_ROWS:
        return None
    if is_named:
        return _columns(rows, decoders.columns, vocabulary, decoders.required)
    if decoders.width:
        return _block(rows, decoders.order[0][1], vocabulary)
    return _columns(rows, decoders.order, vocabulary, decoders.required)


def _columns(
    rows: list[Any], fields: list[tuple[str, InputSpec]], vocabulary: Vocabulary, required: frozenset[str]
) -> Batch | None:
    columns: dict[str, list[Any]] = {}
    nulls: set[str] = set()
    for field, spec in fields:
        values = [getattr(row, field) for row in rows]
        if msgspec.UNSET in values:
            if spec.name in required or values.count(msgspec.UNSET) != len(rows):
                return None
            continue
        if spec.nullable and None in values:
            nulls.add(spec.name)
        columns[spec.name] = values
    if not required <= columns.keys():
        return None
    return of_lists(len(rows), columns, vocabulary.specs, frozenset(nulls) if nulls else _NO_NULLS)


def _block(rows: list[list[float]], spec: InputSpec, vocabulary: Vocabulary) -> Batch | None:
    if any(len(row) != spec.width for row in rows):
        return None
    values = rows[0] if len(rows) == 1 else list(chain.from_iterable(rows))
    return of_lists(len(rows), {spec.name: values}, vocabulary.specs, _NO_NULLS)


def _body(row: Any) -> Any:
    return msgspec.defstruct("Body", [("instances", list[row]), ("inputs", Any, None)])


def _has_column_form(spec: InputSpec) -> bool:
    return spec.is_single and len(spec.tail) <= 1 and spec.datatype in _VALUE_TYPES


def _value_type(spec: InputSpec) -> Any:
    kind = _VALUE_TYPES[spec.datatype]
    return kind | None if spec.nullable and spec.datatype in _NULLABLE else kind


def _remember(vocabulary: Vocabulary) -> Decoders:
    decoders = Decoders(vocabulary)
    vocabulary.usual = decoders
    return decoders
