"""Check, prune and default plain data by a structural schema, as an apiserver does for a CRD.

Built-in kinds go through the same code: their schemas are Kubernetes' own OpenAPI definitions, with `$ref`s
looked up on the way. Texts are an apiserver's, because people will read them there.
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate

Schema = dict[str, Any]
Cause = tuple[str, str, str]
KUBERNETES = "v1.36.0"
ANYTHING: Schema = {}
"""The schema of what nothing is said about."""


@cache
def definitions() -> dict[str, Schema]:
    """Kubernetes' own OpenAPI definitions by their full names."""
    folder = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema" / f"{KUBERNETES}-local"
    loaded: dict[str, Schema] = json.loads((folder / "_definitions.json").read_text())["$defs"]
    return loaded


_RESOLVED: dict[int, tuple[Schema, Schema]] = {}
"""What a node was resolved to, by its identity; the node is kept too, so that no other takes its number."""


def resolve(schema: Schema) -> Schema:
    """The schema a node means: its reference followed, "may be null" of the JSON form taken out again."""
    known = _RESOLVED.get(id(schema))
    if known is None:
        known = _RESOLVED[id(schema)] = (schema, _meant(schema))
    return known[1]


def _meant(schema: Schema) -> Schema:
    while "$ref" in schema:
        if schema["$ref"].endswith(".MicroTime"):
            return {"type": "string", "format": "micro-time", "description": schema.get("description", "")}
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        schema = {**definitions()[schema["$ref"].rpartition("/")[2]], **beside}
    if "oneOf" in schema:  # Quantity and IntOrString
        return {"x-kubernetes-int-or-string": True, "description": schema.get("description", "")}
    if isinstance(schema.get("type"), list):
        schema = {**schema, "type": next(t for t in schema["type"] if t != "null")}
    return schema


def child(schema: Schema, key: str) -> Schema | None:
    """The schema of a field of an object; None when there is no such field, ANYTHING when anything goes."""
    properties = schema.get("properties")
    if properties is not None and key in properties:
        return resolve(properties[key])
    extra = schema.get("additionalProperties")
    if isinstance(extra, dict):
        return resolve(extra)
    if extra is True or schema.get("x-kubernetes-preserve-unknown-fields") or not schema.get("type"):
        return ANYTHING
    return ANYTHING if properties is None and schema["type"] == "object" else None


def items_of(schema: Schema) -> Schema:
    return resolve(schema.get("items", ANYTHING))


def list_keys(schema: Schema) -> list[str] | None:
    """The keys of a list that is a map of its items, else None."""
    return schema["x-kubernetes-list-map-keys"] if schema.get("x-kubernetes-list-type") == "map" else None


def item_key(item: Any, keys: list[str], schema: Schema) -> dict[str, Any]:
    """What tells one item of a list map from the others; a key left out counts as its default."""
    found = {}
    for key in keys:
        default = (child(schema, key) or {}).get("default", "TCP" if key == "protocol" else None)
        value = item.get(key, default) if isinstance(item, dict) else None
        if value is not None:
            found[key] = value
    return found


def prune(value: Any, schema: Schema, path: str = "") -> Iterator[str]:
    """Take fields the schema does not know out of value; yields their paths."""
    if isinstance(value, dict):
        embedded = schema.get("x-kubernetes-embedded-resource")
        for key in list(value):
            below = child(schema, key)
            if below is None and not embedded:
                del value[key]
                yield f"{path}.{key}".lstrip(".")
            elif below:
                yield from prune(value[key], below, f"{path}.{key}")
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from prune(item, items_of(schema), f"{path}[{i}]")


def fill(value: Any, schema: Schema) -> None:
    """Put in the schema's defaults, from outside in."""
    if isinstance(value, dict):
        for key, raw in schema.get("properties", {}).items():
            below = resolve(raw)
            if "default" in below and (key not in value or (value[key] is None and not below.get("nullable"))):
                value[key] = copied(below["default"])
        for key, item in value.items():
            fill(item, child(schema, key) or {})
    elif isinstance(value, list):
        for item in value:
            fill(item, items_of(schema))


def copied(value: Any) -> Any:
    """A copy of plain data; three times as fast as copy.deepcopy, which minds cycles."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list) else value


def without_nulls(value: Any) -> Any:
    """Built-in kinds know no null: a field that is null is a field left out."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


_RFC3339 = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$")
_RFC3339_MICRO = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)$")
_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": (int, float),
}  # fmt: skip


