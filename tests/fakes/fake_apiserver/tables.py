"""The table form of objects: what `kubectl get` prints, from the printer columns of a kind."""

import re
from datetime import UTC, datetime
from typing import Any

from tests.fakes.fake_apiserver.kinds import Kind
from tests.fakes.fake_apiserver.store import Object

_FILTER = re.compile(r'^\?\(@\.([\w.]+)\s*==\s*"([^"]*)"\)$')
_DEFAULT = [{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]


def of(kind: Kind, items: list[Object], meta: Object, include: str = "Metadata") -> Object:
    columns = kind.columns or _DEFAULT
    name = {"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0}
    shown = [] if kind.kind == "Event" else [name]
    definitions = shown + [
        {"name": c["name"], "type": c["type"], "format": "", "description": c.get("description", ""),
         "priority": c.get("priority", 0)}
        for c in columns
    ]  # fmt: skip
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": meta,
        "columnDefinitions": definitions,
        "rows": [row(kind, item, include) for item in items],
    }


def row(kind: Kind, item: Object, include: str = "Metadata") -> Object:
    cells: list[Any] = [] if kind.kind == "Event" else [item["metadata"]["name"]]
    cells += [cell(item, column) for column in kind.columns or _DEFAULT]
    shown = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item["metadata"]}
    return {"cells": cells} | ({"object": item if include == "Object" else shown} if include != "None" else {})


def cell(item: Object, column: Object) -> Any:
    """What one column shows of item; a path that leads nowhere shows nothing."""
    found = look_up(item, column["jsonPath"])
    if column["type"] == "date" and isinstance(found, str):
        return _ago(found)
    if found is None:
        return "" if column["type"] == "string" else None
    return str(found) if column["type"] == "string" else found


def look_up(item: Any, path: str) -> Any:
    """The first value of a JSONPath of the forms printer columns use: `.a.b`, `[0]`, `[?(@.type=="Ready")]`."""
    for part in re.findall(r"\.([\w-]+)|\[([^\]]+)\]", path):
        name, index = part
        if name:
            item = item.get(name) if isinstance(item, dict) else None
        elif (match := _FILTER.match(index)) and isinstance(item, list):
            item = next((one for one in item if look_up(one, f".{match[1]}") == match[2]), None)
        elif index.isdigit() and isinstance(item, list):
            item = item[int(index)] if int(index) < len(item) else None
        else:
            return None
    return item


def _ago(moment: str) -> str:
    try:
        seconds = int((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds())
    except ValueError:
        return "<invalid>"
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{max(seconds, 0)}s"
