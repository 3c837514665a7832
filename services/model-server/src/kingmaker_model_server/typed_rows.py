"""The quick way to read V1 rows: objects of named features, or vectors for a model with one block of floats.

As in `typed`: whatever is unusual gives None, and the strict reader decides and finds the words.
"""

import math
from itertools import chain
from typing import Any, Final

import msgspec

from kingmaker_contracts.inference import FLOATS, TensorSpec
from kingmaker_model_server.columns import LISTED, Column, Values
from kingmaker_model_server.signature import Signature
from kingmaker_model_server.typed import element_type

_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class NamedRows:
    """Reads rows that are objects with one value a feature."""

    def __init__(self, signature: Signature) -> None:
        self._specs = signature.inputs
        fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
        for at, spec in enumerate(self._specs):
            element = element_type(spec)
            optional = spec.name in signature.nullable and (spec.datatype in FLOATS or spec.datatype == "BYTES")
            fields.append((f"f{at}", element | None, None) if optional else (f"f{at}", element))
        names = {f"f{at}": spec.name for at, spec in enumerate(self._specs)}
        row = msgspec.defstruct("Row", fields, rename=names, forbid_unknown_fields=True, kw_only=True)
        body = msgspec.defstruct(
            "Body",
            [("instances", list[row])],  # type: ignore[valid-type]
            forbid_unknown_fields=True,
        )
        self._decode: Any = msgspec.json.Decoder(body).decode

    def read(self, body: bytes) -> tuple[list[Values], int] | None:
        """The values, one an input, and the number of rows; or None."""
        try:
            rows = self._decode(body).instances
        except _ERRORS:
            return None
        if not rows:
            return None
        columns = zip(*map(msgspec.structs.astuple, rows), strict=True)
        try:
            return [_values(spec, column) for spec, column in zip(self._specs, columns, strict=True)], len(rows)
        except OverflowError:
            return None


class VectorRows:
    """Reads rows that are arrays of numbers, for a model with one input of FP32."""

    def __init__(self, spec: TensorSpec) -> None:
        self._shape = spec.shape[1:]
        body = msgspec.defstruct("Body", [("instances", list[list[float]])], forbid_unknown_fields=True)
        self._decode: Any = msgspec.json.Decoder(body).decode

    def read(self, body: bytes) -> tuple[list[Values], int] | None:
        """The values of the one input, and the number of rows; or None."""
        try:
            rows = self._decode(body).instances
        except _ERRORS:
            return None
        [width] = self._shape
        if not rows or any(len(row) != width for row in rows):
            return None
        return [rows[0] if len(rows) == 1 else list(chain.from_iterable(rows))], len(rows)


def reader_of(signature: Signature) -> NamedRows | VectorRows | None:
    """What reads this model's rows quickly, None when nothing does."""
    specs = signature.inputs
    if not signature.row_wise or any(-1 in spec.shape[1:] or spec.datatype == "FP16" for spec in specs):
        return None
    if all(math.prod(spec.shape[1:]) == 1 for spec in specs):
        try:
            return NamedRows(signature)
        except ValueError:  # msgspec names no field with a quotation mark, a backslash or a control character in it
            return None
    if len(specs) == 1 and len(specs[0].shape) == 2 and specs[0].datatype == "FP32":
        return VectorRows(specs[0])
    return None


def _values(spec: TensorSpec, column: tuple[Any, ...]) -> Values:
    """Missing floats as NaN, missing strings as "", as the model was trained to see them. Raises OverflowError."""
    if spec.datatype not in LISTED:
        return Column(spec).array(column)
    if None in column:
        missing = "" if spec.datatype == "BYTES" else math.nan
        return [missing if value is None else value for value in column]
    return list(column)
