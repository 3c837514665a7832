"""The quick way to read a well-formed request: JSON numbers land in the types this one model takes.

The types are made from the model's signature, so the JSON parser itself checks names, datatypes and elements.
Whatever is unusual (nested data, another number type, a missing value, an unknown key, anything wrong) gives
None, and the strict reader decides and finds the words. Nothing is accepted here that it would refuse,
but for infinities and missing values in floats: `run` looks for those, once for all the requests it joins.
"""

from typing import Any, Final, Literal, Union

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType
from numpy.typing import NDArray

from kingmaker_contracts import raw_tensors
from kingmaker_contracts.inference import DTYPES, FLOATS, JSON_FORBIDDEN, BadTensor, TensorSpec
from kingmaker_model_server.columns import LISTED, Column, Values
from kingmaker_model_server.signature import Signature

_JSON_TYPES: Final[dict[str, Any]] = {"BOOL": bool, "BYTES": str, "FP32": float, "FP64": float}

Asked = tuple[bool, tuple[tuple[str, bool | None], ...]]
"""Which outputs: the request's default for raw, and each one asked for with its own setting. None asked for: all."""
_PLAIN: Final[Asked] = (False, ())


class _InputParameters(msgspec.Struct, forbid_unknown_fields=True):
    binary_data_size: int | None = None


class _OutputParameters(msgspec.Struct, forbid_unknown_fields=True):
    binary_data: bool | None = None


class _RequestParameters(msgspec.Struct, forbid_unknown_fields=True):
    binary_data_output: bool | None = None


class _Output(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    parameters: _OutputParameters | UnsetType = UNSET


class Read(msgspec.Struct, frozen=True):
    """A request read the quick way. inputs: as they were written."""

    values: list[Values]
    rows: int
    request_id: str | None
    asked: Asked
    inputs: list[Any]


class _Input:
    """How one input is read. is_plain: raw values are numbers as they are; is_listed: JSON values stay a list."""

    def __init__(self, at: int, spec: TensorSpec) -> None:
        self.at = at
        self._spec = spec
        self.dtype = DTYPES[spec.datatype]
        self.is_plain = spec.datatype not in ("BYTES", "BOOL")
        self.tail = spec.shape[1:]
        self.is_listed = spec.datatype in LISTED
        self._column = Column(spec)
        self.width = self._column.width

    def from_json(self, values: list[Any]) -> Values | None:
        try:
            return self._column.array(values)
        except OverflowError:
            return None

    def from_raw(self, shape: list[int], body: bytes, start: int, size: int) -> NDArray[Any] | None:
        datatype = self._spec.datatype
        if datatype in ("BYTES", "BOOL"):
            try:
                return raw_tensors.from_raw(
                    self._spec.name, datatype, shape, memoryview(body)[start : start + size]
                ).array
            except BadTensor:
                return None
        count = shape[0] * self.width
        if size != count * self.dtype.itemsize:
            return None
        return np.frombuffer(body, self.dtype, count, start).reshape(shape)


class TypedReader:
    """Reads infer requests for one model, whose rows have a fixed shape."""

    def __init__(self, signature: Signature) -> None:
        self._count = len(signature.inputs)
        kinds = tuple(_input_type(at, spec) for at, spec in enumerate(signature.inputs))
        request = msgspec.defstruct(
            "Request",
            [
                ("inputs", list[Union[kinds]]),  # type: ignore[valid-type]  # noqa: UP007 - built from a tuple
                ("outputs", list[_Output] | None, None),
                ("id", str | None, None),
                ("parameters", _RequestParameters | UnsetType, UNSET),
            ],
            forbid_unknown_fields=True,
        )
        self._decode: Any = msgspec.json.Decoder(request).decode

    def read(self, body: bytes, header_length: int | None) -> Read | None:
        """The request, or None when the strict reader is to judge. header_length: of the JSON part of a binary body."""
        text, offset = body, len(body)  # offset: where the raw tensors begin
        if header_length is not None:
            text, offset = body[:header_length], header_length
        try:
            wire = self._decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        values = self._values(wire.inputs, body, offset)
        if values is None:
            return None
        asked = _PLAIN
        if wire.parameters is not UNSET:
            asked = (bool(wire.parameters.binary_data_output), ())
        if wire.outputs:
            asked = (asked[0], tuple((output.name, _binary(output)) for output in wire.outputs))
        return Read(values, wire.inputs[0].shape[0], wire.id, asked, wire.inputs)

    def places(self, read: Read, offset: int) -> list[slice] | None:
        """Where the values of each input lie in a raw body, in the model's order. None where they need a look: texts,
        truth values, a part in JSON. offset: where the raw tensors begin."""
        places: list[slice | None] = [None] * self._count
        for item in read.inputs:
            column: _Input = item.column
            size = None if item.parameters is UNSET else item.parameters.binary_data_size
            if size is None or not column.is_plain:
                return None
            places[column.at] = slice(offset, offset + size)
            offset += size
        return [place for place in places if place is not None]

    def _values(self, inputs: list[Any], body: bytes, offset: int) -> list[Values] | None:
        """Values one an input, in the model's order. offset: where the raw tensors begin."""
        first = inputs[0].shape if len(inputs) == self._count else []
        if not first or first[0] < 1:
            return None
        rows = first[0]
        values: list[Any] = [None] * self._count
        for item in inputs:
            column: _Input = item.column
            at = column.at
            if item.shape != [rows, *column.tail] or values[at] is not None:
                return None
            parameters = item.parameters
            size = None if parameters is UNSET else parameters.binary_data_size
            if size is None:
                data = item.data
                if data is None or len(data) != rows * column.width:
                    return None
                found = data if column.is_listed else column.from_json(data)
            elif item.data is not None or size < 0 or offset + size > len(body):
                return None
            else:
                found = column.from_raw(item.shape, body, offset, size)
                offset += size
            if found is None:
                return None
            values[at] = found
        return values if offset == len(body) else None


def reader_of(signature: Signature) -> TypedReader | None:
    """None for a model whose rows have no fixed shape, or are not what its first dimension counts."""
    fixed = signature.row_wise and all(-1 not in spec.shape[1:] for spec in signature.inputs)
    return TypedReader(signature) if fixed else None


def may_hold_bad_floats(signature: Signature) -> list[tuple[int, bool]]:
    """The inputs whose values nobody has looked at after the quick way: position, and whether NaN is allowed."""
    return [(at, s.name in signature.nullable) for at, s in enumerate(signature.inputs) if s.datatype in FLOATS]


def element_type(spec: TensorSpec) -> Any:
    """The Python type of one JSON element."""
    return _JSON_TYPES.get(spec.datatype, int)


def _input_type(at: int, spec: TensorSpec) -> Any:
    element = element_type(spec)
    data = None if spec.datatype in JSON_FORBIDDEN else list[element] | None  # type: ignore[valid-type]
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = [
        ("shape", list[int]),
        ("datatype", Literal[spec.datatype]),
        ("data", data, None),
        ("parameters", _InputParameters | UnsetType, UNSET),
    ]
    column = {"column": _Input(at, spec)}
    return msgspec.defstruct(
        f"Input{at}", fields, tag_field="name", tag=spec.name, namespace=column, forbid_unknown_fields=True
    )


def _binary(output: _Output) -> bool | None:
    return None if output.parameters is UNSET else output.parameters.binary_data
