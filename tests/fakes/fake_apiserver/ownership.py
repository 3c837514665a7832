"""Who manages which field: server-side apply with its conflicts, and what other writes do to ownership.

An apply owns exactly what it names; what it named last time and no longer does goes, unless another manager
owns it too. A plain write takes what it changes and conflicts with nobody.
"""

import json
from typing import Any, NamedTuple

from tests.fakes.fake_apiserver import fieldsets
from tests.fakes.fake_apiserver.errors import ApiError
from tests.fakes.fake_apiserver.fieldsets import Fields
from tests.fakes.fake_apiserver.structural import Schema

Object = dict[str, Any]


class Manager(NamedTuple):
    """One entry of managedFields: an apply and an update of one name are two."""

    name: str
    operation: str
    api_version: str
    subresource: str = ""


Owners = dict[Manager, tuple[Fields, str]]
"""Each manager's fields, and when it last changed something."""


def read(item: Object) -> Owners:
    owners = {}
    for entry in item.get("metadata", {}).get("managedFields") or []:
        manager = Manager(entry["manager"], entry["operation"], entry["apiVersion"], entry.get("subresource", ""))
        owners[manager] = (fieldsets.from_v1(entry.get("fieldsV1", {})), entry.get("time", ""))
    return owners


def write(item: Object, owners: Owners) -> None:
    entries = []
    for manager, (fields, time) in owners.items():
        if not fields:
            continue
        entry: dict[str, Any] = {"manager": manager.name, "operation": manager.operation}
        entry |= {
            "apiVersion": manager.api_version,
            "time": time,
            "fieldsType": "FieldsV1",
            "fieldsV1": fieldsets.to_v1(fields),
        }
        entries.append(entry | ({"subresource": manager.subresource} if manager.subresource else {}))
    item["metadata"]["managedFields"] = entries


def updated(before: Object | None, after: Object, schema: Schema, manager: Manager, now: str) -> None:
    """Put the owners of a plain write into `after`: what it changed is now the manager's alone."""
    owners = read(before) if before else {}
    old = fieldsets.leaves(before, schema) if before else {}
    new = fieldsets.leaves(after, schema)
    changed = {path for path, value in new.items() if path not in old or old[path] != value}
    removed = set(old) - set(new)
    if not changed and not removed:
        write(after, owners)
        return
    for other, (fields, time) in owners.items():
        owners[other] = (fields - removed - (changed if other != manager else set()), time)
    mine = owners.get(manager, (set(), ""))[0]
    if changed:
        owners[manager] = (mine | changed, now)
    write(after, owners)


def applied(live: Object | None, config: Object, schema: Schema, manager: Manager, *, force: bool, now: str) -> Object:
    """The object after `config` was applied. Raises ApiError 409 naming every conflict, 500 for unknown fields."""
    try:
        wanted = fieldsets.leaves(config, schema)
    except fieldsets.Undeclared as error:
        name = f"{config['metadata'].get('namespace', '')}/{config['metadata']['name']}"
        kind = f"{config['apiVersion']}, Kind={config['kind']}"
        raise ApiError(500, "", f"failed to create typed patch object ({name}; {kind}): {error}") from None
    if live is None:
        result = {**config, "metadata": dict(config["metadata"])}
        write(result, {manager: (set(wanted), now)})
        return result
    owners = read(live)
    result = fieldsets.merge(live, config, schema)
    old, new = fieldsets.leaves(live, schema), fieldsets.leaves(result, schema)
    changed = {path for path, value in new.items() if path not in old or old[path] != value}
    changed |= set(old) - set(new)
    fights = {other: fields & changed for other, (fields, _) in owners.items() if other != manager and fields & changed}
    if fights and not force:
        raise _conflicts(fights)
    for other, lost in fights.items():
        owners[other] = (owners[other][0] - lost, owners[other][1])
    dropped = owners.get(manager, (set(), ""))[0] - set(wanted)
    held = {
        path[:i]
        for o, (fields, _) in owners.items()
        if o != manager
        for path in fields
        for i in range(1, len(path) + 1)
    }
    kept = {path[:i] for path in wanted for i in range(1, len(path) + 1)}
    result = fieldsets.without(result, dropped - held - kept, schema)
    mine, time = owners.get(manager, (set(), now))
    owners[manager] = (set(wanted), now if mine != set(wanted) or changed or dropped else time)
    result["metadata"] = dict(result["metadata"])
    write(result, owners)
    return result


def _conflicts(fights: dict[Manager, Fields]) -> ApiError:
    causes, texts = [], []
    for manager, fields in sorted(fights.items()):
        shown = f'"{manager.name}"' + (f' with subresource "{manager.subresource}"' if manager.subresource else "")
        if manager.operation == "Update":
            shown += f" using {manager.api_version}"
        names = sorted(map(_dotted, fields))
        causes += [
            {"reason": "FieldManagerConflict", "message": f"conflict with {shown}", "field": name} for name in names
        ]
        texts.append(
            f"conflict with {shown}: {names[0]}"
            if len(names) == 1
            else f"conflicts with {shown}:\n- " + "\n- ".join(names)
        )
    count = len(causes)
    head = f"Apply failed with {count} conflict{'s' if count > 1 else ''}: "
    return ApiError(409, "Conflict", head + "\n".join(texts), {"causes": causes})


def _dotted(path: fieldsets.Path) -> str:
    text = ""
    for part in path:
        kind, value = part[0], part[2:]
        if kind == "f":
            text += f".{value}"
        elif kind == "k":
            text += "[" + ",".join(f"{k}={json.dumps(v)}" for k, v in json.loads(value).items()) + "]"
        else:
            text += f"[={value}]"
    return text
