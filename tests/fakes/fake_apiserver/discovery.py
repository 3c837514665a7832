"""What a client can learn of a server before it asks for objects: versions, groups, resources, OpenAPI v3."""

import hashlib
import json
from typing import Any

from tests.fakes.fake_apiserver.kinds import Kind
from tests.fakes.fake_apiserver.structural import KUBERNETES, definitions

_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_MEDIA = ("application/json", "application/yaml")
_PATCHES = ("application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml")


def version() -> dict[str, str]:
    major, minor = KUBERNETES.removeprefix("v").split(".")[:2]
    return {"major": major, "minor": minor, "gitVersion": f"{KUBERNETES}+fake", "platform": "linux/amd64"}


def core_versions() -> dict[str, Any]:
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def groups(kinds: list[Kind]) -> dict[str, Any]:
    listed: dict[str, list[str]] = {}
    for kind in kinds:
        if kind.group and kind.version not in listed.setdefault(kind.group, []):
            listed[kind.group].append(kind.version)
    found = []
    for name, versions in listed.items():
        named = [{"groupVersion": f"{name}/{v}", "version": v} for v in versions]
        found.append({"name": name, "versions": named, "preferredVersion": named[0]})
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": found}


def resources(kinds: list[Kind], group: str, version_: str) -> dict[str, Any] | None:
    """The resources of one group version, None when there is no such version."""
    found: list[dict[str, Any]] = []
    for kind in kinds:
        if (kind.group, kind.version) != (group, version_):
            continue
        common = {"singularName": kind.kind.lower(), "namespaced": kind.namespaced, "kind": kind.kind}
        more = {"shortNames": list(kind.short_names), "categories": list(kind.categories)}
        found.append(
            {"name": kind.plural, **common, "verbs": _VERBS} | {key: value for key, value in more.items() if value}
        )
        if kind.has_status:
            found.append(
                {"name": f"{kind.plural}/status", **common, "singularName": "", "verbs": ["get", "patch", "update"]}
            )
        if kind.has_scale:
            about = {"name": f"{kind.plural}/scale", "singularName": "", "namespaced": True, "kind": "Scale"}
            found.append(about | {"group": "autoscaling", "version": "v1", "verbs": ["get", "patch", "update"]})
    if not found:
        return None
    name = f"{group}/{version_}" if group else version_
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": found}


def openapi_index(kinds: list[Kind]) -> dict[str, Any]:
    paths = {}
    for root in {_root(kind) for kind in kinds}:
        inside = [[kind.kind, kind.custom_schema] for kind in kinds if _root(kind) == root]
        # The hash is part of the address so that clients may keep the document for ever.
        mark = hashlib.sha256(json.dumps(inside, sort_keys=True).encode()).hexdigest()
        paths[root] = {"serverRelativeURL": f"/openapi/v3/{root}?hash={mark}"}
    return {"paths": paths}


def _root(kind: Kind) -> str:
    return f"apis/{kind.group}/{kind.version}" if kind.group else f"api/{kind.version}"


def openapi(kinds: list[Kind], group: str, version_: str) -> dict[str, Any] | None:
    """The OpenAPI v3 document of one group version."""
    mine = [kind for kind in kinds if (kind.group, kind.version) == (group, version_)]
    if not mine:
        return None
    schemas: dict[str, Any] = {}
    paths: dict[str, Any] = {}
    for kind in mine:
        name = kind.definition or ".".join([*reversed(kind.group.split(".")), kind.version, kind.kind])
        mark = {"group": kind.group, "version": kind.version, "kind": kind.kind}
        schemas[name] = {**_plain(kind.custom_schema or definitions()[name]), "x-kubernetes-group-version-kind": [mark]}
        base = f"/{_root(kind)}/" + ("namespaces/{namespace}/" if kind.namespaced else "") + kind.plural
        paths[base] = {"get": _operation("list", name, mark), "post": _operation("post", name, mark)}
        paths[base + "/{name}"] = {
            verb: _operation(action, name, mark)
            for verb, action in (("get", "get"), ("put", "put"), ("patch", "patch"), ("delete", "delete"))
        }
    _close(schemas)
    info = {"title": "Kubernetes", "version": KUBERNETES}
    return {"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": schemas}}


def _operation(action: str, schema: str, mark: dict[str, str]) -> dict[str, Any]:
    body = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    operation: dict[str, Any] = {
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": mark,
        "responses": {"200": {"description": "OK", "content": dict.fromkeys(_MEDIA, body)}},
    }
    query = [
        {"name": n, "in": "query", "schema": {"type": "string"}} for n in ("fieldValidation", "dryRun", "fieldManager")
    ]
    if action in ("post", "put", "patch"):
        operation["parameters"] = query
        medias = _PATCHES if action == "patch" else _MEDIA
        operation["requestBody"] = {"content": dict.fromkeys(medias, body)}
    return operation


def _plain(schema: Any) -> Any:
    """A definition as OpenAPI writes it: no "or null", references into components."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {}
    for key, value in schema.items():
        if key == "$ref" and isinstance(value, str):
            return {
                "allOf": [{"$ref": "#/components/schemas/" + value.rpartition("/")[2]}], "default": {},
                **({"description": schema["description"]} if "description" in schema else {}),
            }  # fmt: skip
        if key == "type" and isinstance(value, list):
            found[key] = next(one for one in value if one != "null")
        elif key == "enum" and isinstance(value, list):
            found[key] = [one for one in value if one is not None]
        else:
            found[key] = _plain(value)
    return found


def _close(schemas: dict[str, Any]) -> None:
    """Add every definition the schemas lead to."""
    waiting = list(schemas.values())
    while waiting:
        for name in _references(waiting.pop()):
            if name not in schemas:
                schemas[name] = _plain(definitions()[name])
                waiting.append(schemas[name])


def _references(schema: Any) -> list[str]:
    if isinstance(schema, list):
        return [name for item in schema for name in _references(item)]
    if not isinstance(schema, dict):
        return []
    own = [schema["$ref"].rpartition("/")[2]] if isinstance(schema.get("$ref"), str) else []
    return own + [name for value in schema.values() for name in _references(value)]
