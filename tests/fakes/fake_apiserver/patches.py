"""The three patches that are not apply: JSON merge patch (RFC 7386), JSON patch (RFC 6902), strategic merge."""

from typing import Any

from tests.fakes.fake_apiserver.errors import ApiError, bad_request
from tests.fakes.fake_apiserver.structural import Schema, child, copied, items_of


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386: null removes, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return copied(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def json_patch(target: Any, operations: Any) -> Any:
    """RFC 6902. Raises ApiError 422 when a test fails or a path is missing, as an apiserver does."""
    if not isinstance(operations, list):
        raise bad_request("error decoding patch: a JSON patch is a list of operations")
    result = copied(target)
    for operation in operations:
        try:
            result = _operate(result, operation)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise ApiError(
                422, "Invalid", f"the server rejected our request due to an error in our request: {error}"
            ) from None
    return result


def _operate(document: Any, operation: dict[str, Any]) -> Any:
    kind, path = operation["op"], _pointer(operation["path"])
    if kind == "test":
        if _at(document, path) != operation["value"]:
            raise ValueError(f"testing path {operation['path']} failed")
        return document
    if kind in ("move", "copy"):
        origin = _pointer(operation["from"])
        value = copied(_at(document, origin))
        if kind == "move":
            document = _operate(document, {"op": "remove", "path": operation["from"]})
    else:
        value = copied(operation.get("value"))
    if not path:
        return value
    parent, last = _at(document, path[:-1]), path[-1]
    if isinstance(parent, list):
        position = len(parent) if last == "-" else int(last)
        if kind in ("remove", "replace"):
            del parent[position]
        if kind != "remove":
            parent.insert(position, value)
    elif kind == "remove":
        del parent[last]
    elif kind == "replace" and last not in parent:
        raise KeyError(f"replace operation does not apply: doc is missing key: {operation['path']}")
    else:
        parent[last] = value
    return document


def _pointer(text: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _at(document: Any, path: list[str]) -> Any:
    for part in path:
        document = document[int(part)] if isinstance(document, list) else document[part]
    return document


def strategic(target: Any, patch: Any, schema: Schema) -> Any:
    """A merge patch that knows lists by their merge key, with `$patch`, `$retainKeys`, `$deleteFromPrimitiveList`.

    `$setElementOrder` only orders and is left out.
    """
    if not isinstance(patch, dict):
        return copied(patch)
    if patch.get("$patch") == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    result = dict(target) if isinstance(target, dict) else {}
    if "$retainKeys" in patch:
        result = {key: value for key, value in result.items() if key in patch["$retainKeys"]}
    for key, value in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            field = key.partition("/")[2]
            result[field] = [item for item in result.get(field, []) if item not in value]
        elif key.startswith("$"):
            continue
        elif value is None:
            result.pop(key, None)
        else:
            below = child(schema, key) or {}
            merges = isinstance(value, list) and below.get("x-kubernetes-patch-strategy", "").find("merge") >= 0
            result[key] = (
                _merge_list(result.get(key, []), value, below) if merges else strategic(result.get(key), value, below)
            )
    return result


def _merge_list(target: list[Any], patch: list[Any], schema: Schema) -> list[Any]:
    key, below = schema.get("x-kubernetes-patch-merge-key"), items_of(schema)
    if key is None:
        return target + [item for item in patch if item not in target]
    result = [] if any(item.get("$patch") == "replace" for item in patch) else copied(target)
    for item in patch:
        position = next((i for i, old in enumerate(result) if old.get(key) == item.get(key)), None)
        if item.get("$patch") == "delete":
            result = [old for old in result if old.get(key) != item.get(key)]
        elif item.get("$patch") == "replace":
            continue
        elif position is None:
            result.append({k: v for k, v in item.items() if not k.startswith("$")})
        else:
            result[position] = strategic(result[position], item, below)
    return result
