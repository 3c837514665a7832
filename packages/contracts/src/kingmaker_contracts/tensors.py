"""Read and write Open Inference Protocol V2 bodies: JSON, and the binary tensor extension.

Pure: bytes in, arrays out, and back. Every refusal names the tensor, what was found and what was
expected, because its text is the body of somebody's 400. JSON `null` in a floating tensor is a
missing value (NaN), in a BYTES tensor None; whether a missing value is allowed is the caller's
question. Infinities are refused in every form; a literal NaN is not JSON at all.
"""

import math
import struct
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from kingmaker_contracts.inference import (
    DTYPES,
    FLOATS,
    JSON_FORBIDDEN,
    BadTensor,
    InferRequest,
    InferResponse,
    Parameter,
    RequestedOutput,
    Tensor,
    TensorSpec,
)

_LENGTH: Final = struct.Struct("<I")
_MAX_DIMENSIONS: Final = 8
_MAX_ELEMENTS: Final = 2**31 - 1
_NUMBER: Final = frozenset({int, float})
_EXPECTED: Final = {"BOOL": "true or false", "BYTES": "a string"}


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, Any] = {}


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _Request(msgspec.Struct):
    inputs: list[_Input]
    outputs: list[_Output] | None = None
    id: str | None = None
    parameters: dict[str, Any] = {}


class _Answer(msgspec.Struct):
    outputs: list[_Input]
    model_name: str = ""
    model_version: str | None = None
    id: str | None = None
    parameters: dict[str, Any] = {}


_read_request: Final = msgspec.json.Decoder(_Request).decode
_read_answer: Final = msgspec.json.Decoder(_Answer).decode


def decode_request(
    body: bytes, header_length: int | None = None, model_inputs: Sequence[TensorSpec] = ()
) -> InferRequest:
    """An infer call from its body.

    header_length: the value of `Inference-Header-Content-Length`, None for plain JSON, 0 for a body that is
    nothing but the tensor of the only one of model_inputs.
    Raises BadTensor.
    """
    if header_length == 0:
        return decode_raw_request(body, model_inputs)
    head, tail = _split(body, header_length)
    wire = _parse(_read_request, head)
    outputs = None
    if wire.outputs is not None:
        outputs = [RequestedOutput(o.name, _flag(o.parameters, "binary_data", o.name)) for o in wire.outputs]
    return InferRequest(
        inputs=_tensors(wire.inputs, tail, "input"),
        outputs=outputs,
        id=wire.id,
        parameters=wire.parameters,
        binary_output=_flag(wire.parameters, "binary_data_output", "the request") or False,
    )


def decode_raw_request(body: bytes, inputs: Sequence[TensorSpec]) -> InferRequest:
    """An infer call without a JSON part (`Inference-Header-Content-Length: 0`): the body is the one tensor.

    inputs: the model's. Datatype and shape are theirs; one open dimension follows from the body's size, and
    of two the first is one row. A BYTES body is one element, without a length before it. Every output goes
    out raw. Raises BadTensor.
    """
    if len(inputs) != 1:
        raise BadTensor(
            f"Inference-Header-Content-Length 0 (no JSON part) needs a model with one input, this one has {len(inputs)}"
        )
    spec = inputs[0]
    if spec.datatype == "BYTES":
        shape, body = [1] * len(spec.shape), _LENGTH.pack(len(body)) + body
    else:
        shape = _raw_shape(spec, len(body))
    return InferRequest([from_raw(spec.name, spec.datatype, shape, body)], binary_output=True)


