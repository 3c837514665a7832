"""The usual request bodies, read fast: typed decoders made once for a vocabulary.

They take well-formed bodies of the commonest forms and nothing else. Whatever is unusual (another datatype, nested
data, a parameter, a missing feature, any mistake) is not refused here but left to the general readers, so there
is one place that says what is wrong. What they take, the general readers would read as the same arrays.
"""

from typing import Annotated, Any, Final

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from kingmaker_contracts.inference import DTYPES
from kingmaker_gateway.batch import MAX_ROWS, Batch, Vocabulary
from kingmaker_gateway.signature import InputSpec

_FP32_MAX: Final = 3.4028234e38
_EXACT: Final = 2**53
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
_NULLABLE: Final = frozenset({"FP32", "FP64", "BYTES"})


class _Tensor(msgspec.Struct, gc=False):
    name: str
    shape: list[int]
    datatype: str
    data: list[_Float32 | _Whole | str]
    parameters: dict[str, Any] | None = None


class _Request(msgspec.Struct, gc=False):
    inputs: list[_Tensor]
    id: str | None = None
    outputs: Any = None
    parameters: dict[str, Any] | None = None


_read_v2: Final = msgspec.json.Decoder(_Request).decode
_NUMBERS: Final = frozenset({int, float})
_INTEGERS: Final = frozenset({int})
_TEXTS: Final = frozenset({str})
_NO_NULLS: Final[frozenset[str]] = frozenset()


def decode_v2(body: bytes, vocabulary: Vocabulary) -> tuple[Batch, str | None] | None:  # noqa: PLR0911 - reasons
    """Rows and the request's own id; None: not one of the usual bodies."""
    try:
        wire = _read_v2(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if wire.outputs is not None or wire.parameters or not wire.inputs:
        return None
    arrays: dict[str, NDArray[Any]] = {}
    rows = wire.inputs[0].shape[0] if wire.inputs[0].shape else 0
    if not 0 < rows <= MAX_ROWS:
        return None
    for tensor in wire.inputs:
        spec = vocabulary.specs.get(tensor.name)
        if spec is None or tensor.parameters or tensor.name in arrays:
            return None
        array = _tensor_array(tensor, spec, rows)
        if array is None:
            return None
        arrays[tensor.name] = array
    if not vocabulary.required.inputs.keys() <= arrays.keys():
        return None
    return Batch(rows, arrays, _NO_NULLS), wire.id


def _tensor_array(tensor: _Tensor, spec: InputSpec, rows: int) -> NDArray[Any] | None:  # noqa: PLR0911 - reasons
    shape, tail = tensor.shape, spec.tail
    if shape != [rows, *tail] and not (spec.is_single and shape in ([rows], [rows, 1])):
        return None
    data = tensor.data
    if len(data) != rows * spec.width:
        return None
    kinds = set(map(type, data))
    datatype = spec.datatype
    if datatype == "FP32":
        if tensor.datatype not in ("FP32", "FP64") or not kinds <= _NUMBERS:
            return None
        array = np.array(data, np.float32)
    elif datatype == "FP64":
        if tensor.datatype != "FP64" or not kinds <= _NUMBERS:
            return None
        array = np.array(data, np.float64)
    elif datatype == "INT64":
        if tensor.datatype != "INT64" or kinds != _INTEGERS:
            return None
        array = np.array(data, np.int64)
    elif datatype == "BYTES":
        if tensor.datatype != "BYTES" or kinds != _TEXTS:
            return None
        array = np.array(data, object)
    else:
        return None
    return array.reshape((rows, *tail))


class V1Decoders:
    """Decoders of one vocabulary: features by name, and rows as arrays. None: its features have no such form."""

    __slots__ = ("arrays", "columns", "named", "order", "required", "width")

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.named: Any = None
        self.arrays: Any = None
        self.width = 0
        specs = vocabulary.specs
        self.columns = [(f"f{at}", spec) for at, spec in enumerate(specs.values())]
        self.required = frozenset(vocabulary.required.inputs)
        self.order = [(f"f{at}", spec) for at, spec in enumerate(vocabulary.order)]
        if vocabulary.extra is None and all(_has_column_form(spec) for spec in specs.values()):
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
    decoders: V1Decoders = vocabulary.usual or _remember(vocabulary)
    is_named = body.find(b"{", 1) > 0
    read = decoders.named if is_named else decoders.arrays
    if read is None:
        return None
    try:
        rows = read(body).instances
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not 0 < len(rows) <= MAX_ROWS:
        return None
    if is_named:
        return _columns(rows, decoders.columns, decoders.required)
    if decoders.width:
        return _block(rows, decoders.order[0][1])
    return _columns(rows, decoders.order, decoders.required)


def _columns(rows: list[Any], columns: list[tuple[str, InputSpec]], required: frozenset[str]) -> Batch | None:
    arrays: dict[str, NDArray[Any]] = {}
    nulls: set[str] = set()
    count = len(rows)
    for field, spec in columns:
        values = [getattr(row, field) for row in rows]
        if msgspec.UNSET in values:
            if spec.name in required or values.count(msgspec.UNSET) != count:
                return None
            continue
        if spec.nullable and None in values:
            nulls.add(spec.name)
        arrays[spec.name] = np.array(values, DTYPES[spec.datatype]).reshape((count, *spec.tail))
    return Batch(count, arrays, frozenset(nulls) if nulls else _NO_NULLS) if required <= arrays.keys() else None


def _block(rows: list[list[float]], spec: InputSpec) -> Batch | None:
    if any(len(row) != spec.width for row in rows):
        return None
    return Batch(len(rows), {spec.name: np.array(rows, np.float32)}, _NO_NULLS)


def _body(row: Any) -> Any:
    return msgspec.defstruct("Body", [("instances", list[row]), ("inputs", Any, None)])


def _has_column_form(spec: InputSpec) -> bool:
    return spec.is_single and len(spec.tail) <= 1 and spec.datatype in _VALUE_TYPES


def _value_type(spec: InputSpec) -> Any:
    kind = _VALUE_TYPES[spec.datatype]
    return kind | None if spec.nullable and spec.datatype in _NULLABLE else kind


def _remember(vocabulary: Vocabulary) -> V1Decoders:
    decoders = V1Decoders(vocabulary)
    vocabulary.usual = decoders
    return decoders
