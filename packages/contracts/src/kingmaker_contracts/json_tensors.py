"""Tensors as JSON values: arrays from what a client wrote, and values to write.

`null` in a floating tensor is a missing value (NaN), in a BYTES tensor None; whether one is allowed is the caller's
question. Infinities are refused. Every refusal names the tensor, what was found and what was expected.
"""

import math
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from kingmaker_contracts.inference import FLOATS, BadTensor, Parameter, Tensor
from kingmaker_contracts.tensor_shapes import count_of, dtype_of

_NUMBER: Final = frozenset({int, float})
_EXPECTED: Final = {"BOOL": "true or false", "BYTES": "a string"}


def from_values(name: str, datatype: str, shape: list[int], values: list[Any]) -> Tensor:
    """A tensor from JSON values, nested as the shape says or flat in row-major order.

    Raises BadTensor for a wrong element, count, nesting or an infinity.
    """
    dtype = dtype_of(name, datatype)
    count = count_of(name, shape)
    flat = _flatten(name, values, shape) if values and isinstance(values[0], list) else values
    if len(flat) != count:
        raise BadTensor(f"{name!r}: shape {shape} needs {count} values, data has {len(flat)}")
    return Tensor(name, datatype, _array(name, datatype, dtype, flat).reshape(shape))


def to_values(tensor: Tensor) -> list[Parameter | None]:
    """Row-major. Bytes that are not UTF-8 go out as U+FFFD."""
    values: list[Any] = tensor.array.ravel().tolist()
    if tensor.datatype != "BYTES":
        return values
    return [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in values]


def _flatten(name: str, values: list[Any], shape: list[int]) -> list[Any]:
    """Row-major values of a nested list whose every level has the length the shape gives it."""
    level = values
    if len(values) != shape[0] if shape else True:
        raise BadTensor(
            f"{name!r}: data has {len(values)} rows, shape {shape} says {shape[0] if shape else 'a scalar'}"
        )
    for size in shape[1:]:
        below: list[Any] = []
        for item in level:
            if not isinstance(item, list) or len(item) != size:
                found = f"{len(item)} values" if isinstance(item, list) else _shown(item)
                raise BadTensor(
                    f"{name!r}: data is not nested as shape {shape} says, found {found} where {size} were expected"
                )
            below += item
        level = below
    return level


def _array(name: str, datatype: str, dtype: np.dtype[Any], flat: list[Any]) -> NDArray[Any]:
    kinds = set(map(type, flat))
    if datatype == "BYTES":
        _only(name, datatype, flat, kinds, {str, type(None)})
        array = np.empty(len(flat), dtype=object)
        array[:] = flat
        return array
    if datatype == "BOOL":
        _only(name, datatype, flat, kinds, {bool})
        return np.array(flat, dtype)
    if datatype in FLOATS:
        _only(name, datatype, flat, kinds, _NUMBER | {type(None)})
        try:
            wide = np.array(flat, np.float64)  # None becomes NaN
        except OverflowError:
            wide = np.array([math.inf])
        with np.errstate(over="ignore"):
            array = wide.astype(dtype)
        if np.isinf(array).any():
            raise BadTensor(f"{name!r}: a value does not fit into {datatype}")
        return array
    _only(name, datatype, flat, kinds, _NUMBER)
    if float in kinds and not all(type(v) is int or v.is_integer() for v in flat):
        broken = next(v for v in flat if not (type(v) is int or v.is_integer()))  # an infinity is one too
        raise BadTensor(f"{name!r}: {broken} is no whole number, {datatype} was expected")
    try:
        return np.array([int(v) for v in flat], dtype)
    except OverflowError:
        raise BadTensor(f"{name!r}: a value does not fit into {datatype}") from None


def _only(name: str, datatype: str, flat: list[Any], kinds: set[type], allowed: set[type] | frozenset[type]) -> None:
    if kinds <= allowed:
        return
    at, found = next((i, v) for i, v in enumerate(flat) if type(v) not in allowed)
    expected = _EXPECTED.get(datatype, "a number")
    raise BadTensor(f"{name!r}: element {at} is {_shown(found)}, expected {expected} ({datatype})")


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    kind = {str: "the string ", bool: "the boolean "}.get(type(value), "")
    return kind + msgspec.json.encode(value).decode()[:60]