def type_name(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    return next(name for name, type_ in _TYPES.items() if isinstance(value, type_))


def _is_of(value: Any, wanted: str) -> bool:
    if isinstance(value, bool):
        return wanted == "boolean"
    if wanted == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[wanted])


def faults(value: Any, schema: Schema, path: str = "") -> Iterator[Cause]:
    """Everything wrong with value, deepest last."""
    if schema.get("x-kubernetes-int-or-string"):
        if not isinstance(value, str | int | float) or isinstance(value, bool):
            yield (
                path,
                "FieldValueTypeInvalid",
                f'{path}: Invalid value: "{type_name(value)}": must be a string or a number',
            )
        return
    wanted = schema.get("type")
    if value is None and schema.get("nullable"):
        return
    if wanted and not _is_of(value, wanted):
        found = type_name(value)
        yield (
            path,
            "FieldValueTypeInvalid",
            f'{path}: Invalid value: "{found}": {path} in body must be of type {wanted}: "{found}"',
        )
        return
    if "enum" in schema and value not in schema["enum"]:
        known = ", ".join(json.dumps(v) for v in schema["enum"])
        yield (
            path,
            "FieldValueNotSupported",
            f"{path}: Unsupported value: {json.dumps(value)}: supported values: {known}",
        )
    if isinstance(value, str):
        yield from _text_faults(value, schema, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _number_faults(value, schema, path)
    elif isinstance(value, dict):
        yield from _object_faults(value, schema, path)
    elif isinstance(value, list):
        yield from _list_faults(value, schema, path)


def _wrong(path: str, value: Any, text: str) -> Cause:
    return path, "FieldValueInvalid", f"{path}: Invalid value: {json.dumps(value)}: {path} in body {text}"


def _text_faults(value: str, schema: Schema, path: str) -> Iterator[Cause]:
    if len(value) > schema.get("maxLength", len(value)):
        longest = schema["maxLength"]
        yield path, "FieldValueTooLong", f"{path}: Too long: may not be more than {longest} bytes"
    if len(value) < schema.get("minLength", 0):
        yield _wrong(path, value, f"should be at least {schema['minLength']} chars long")
    if schema.get("format") == "date-time" and not _RFC3339.match(value):
        yield _wrong(path, value, f"must be of type date-time: {json.dumps(value)}")
    if schema.get("format") == "micro-time" and not _RFC3339_MICRO.match(value):
        # the Go type takes exactly six digits; a datetime whose microsecond happens to be 0 is often written without
        yield _wrong(path, value, "must be of the form 2006-01-02T15:04:05.000000Z07:00")
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield _wrong(path, value, f"should match '{schema['pattern']}'")


def _number_faults(value: float, schema: Schema, path: str) -> Iterator[Cause]:
    if value < schema.get("minimum", value):
        yield _wrong(path, value, f"should be greater than or equal to {schema['minimum']}")
    if value > schema.get("maximum", value):
        yield _wrong(path, value, f"should be less than or equal to {schema['maximum']}")


def _object_faults(value: dict[str, Any], schema: Schema, path: str) -> Iterator[Cause]:
    most = schema.get("maxProperties")
    if most is not None and len(value) > most:
        yield path, "FieldValueTooMany", f"{path}: Too many: {len(value)}: must have at most {most} items"
    for key in schema.get("required", []):
        if key not in value:
            at = f"{path}.{key}".lstrip(".")
            yield at, "FieldValueRequired", f"{at}: Required value"
    for key, item in value.items():
        below = child(schema, key)
        if below:
            yield from faults(item, below, f"{path}.{key}".lstrip("."))


def _list_faults(value: list[Any], schema: Schema, path: str) -> Iterator[Cause]:
    most = schema.get("maxItems")
    if most is not None and len(value) > most:
        yield path, "FieldValueTooMany", f"{path}: Too many: {len(value)}: must have at most {most} items"
    below, keys, seen = items_of(schema), list_keys(schema), []
    for i, item in enumerate(value):
        yield from faults(item, below, f"{path}[{i}]")
        mark = item if schema.get("x-kubernetes-list-type") == "set" else keys and item_key(item, keys, below)
        if mark and mark in seen:
            shown = json.dumps(mark, separators=(",", ":"))
            yield f"{path}[{i}]", "FieldValueDuplicate", f"{path}[{i}]: Duplicate value: {shown}"
        seen.append(mark)