def _raw_shape(spec: TensorSpec, size: int) -> list[int]:
    """The shape that `size` bytes have as this input."""
    shape = list(spec.shape)
    if shape.count(-1) > 1 and shape[0] == -1:
        shape[0] = 1
    known = math.prod(length for length in shape if length >= 0) * _dtype(spec.name, spec.datatype).itemsize
    if shape.count(-1) > 1 or (-1 in shape and (known == 0 or size % known)):
        raise BadTensor(
            f"{spec.name!r}: a body of {size} bytes without a JSON part does not tell the shape, "
            f"expected {spec.datatype} {spec.shape}"
        )
    return [size // known if length < 0 else length for length in shape]


def decode_response(body: bytes, header_length: int | None = None) -> InferResponse:
    """An infer answer from its body. Raises BadTensor."""
    head, tail = _split(body, header_length)
    wire = _parse(_read_answer, head)
    return InferResponse(
        model_name=wire.model_name,
        outputs=_tensors(wire.outputs, tail, "output"),
        model_version=wire.model_version,
        id=wire.id,
        parameters=wire.parameters,
    )


def encode_request(inputs: list[Tensor], outputs: list[str] | None = None, id: str | None = None) -> tuple[bytes, int]:
    """An infer call with every tensor raw, and every output asked for raw.

    Returns the body and the length of its JSON part (the header `Inference-Header-Content-Length`).
    """
    parts = [to_raw(tensor) for tensor in inputs]
    head: dict[str, Any] = {
        "parameters": {"binary_data_output": True},
        "inputs": [_raw_head(tensor, len(part)) for tensor, part in zip(inputs, parts, strict=True)],
    }
    if outputs is not None:
        head["outputs"] = [{"name": name} for name in outputs]
    if id is not None:
        head["id"] = id
    return _join(head, parts)


def encode_response(answer: InferResponse, binary: frozenset[str] = frozenset()) -> tuple[bytes, int | None]:
    """An infer answer; the outputs named in `binary` go out raw.

    Returns the body and the length of its JSON part, None when no output is raw.
    """
    parts: list[bytes] = []
    outputs: list[dict[str, Any]] = []
    for tensor in answer.outputs:
        if tensor.name in binary:
            parts.append(to_raw(tensor))
            outputs.append(_raw_head(tensor, len(parts[-1])))
        else:
            outputs.append(_json_head(tensor))
    head: dict[str, Any] = {"model_name": answer.model_name}
    if answer.model_version is not None:
        head["model_version"] = answer.model_version
    if answer.id is not None:
        head["id"] = answer.id
    if answer.parameters:
        head["parameters"] = answer.parameters
    head["outputs"] = outputs
    if not binary:
        return msgspec.json.encode(head), None
    return _join(head, parts)


def from_values(name: str, datatype: str, shape: list[int], values: list[Any]) -> Tensor:
    """A tensor from JSON values, nested as the shape says or flat in row-major order.

    Raises BadTensor for a wrong element, count, nesting or an infinity.
    """
    dtype = _dtype(name, datatype)
    count = _count(name, shape)
    flat = _flatten(name, values, shape) if values and isinstance(values[0], list) else values
    if len(flat) != count:
        raise BadTensor(f"{name!r}: shape {shape} needs {count} values, data has {len(flat)}")
    return Tensor(name, datatype, _array(name, datatype, dtype, flat).reshape(shape))


def from_raw(name: str, datatype: str, shape: list[int], raw: bytes | memoryview) -> Tensor:
    """A tensor from the binary extension's bytes: little-endian, row-major, no padding. Raises BadTensor."""
    dtype = _dtype(name, datatype)
    count = _count(name, shape)
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


def to_raw(tensor: Tensor) -> bytes:
    """The binary extension's bytes of a tensor. A missing string (None) goes out empty."""
    if tensor.datatype != "BYTES":
        return np.ascontiguousarray(tensor.array).tobytes()
    out = bytearray()
    for value in tensor.array.ravel():
        encoded = b"" if value is None else value.encode() if isinstance(value, str) else bytes(value)
        out += _LENGTH.pack(len(encoded)) + encoded
    return bytes(out)


def _split(body: bytes, header_length: int | None) -> tuple[bytes, memoryview]:
    if header_length is None:
        return body, memoryview(b"")
    if not 0 < header_length <= len(body):
        raise BadTensor(f"Inference-Header-Content-Length is {header_length}, but the body has {len(body)} bytes")
    return body[:header_length], memoryview(body)[header_length:]


def _parse(decode: Any, head: bytes) -> Any:
    try:
        return decode(head)
    except msgspec.ValidationError as error:
        raise BadTensor(f"not an inference message: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadTensor(json_fault(head, error)) from None


def json_fault(body: bytes, error: Exception) -> str:
    """Why a body is not JSON, with a hint for the commonest cause: NaN and Infinity written out."""
    if not body.strip():
        return "the body is empty, expected JSON"
    text = f"the body is not JSON: {error}"
    if any(word in body for word in (b"NaN", b"Infinity")):
        text += "; NaN and Infinity are not JSON numbers, send null for a missing value"
    return text


def _tensors(wire: list[_Input], tail: memoryview, what: str) -> list[Tensor]:
    tensors: list[Tensor] = []
    seen: set[str] = set()
    offset = 0
    for item in wire:
        if item.name in seen:
            raise BadTensor(f"{what} {item.name!r} stands twice")
        seen.add(item.name)
        size = item.parameters.get("binary_data_size")
        if size is None:
            if item.data is None:
                raise BadTensor(f"{what} {item.name!r} has neither data nor binary_data_size")
            if item.datatype in JSON_FORBIDDEN:
                raise BadTensor(f"{what} {item.name!r}: {item.datatype} has no JSON form, send it as binary data")
            tensors.append(from_values(item.name, item.datatype, item.shape, item.data))
            continue
        if item.data is not None:
            raise BadTensor(f"{what} {item.name!r} has both data and binary_data_size")
        if type(size) is not int or size < 0:
            raise BadTensor(f"{what} {item.name!r}: binary_data_size is {size!r}, expected a number of bytes")
        if offset + size > len(tail):
            raise BadTensor(
                f"{what} {item.name!r}: binary_data_size is {size}, but {len(tail) - offset} bytes are left in the body"
            )
        tensors.append(from_raw(item.name, item.datatype, item.shape, tail[offset : offset + size]))
        offset += size
    if offset != len(tail):
        raise BadTensor(f"the body has {len(tail) - offset} bytes behind the last tensor")
    return tensors


def _flag(parameters: dict[str, Any], key: str, where: str) -> bool | None:
    value = parameters.get(key)
    if value is not None and type(value) is not bool:
        raise BadTensor(f"{key} of {where} is {value!r}, expected true or false")
    return value


def _dtype(name: str, datatype: str) -> np.dtype[Any]:
    try:
        return DTYPES[datatype]
    except KeyError:
        raise BadTensor(f"{name!r}: unknown datatype {datatype!r}, expected one of {', '.join(DTYPES)}") from None


def _count(name: str, shape: list[int]) -> int:
    if any(size < 0 for size in shape):
        raise BadTensor(f"{name!r}: shape {shape} has a negative dimension")
    if len(shape) > _MAX_DIMENSIONS or math.prod(max(1, size) for size in shape) > _MAX_ELEMENTS:
        raise BadTensor(f"{name!r}: shape {shape} is beyond {_MAX_DIMENSIONS} dimensions or {_MAX_ELEMENTS} elements")
    return math.prod(shape)


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
        raise BadTensor(f"{name!r}: {next(v for v in flat if v != int(v))} is no whole number, {datatype} was expected")
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


def _raw_head(tensor: Tensor, size: int) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "datatype": tensor.datatype,
        "parameters": {"binary_data_size": size},
    }


def _json_head(tensor: Tensor) -> dict[str, Any]:
    values: list[Parameter | None] = tensor.array.ravel().tolist()
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "datatype": tensor.datatype,
        "data": [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in values]
        if tensor.datatype == "BYTES"
        else values,
    }


def _join(head: dict[str, Any], parts: list[bytes]) -> tuple[bytes, int]:
    start = msgspec.json.encode(head)
    return b"".join((start, *parts)), len(start)
