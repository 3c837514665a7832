"""From the typed values to a JSON schema that Helm 3 and 4 read: draft 7, no references, strict to the last object."""

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
from pydantic import BaseModel

from deploy.helm.definition.parts import KUBERNETES
from deploy.helm.definition.settings import SETTINGS_OF, schema_of
from kingmaker_contracts import crd

Schema = dict[str, Any]

SERVED_MODELS: Final = "x-kingmaker-served-models"
"""Marks the field that holds ServedModels by name."""
_NAME: Final = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
_VERSION: Final = "v1.37.0"
_KEPT: Final = (
    "type", "enum", "pattern", "format", "minLength", "maxLength", "minimum", "maximum", "exclusiveMinimum",
    "exclusiveMaximum", "minItems", "maxItems", "maxProperties", "required", "description",
)  # fmt: skip


def of_values(values: type[BaseModel]) -> Schema:
    """The whole of values.schema.json. Helm adds `global` to every chart's values."""
    raw = values.model_json_schema(by_alias=True)
    schema = _plain(raw, raw["$defs"])
    schema["properties"]["global"] = {"type": "object", "description": "Helm's own; nothing here reads it."}
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of the Kingmaker chart", **schema}


def served_model_spec() -> Schema:
    """spec of a ServedModel as the CRD says it, without what only an API server understands."""
    return _strict(crd.spec_schema())


def _plain(raw: Schema, definitions: dict[str, Schema]) -> Schema:
    """One node without references, "may be null" kept where it was said."""
    raw = _followed(raw, definitions)
    if SETTINGS_OF in raw:
        return {**schema_of(raw[SETTINGS_OF]), "description": raw["description"]}
    if SERVED_MODELS in raw:
        described = {"type": "object", "description": raw["description"], "additionalProperties": False}
        return {**described, "patternProperties": {_NAME: served_model_spec()}}
    if KUBERNETES in raw:
        part = _kubernetes(raw[KUBERNETES])
        part = {"type": "array", "items": part} if raw["type"] == "array" else part
        return {**part, "description": raw["description"]}
    found: Schema = {key: raw[key] for key in _KEPT if key in raw}
    if "const" in raw:
        found["enum"] = [raw["const"]]
    if "anyOf" in raw:  # only ever "this or null"
        [part] = [_plain(part, definitions) for part in raw["anyOf"] if part.get("type") != "null"]
        found = {**part, **found, "type": [part["type"], "null"]}
    if "properties" in raw:
        found["properties"] = {name: _plain(part, definitions) for name, part in raw["properties"].items()}
        found["additionalProperties"] = False
    elif isinstance(raw.get("additionalProperties"), dict):
        found["additionalProperties"] = _plain(raw["additionalProperties"], definitions)
    if "items" in raw:
        found["items"] = _plain(raw["items"], definitions)
    return found


def _followed(raw: Schema, definitions: dict[str, Schema]) -> Schema:
    while "$ref" in raw:
        target = definitions[raw["$ref"].rpartition("/")[2]]
        raw = {**target, **{key: value for key, value in raw.items() if key != "$ref"}}
    return raw


def _strict(raw: Schema) -> Schema:
    found: Schema = {key: raw[key] for key in _KEPT if key in raw}
    if "properties" in raw:
        found["properties"] = {name: _strict(part) for name, part in raw["properties"].items()}
        found["additionalProperties"] = False
    elif "additionalProperties" in raw:
        found["additionalProperties"] = _strict(raw["additionalProperties"])
    if "items" in raw:
        found["items"] = _strict(raw["items"])
    return found


@cache
def _definitions() -> dict[str, Schema]:
    folder = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema" / f"{_VERSION}-local-strict"
    loaded: dict[str, Schema] = json.loads((folder / "_definitions.json").read_text())["$defs"]
    return loaded


def _kubernetes(name: str) -> Schema:
    """A definition of Kubernetes' own, strict, without its long descriptions."""

    def plain(raw: Schema) -> Schema:
        if "$ref" in raw:
            return plain(_definitions()[raw["$ref"].rpartition("/")[2]])
        if "oneOf" in raw:  # a quantity, or a number or text
            return {"type": ["string", "integer", "number"]}
        types = raw["type"] if isinstance(raw["type"], list) else [raw["type"]]
        found: Schema = {"type": next(name for name in types if name != "null")}
        for key in ("enum", "required"):
            if key in raw:
                found[key] = raw[key]
        if "properties" in raw:
            found["properties"] = {key: plain(part) for key, part in raw["properties"].items()}
            found["additionalProperties"] = False
        elif isinstance(raw.get("additionalProperties"), dict):
            found["additionalProperties"] = plain(raw["additionalProperties"])
        if "items" in raw:
            found["items"] = plain(raw["items"])
        return found

    return plain(_definitions()[name])
