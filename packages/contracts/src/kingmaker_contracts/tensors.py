"""Read and write whole Open Inference Protocol V2 bodies: JSON, and the binary tensor extension.

Pure: bytes in, arrays out, and back. Every refusal names the tensor, what was found and what was expected, because its
text is the body of somebody's 400. What an element may be say `json_tensors` and `raw_tensors`. A literal NaN is not
JSON at all.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from kingmaker_contracts.inference import (
    JSON_FORBIDDEN,
    BadTensor,
    InferRequest,
    InferResponse,
    RequestedOutput,
    Tensor,
    TensorSpec,
)
from kingmaker_contracts.json_tensors import from_values, to_values
from kingmaker_contracts.raw_tensors import from_body, from_raw, to_raw


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] | None = None


class _Request(msgspec.Struct):
    inputs: list[_Input]
    outputs: list[_Output] | None = None
    id: str | None = None
    parameters: dict[str, Any] | None = None


class _Answer(msgspec.Struct):
    outputs: list[_Input]
    model_name: str = ""
    model_version: str | None = None
    id: str | None = None
    parameters: dict[str, Any] | None = None


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
        parameters=wire.parameters or {},
        binary_output=_flag(wire.parameters, "binary_data_output", "the request") or False,
    )


def decode_raw_request(body: bytes, inputs: Sequence[TensorSpec]) -> InferRequest:
    """An infer call without a JSON part (`Inference-Header-Content-Length: 0`): the body is the one tensor.

    inputs: the model's. Every output goes out raw. Raises BadTensor.
    """
    if len(inputs) != 1:
        raise BadTensor(
            f"Inference-Header-Content-Length 0 (no JSON part) needs a model with one input, this one has {len(inputs)}"
        )
    return InferRequest([from_body(inputs[0], body)], binary_output=True)


def decode_response(body: bytes, header_length: int | None = None) -> InferResponse:
    """An infer answer from its body. Raises BadTensor."""
    head, tail = _split(body, header_length)
    wire = _parse(_read_answer, head)
    return InferResponse(
        model_name=wire.model_name,
        outputs=_tensors(wire.outputs, tail, "output"),
        model_version=wire.model_version,
        id=wire.id,
        parameters=wire.parameters or {},
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
        size = (item.parameters or {}).get("binary_data_size")
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


def _flag(parameters: dict[str, Any] | None, key: str, where: str) -> bool | None:
    value = (parameters or {}).get(key)
    if value is not None and type(value) is not bool:
        raise BadTensor(f"{key} of {where} is {value!r}, expected true or false")
    return value


def _raw_head(tensor: Tensor, size: int) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "datatype": tensor.datatype,
        "parameters": {"binary_data_size": size},
    }


def _json_head(tensor: Tensor) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "datatype": tensor.datatype,
        "data": to_values(tensor),
    }


def _join(head: dict[str, Any], parts: list[bytes]) -> tuple[bytes, int]:
    start = msgspec.json.encode(head)
    return b"".join((start, *parts)), len(start)
