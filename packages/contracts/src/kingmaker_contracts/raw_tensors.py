"""Tensors as the binary extension's bytes: little-endian, row-major, no padding, a 4-byte length before each string.

NaN is a missing value; infinities are refused. Every refusal names the tensor, what was found and what was expected.
"""

import math
import struct
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kingmaker_contracts.inference import FLOATS, BadTensor, Tensor, TensorSpec
from kingmaker_contracts.tensor_shapes import count_of, dtype_of

_LENGTH: Final = struct.Struct("<I")


def from_raw(name: str, datatype: str, shape: list[int], raw: bytes | memoryview) -> Tensor:
    """Raises BadTensor."""
    dtype = dtype_of(name, datatype)
    count = count_of(name, shape)
    if datatype == "BYTES":
        return Tensor(name, datatype, _strings(name, count, raw).reshape(shape))
    if len(raw) != count * dtype.itemsize:
        raise BadTensor(
            f"{name!r}: shape {shape} of {datatype} needs {count * dtype.itemsize} bytes, "
            f"binary_data_size is {len(raw)}"
        )
    if datatype == "BOOL" and raw and max(raw) > 1:
        raise BadTensor(f"{name!r}: a BOOL byte is {max(raw)}, expected 0 or 1")
    array = np.frombuffer(raw, dtype).reshape(shape)
    if datatype in FLOATS and np.isinf(array).any():
        raise BadTensor(f"{name!r}: holds an infinity; expected finite numbers, or NaN for a missing value")
    return Tensor(name, datatype, array)


def from_body(spec: TensorSpec, body: bytes) -> Tensor:
    """A tensor that is all of a body: datatype and shape are the model's. One open dimension follows from the body's
    size, and of two the first is one row. A BYTES body is one element, without a length before it. Raises BadTensor."""
    if spec.datatype == "BYTES":
        return from_raw(spec.name, spec.datatype, [1] * len(spec.shape), _LENGTH.pack(len(body)) + body)
    return from_raw(spec.name, spec.datatype, _shape_of(spec, len(body)), body)


def to_raw(tensor: Tensor) -> bytes:
    """A missing string (None) goes out empty."""
    if tensor.datatype != "BYTES":
        return np.ascontiguousarray(tensor.array).tobytes()
    out = bytearray()
    for value in tensor.array.ravel():
        encoded = b"" if value is None else value.encode() if isinstance(value, str) else bytes(value)
        out += _LENGTH.pack(len(encoded)) + encoded
    return bytes(out)


def _shape_of(spec: TensorSpec, size: int) -> list[int]:
    """The shape that `size` bytes have as this input."""
    shape = list(spec.shape)
    if shape.count(-1) > 1 and shape[0] == -1:
        shape[0] = 1
    known = math.prod(length for length in shape if length >= 0) * dtype_of(spec.name, spec.datatype).itemsize
    if shape.count(-1) > 1 or (-1 in shape and (known == 0 or size % known)):
        raise BadTensor(
            f"{spec.name!r}: a body of {size} bytes without a JSON part does not tell the shape, "
            f"expected {spec.datatype} {spec.shape}"
        )
    return [size // known if length < 0 else length for length in shape]


def _strings(name: str, count: int, raw: bytes | memoryview) -> NDArray[Any]:
    packed = bytes(raw)
    total = len(packed)
    unpack = _LENGTH.unpack_from
    values: list[str] = []
    at = 0
    while at < total:
        start = at + 4
        if start > total:
            raise BadTensor(f"{name!r}: {total - at} bytes are left where a 4-byte length was expected")
        (size,) = unpack(packed, at)
        at = start + size
        if at > total:
            raise BadTensor(f"{name!r}: a string of {size} bytes reaches beyond the tensor's {total} bytes")
        try:
            values.append(packed[start:at].decode())
        except UnicodeDecodeError:
            raise BadTensor(f"{name!r}: string {len(values)} is not UTF-8") from None
        if len(values) > count:
            break
    if len(values) != count:
        raise BadTensor(f"{name!r}: {count} strings expected, found {'more' if len(values) > count else len(values)}")
    array = np.empty(count, dtype=object)
    array[:] = values
    return array
