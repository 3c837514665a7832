"""Which fields an object has, as paths: the algebra under managedFields and server-side apply.

A path is a tuple of elements as `fieldsV1` spells them: `f:name`, `k:{"name":"x"}` for an item of a list map,
`v:"x"` for a member of a set. Only leaves are in a set, and items of list maps themselves.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from tests.fakes.fake_apiserver.structural import Schema, child, item_key, items_of, list_keys

Path = tuple[str, ...]
Fields = set[Path]

UNMANAGED: Fields = {
    ("f:apiVersion",),
    ("f:kind",),
    *[
        ("f:metadata", f"f:{name}")
        for name in ("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "selfLink",
                     "managedFields", "deletionTimestamp", "deletionGracePeriodSeconds", "generateName")
    ],
}  # fmt: skip
"""What nobody owns: the system's own."""


class Undeclared(ValueError):
    """A field the schema does not know."""


def leaves(value: Any, schema: Schema, path: Path = ()) -> dict[Path, Any]:
    """Every owned path of value with what stands there. Raises Undeclared."""
    return {at: found for at, found in _walk(value, schema, path) if not _is_unmanaged(at)}


def _is_unmanaged(path: Path) -> bool:
    return path[:1] in UNMANAGED or path[:2] in UNMANAGED


def _walk(value: Any, schema: Schema, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict) and schema.get("x-kubernetes-map-type") != "atomic" and value:
        for key, item in value.items():
            below = child(schema, key)
            if below is None:
                raise Undeclared(
                    "".join(f".{part[2:]}" for part in (*path, f"f:{key}")) + ": field not declared in schema"
                )
            yield from _walk(item, below, (*path, f"f:{key}"))
        return
    kind = schema.get("x-kubernetes-list-type") if isinstance(value, list) else None
    if kind == "set":
        for item in value:
            yield (*path, f"v:{_text(item)}"), item
    elif kind == "map":
        below = items_of(schema)
        for item in value:
            at = (*path, f"k:{_text(item_key(item, list_keys(schema) or [], below))}")
            yield at, None
            yield from _walk(item, below, at)
    else:
        yield path, value


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def merge(live: Any, applied: Any, schema: Schema) -> Any:
    """applied laid over live: maps and list maps field by field, sets joined, everything else replaced."""
    if isinstance(applied, dict) and isinstance(live, dict) and schema.get("x-kubernetes-map-type") != "atomic":
        result = dict(live)
        for key, item in applied.items():
            result[key] = merge(live[key], item, child(schema, key) or {}) if key in live else item
        return result
    if not isinstance(applied, list) or not isinstance(live, list):
        return applied
    if schema.get("x-kubernetes-list-type") == "set":
        return live + [item for item in applied if item not in live]
    keys, below = list_keys(schema), items_of(schema)
    if keys is None:
        return applied
    joined = list(live)
    for item in applied:
        mark = item_key(item, keys, below)
        position = next((i for i, old in enumerate(joined) if item_key(old, keys, below) == mark), None)
        if position is None:
            joined.append(item)
        else:
            joined[position] = merge(joined[position], item, below)
    return joined


def without(value: Any, paths: Iterable[Path], schema: Schema) -> Any:
    """value with these paths taken out, and maps that became empty with them."""
    gone = {path[0] for path in paths if len(path) == 1}
    below: dict[str, list[Path]] = {}
    for path in paths:
        if len(path) > 1 and path[0] not in gone:
            below.setdefault(path[0], []).append(path[1:])
    if isinstance(value, dict):
        result = {}
        for key, item in value.items():
            part = f"f:{key}"
            if part in gone:
                continue
            kept = without(item, below[part], child(schema, key) or {}) if part in below else item
            if kept or not (part in below and item):
                result[key] = kept
        return result
    if isinstance(value, list):
        return [kept for item in value if (kept := _item_without(item, schema, gone, below)) is not None]
    return value


def _item_without(item: Any, schema: Schema, gone: set[str], below: dict[str, list[Path]]) -> Any:
    keys, inside = list_keys(schema), items_of(schema)
    part = f"v:{_text(item)}" if keys is None else f"k:{_text(item_key(item, keys, inside))}"
    if part in gone:
        return None
    return without(item, below[part], inside) if part in below else item


def to_v1(fields: Fields) -> dict[str, Any]:
    """The nested form of managedFields[].fieldsV1. A path that has others below it is marked with `.`."""
    tree: dict[str, Any] = {}
    for path in sorted(fields):
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        if path[-1].startswith("k:"):
            node["."] = {}
    return tree


def from_v1(tree: dict[str, Any], path: Path = ()) -> Fields:
    """The paths of a fieldsV1 tree."""
    if not tree:
        return {path} if path else set()
    found: Fields = set()
    for part, below in tree.items():
        found |= {path} if part == "." else from_v1(below, (*path, part))
    return found
