"""The quick way to read V1 rows: objects of named features, or vectors for a model with one block of floats.

As in `typed`: whatever is unusual gives None, and the strict reader decides and finds the words.
"""

import math
from array import array
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from kingmaker_contracts.inference import DTYPES, FLOATS, TensorSpec
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
        body = msgspec.defstruct("Body", [("instances", list[row])])  # type: ignore[valid-type]
        self._decode: Any = msgspec.json.Decoder(body).decode

    def read(self, body: bytes) -> list[NDArray[Any]] | None:
        """One array an input, or None."""
        try:
            rows = self._decode(body).instances
        except _ERRORS:
            return None
        if not rows:
            return None
        columns = zip(*map(msgspec.structs.astuple, rows), strict=True)
        try:
            return [_column(spec, column) for spec, column in zip(self._specs, columns, strict=True)]
        except OverflowError:
            return None


class VectorRows:
    """Reads rows that are arrays of numbers, for a model with one input of FP32."""

    def __init__(self, spec: TensorSpec) -> None:
        self._shape = spec.shape[1:]
        body = msgspec.defstruct("Body", [("instances", list[list[float]])])
        self._decode: Any = msgspec.json.Decoder(body).decode

    def read(self, body: bytes) -> list[NDArray[Any]] | None:
        """The one array, or None."""
        try:
            rows = self._decode(body).instances
        except _ERRORS:
            return None
        [width] = self._shape
        if not rows or any(len(row) != width for row in rows):
            return None
        flat = rows[0] if len(rows) == 1 else [value for row in rows for value in row]
        return [np.frombuffer(array("f", flat), np.float32).reshape(len(rows), width)]


def reader_of(signature: Signature) -> NamedRows | VectorRows | None:
    """What reads this model's rows quickly, None when nothing does."""
    specs = signature.inputs
    if not signature.row_wise or any(-1 in spec.shape[1:] or spec.datatype == "FP16" for spec in specs):
        return None
    if all(math.prod(spec.shape[1:]) == 1 for spec in specs):
        return NamedRows(signature)
    if len(specs) == 1 and len(specs[0].shape) == 2 and specs[0].datatype == "FP32":
        return VectorRows(specs[0])
    return None


def _column(spec: TensorSpec, values: Sequence[Any]) -> NDArray[Any]:
    """Missing floats become NaN, missing strings "", as the model was trained to see them. Raises OverflowError."""
    shape = (len(values), *spec.shape[1:])
    if spec.datatype == "BYTES" and None in values:
        values = ["" if value is None else value for value in values]
    if spec.datatype == "FP32":
        if None in values:
            values = [math.nan if value is None else value for value in values]
        return np.frombuffer(array("f", values), np.float32).reshape(shape)
    return np.array(values, DTYPES[spec.datatype]).reshape(shape)
