"""Kubernetes' protobuf, as far as Helm sends it: the Secret it keeps a release in, and what it says to delete one.

Go's typed clients write built-in kinds this way and know no other; what is sent back to them may be JSON.
"""

import base64
from collections.abc import Iterator
from typing import Any

MAGIC = b"k8s\x00"
Object = dict[str, Any]


class UnknownMessage(ValueError):
    """A kind this file has no fields of."""


def decode(body: bytes) -> Object:
    """The object of an enveloped message. Raises UnknownMessage."""
    envelope = dict(_fields(body.removeprefix(MAGIC)))
    about = {number: _text(value) for number, value in _fields(envelope[1])}
    kind, raw = about[2], list(_fields(envelope.get(2, b"")))
    head = {"apiVersion": about[1], "kind": kind}
    if kind == "DeleteOptions":
        policies = [_text(value) for number, value in raw if number == 4]
        return {**head, **({"propagationPolicy": policies[-1]} if policies else {})}
    if kind != "Secret":
        raise UnknownMessage(f"{kind} came as protobuf, which the fake apiserver reads for Secrets alone")
    found: Object = {**head, "metadata": {}, "data": {}}
    for number, value in raw:
        if number == 1:
            found["metadata"] = _metadata(value)
        elif number == 2:
            key, content = _entry(value)
            found["data"][key] = base64.b64encode(content).decode()
        elif number == 3:
            found["type"] = _text(value)
    return found


def _metadata(raw: bytes) -> Object:
    names = {1: "name", 3: "namespace", 5: "uid", 6: "resourceVersion"}
    maps = {11: "labels", 12: "annotations"}
    found: Object = {}
    for number, value in _fields(raw):
        if number in names and value:
            found[names[number]] = _text(value)
        elif number in maps:
            key, content = _entry(value)
            found.setdefault(maps[number], {})[key] = _text(content)
    return found


def _entry(raw: bytes) -> tuple[str, bytes]:
    parts = dict(_fields(raw))
    return _text(parts.get(1, b"")), parts.get(2, b"")


def _text(raw: bytes) -> str:
    return raw.decode()


def _fields(raw: bytes) -> Iterator[tuple[int, Any]]:
    """(number, content) of each field: bytes of those with a length, numbers of the others."""
    at = 0
    while at < len(raw):
        tag, at = _varint(raw, at)
        number, wire = tag >> 3, tag & 7
        value: Any
        if wire == 0:
            value, at = _varint(raw, at)
        elif wire == 2:
            length, at = _varint(raw, at)
            value, at = raw[at : at + length], at + length
        else:
            width = {1: 8, 5: 4}[wire]
            value, at = raw[at : at + width], at + width
        yield number, value


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
