"""Read the few bodies that arrive as protobuf: Helm keeps its releases in Secrets with client-go's typed client.

Only what that client sends is known; anything else is refused with 415, as a kind without a protobuf form is. The
numbers are those of Kubernetes' generated.proto files.
"""

import base64
from collections.abc import Iterator
from typing import Any

_MAGIC = b"k8s\0"
_TEXT, _BYTES, _NUMBER, _FLAG = "text", "bytes", "number", "flag"
_TEXTS, _BLOBS = ("map", _TEXT), ("map", _BYTES)
Fields = dict[int, tuple[str, Any]]

_META: Fields = {
    1: ("name", _TEXT), 2: ("generateName", _TEXT), 3: ("namespace", _TEXT), 5: ("uid", _TEXT),
    6: ("resourceVersion", _TEXT), 11: ("labels", _TEXTS), 12: ("annotations", _TEXTS),
}  # fmt: skip
_KINDS: dict[str, Fields] = {
    "Secret": {1: ("metadata", _META), 2: ("data", _BLOBS), 3: ("type", _TEXT), 5: ("immutable", _FLAG)},
    "ConfigMap": {1: ("metadata", _META), 2: ("data", _TEXTS), 3: ("binaryData", _BLOBS), 4: ("immutable", _FLAG)},
    "Namespace": {1: ("metadata", _META)},
    "DeleteOptions": {1: ("gracePeriodSeconds", _NUMBER), 4: ("propagationPolicy", _TEXT)},
}


class Unreadable(ValueError):
    """Not protobuf, or of a kind that is not known here."""


def decoded(body: bytes) -> dict[str, Any]:
    """An object as its JSON form would be. Raises Unreadable."""
    if not body.startswith(_MAGIC):
        raise Unreadable("no protobuf of Kubernetes")
    about: dict[str, Any] = {}
    raw = b""
    for number, value in _fields(body[len(_MAGIC) :]):
        if number == 1:
            about = _message(value, {1: ("apiVersion", _TEXT), 2: ("kind", _TEXT)})
        elif number == 2:
            raw = value
    fields = _KINDS.get(about.get("kind", ""))
    if fields is None:
        raise Unreadable(f"no table for {about.get('kind')!r}")
    return {**about, **_message(raw, fields)}


def _message(raw: bytes, fields: Fields) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, value in _fields(raw):
        name, kind = fields.get(number, ("", None))
        if kind is None:
            continue
        if isinstance(kind, tuple):
            entry = dict(_fields(value))
            found.setdefault(name, {})[entry.get(1, b"").decode()] = _value(entry.get(2, b""), kind[1])
        elif (one := _value(value, kind)) not in ("", None):
            found[name] = one
    return found


def _value(value: Any, kind: Any) -> Any:
    if isinstance(kind, dict):
        return _message(value, kind)
    if kind == _TEXT:
        return value.decode()
    if kind == _BYTES:
        return base64.b64encode(value).decode()
    return bool(value) if kind == _FLAG else value


def _fields(raw: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of every field: bytes, or an int for a varint."""
    at = 0
    while at < len(raw):
        tag, at = _varint(raw, at)
        if tag & 7 == 0:
            value, at = _varint(raw, at)
            yield tag >> 3, value
        elif tag & 7 == 2:
            size, at = _varint(raw, at)
            yield tag >> 3, raw[at : at + size]
            at += size
        else:
            raise Unreadable(f"wire type {tag & 7}")


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
