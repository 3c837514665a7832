"""Open Inference Protocol V2 messages written and read a second time, straight from the specification.

The services share one codec; a test that used it too could not see its mistakes. Strict on purpose: what is
not exactly as the specification says raises NotOip.
"""

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

HEADER = "inference-header-content-length"
SIZES: dict[str, str] = {
    "BOOL": "?",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}


class NotOip(ValueError):
    """Bytes that are no message of the protocol."""


@dataclass
class Given:
    """An input as a client writes it. form: raw (binary extension), flat or nested (JSON)."""

    name: str
    datatype: str
    array: NDArray[Any]
    form: str = "flat"


@dataclass
class Message:
    """A whole body with the headers that tell how to read it."""

    body: bytes
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})


def request(
    inputs: list[Given],
    *,
    outputs: Sequence[tuple[str, bool | None]] | None = None,
    binary_output: bool | None = None,
    id: str | None = None,
    parameters: dict[str, Any] | None = None,
) -> Message:
    """An infer call. outputs: name, and whether binary_data is asked for (None: not said)."""
    head: dict[str, Any] = {"inputs": []}
    parts = []
    for given in inputs:
        tensor: dict[str, Any] = {"name": given.name, "shape": list(given.array.shape), "datatype": given.datatype}
        if given.form == "raw":
            parts.append(raw_of(given.array, given.datatype))
            tensor["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            array = given.array.ravel() if given.form == "flat" else given.array
            tensor["data"] = without_nan(array.tolist())
        head["inputs"].append(tensor)
    if id is not None:
        head["id"] = id
    if outputs is not None:
        head["outputs"] = [
            {"name": name} | ({} if raw is None else {"parameters": {"binary_data": raw}}) for name, raw in outputs
        ]
    if binary_output is not None or parameters is not None:
        said = {} if binary_output is None else {"binary_data_output": binary_output}
        head["parameters"] = (parameters or {}) | said
    return message(head, b"".join(parts), binary=any(given.form == "raw" for given in inputs))


def message(head: dict[str, Any], tail: bytes = b"", *, binary: bool = False) -> Message:
    start = json.dumps(head).encode()
    if not binary:
        return Message(start)
    return Message(start + tail, {"content-type": "application/octet-stream", HEADER: str(len(start))})


def raw_of(array: NDArray[Any], datatype: str) -> bytes:
    if datatype == "BYTES":
        return b"".join(struct.pack("<I", len(s.encode())) + s.encode() for s in array.ravel())
    return array.astype(SIZES[datatype]).tobytes()


def without_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


@dataclass
class Read:
    """A message decoded. tensors: in order; raw: names of those that came as binary data."""

    head: dict[str, Any]
    tensors: dict[str, NDArray[Any]]
    raw: frozenset[str]


def read(body: bytes, header_length: str | None, key: str) -> Read:
    """key: `inputs` of a request, `outputs` of an answer. Raises NotOip."""
    if header_length is not None and not (header_length.isascii() and header_length.isdigit()):
        raise NotOip(header_length)
    size = len(body) if header_length is None else int(header_length)
    if not 0 < size <= len(body):
        raise NotOip(f"{size} of {len(body)} bytes")
    try:
        head = json.loads(body[:size], parse_constant=_refuse)
        tensors, raw, tail = {}, [], body[size:]
        for item in head[key]:
            length = item.get("parameters", {}).get("binary_data_size")
            if (length is None) == (item.get("data") is None) or item["name"] in tensors:
                raise NotOip(f"{item}")
            if length is None:
                tensors[item["name"]] = _from_json(item)
                continue
            if type(length) is not int or not 0 <= length <= len(tail):
                raise NotOip(f"{length} of {len(tail)} bytes")
            tensors[item["name"]] = _from_raw(item, tail[:length])
            raw.append(item["name"])
            tail = tail[length:]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise NotOip(str(error)) from None
    if tail:
        raise NotOip(f"{len(tail)} bytes behind the last tensor")
    return Read(head, tensors, frozenset(raw))


def _shape(item: dict[str, Any]) -> list[int]:
    shape: list[int] = item["shape"]
    if any(type(size) is not int or size < 0 for size in shape):
        raise NotOip(f"shape {shape}")
    return shape


def _from_json(item: dict[str, Any]) -> NDArray[Any]:
    flat = item["data"]
    while flat and isinstance(flat[0], list):
        flat = [value for inner in flat for value in inner]
    if len(flat) != math.prod(_shape(item)):
        raise NotOip(f"{len(flat)} values for shape {item['shape']}")
    if item["datatype"] == "BYTES":
        if not all(isinstance(value, str) for value in flat):
            raise NotOip("no string")
        return np.array(flat, object).reshape(item["shape"])
    if any(isinstance(value, str) for value in flat):
        raise NotOip("a string among numbers")
    wide = np.float64 if item["datatype"].startswith("FP") else SIZES[item["datatype"]]
    return np.array(flat, wide).astype(SIZES[item["datatype"]]).reshape(item["shape"])


def _from_raw(item: dict[str, Any], raw: bytes) -> NDArray[Any]:
    shape = _shape(item)
    if item["datatype"] != "BYTES":
        dtype = np.dtype(SIZES[item["datatype"]])
        if len(raw) != math.prod(shape) * dtype.itemsize:
            raise NotOip(f"{len(raw)} bytes for shape {shape}")
        return np.frombuffer(raw, dtype).reshape(shape)
    strings, at = [], 0
    while at < len(raw):
        (size,) = struct.unpack_from("<I", raw, at) if at + 4 <= len(raw) else (len(raw),)
        if at + 4 + size > len(raw):
            raise NotOip("a string beyond the tensor")
        strings.append(raw[at + 4 : at + 4 + size].decode())
        at += 4 + size
    if len(strings) != math.prod(shape):
        raise NotOip(f"{len(strings)} strings for shape {shape}")
    return np.array(strings, object).reshape(shape)


def _refuse(constant: str) -> None:
    raise NotOip(constant)
