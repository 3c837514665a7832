"""The CustomResourceDefinition of ServedModel, made from the types that parse it and the status that is written.

Nothing about the resource is said twice: fields, bounds, defaults and descriptions come from `served_model` and
`status`, conditions across fields from `rules`. Kubernetes wants a structural schema: no references, no unions,
"may be left out" instead of "may be null", and defaults only where something is to be filled in.
"""

from typing import Any, Final

import msgspec

from kingmaker_contracts.rules import NOT_YET, RULES, Rule
from kingmaker_contracts.served_model import API_VERSION, KIND, NAME_PATTERN, Spec
from kingmaker_contracts.status import Status

Schema = dict[str, Any]

GROUP, VERSION = API_VERSION.split("/")
PLURAL: Final = "servedmodels"
NAME: Final = f"{PLURAL}.{GROUP}"


def _column(name: str, path: str, description: str, *, kind: str = "string", wide: bool = False) -> Schema:
    column = {"name": name, "type": kind, "jsonPath": path, "description": description}
    return column | ({"priority": 1} if wide else {})


COLUMNS: Final[list[Schema]] = [
    _column("Mode", ".spec.mode", "How challengers meet traffic."),
    _column("Phase", ".status.phase", "Where the model is, derived from the conditions."),
    _column("Champion", ".status.champion.name", "Who reigns now."),
    _column("Weights", ".status.summary.weights", "Live traffic of every variant in percent, the champion first."),
    _column("Ready", '.status.conditions[?(@.type=="Ready")].status', "Whether the champion serves."),
    _column("Age", ".metadata.creationTimestamp", "Since when the resource exists.", kind="date"),
    _column("Message", ".status.message", "The one sentence that says why.", wide=True),
    _column(
        "Programmed",
        '.status.conditions[?(@.type=="Programmed")].status',
        "Whether gateways have the routing record.",
        wide=True,
    ),
    _column("Revision", ".status.routing.revision", "Of the routing record.", kind="integer", wide=True),
    _column("Paused", ".spec.paused", "Whether live weights are frozen.", kind="boolean", wide=True),
]
"""What `kubectl get sm` shows; wide ones with `-o wide`."""


def custom_resource_definition() -> Schema:
    """The whole object, as it is applied to a cluster."""
    names = {"plural": PLURAL, "singular": KIND.lower(), "kind": KIND, "listKind": f"{KIND}List"}
    schema = {
        "type": "object",
        "description": "A model served by a champion, with challengers that may win its place.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"Always {API_VERSION}."},
            "kind": {"type": "string", "description": f"Always {KIND}."},
            "metadata": {
                "type": "object",
                "properties": {"name": {"type": "string", "pattern": NAME_PATTERN, "maxLength": 63}},
            },
            "spec": spec_schema(),
            "status": status_schema(),
        },
    }
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": COLUMNS,
        "schema": {"openAPIV3Schema": schema},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": NAME},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {**names, "shortNames": ["sm"], "categories": ["kingmaker"]},
            "versions": [version],
        },
    }


def spec_schema() -> Schema:
    """The schema of spec with its rules."""
    raw = Spec.model_json_schema(by_alias=True)
    schema = _structural(raw, raw["$defs"])
    for rule in (*RULES, *NOT_YET):
        _add(schema, rule)
    return schema


def status_schema() -> Schema:
    """The schema of status. Nothing in it has a default: only the controller fills it."""
    (raw,), definitions = msgspec.json.schema_components([Status], ref_template="#/$defs/{name}")
    return _without_defaults(_structural(raw, definitions, nullable=True))


def _add(schema: Schema, rule: Rule) -> None:
    if rule.cel is None:
        return
    found = {"rule": rule.cel.rule, "message": rule.message}
    found |= {"fieldPath": rule.cel.field} if rule.cel.field else {}
    for place in rule.cel.places:
        where = schema
        for part in filter(None, place.split(".")):
            where = where["properties"][part.removesuffix("[]")]
            where = where["items"] if part.endswith("[]") else where
        where.setdefault("x-kubernetes-validations", []).append(dict(found))


def _structural(raw: Schema, definitions: dict[str, Schema], *, nullable: bool = False) -> Schema:
    """A JSON schema as Kubernetes wants it. nullable: keep "may be null" where it was."""
    schema = _flat(raw, definitions, nullable=nullable)
    found: Schema = {}
    if "type" in schema:
        found["type"] = schema["type"]
    if "description" in schema:
        found["description"] = " ".join(schema["description"].split())
    for key in (
        "format",
        "enum",
        "pattern",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
        "maxItems",
        "maxProperties",
    ):
        if key in schema:
            found[key] = schema[key]
    found |= {key: value for key, value in schema.items() if key.startswith("x-kubernetes-") or key == "nullable"}
    default = schema.get("default")
    if default not in (None, [], {}):
        # The parts of an object have defaults of their own; {} lets them be filled in.
        found["default"] = {} if isinstance(default, dict) else default
    if schema.get("required"):
        found["required"] = schema["required"]
    if "properties" in schema:
        found["properties"] = {
            name: _structural(part, definitions, nullable=nullable) for name, part in schema["properties"].items()
        }
    elif isinstance(schema.get("additionalProperties"), dict):
        found["additionalProperties"] = _structural(schema["additionalProperties"], definitions, nullable=nullable)
    if "items" in schema:
        found["items"] = _structural(schema["items"], definitions, nullable=nullable)
    return found


def _flat(raw: Schema, definitions: dict[str, Schema], *, nullable: bool) -> Schema:
    """One node without references, unions and constants; what stands beside a reference wins."""
    schema = dict(raw)
    if "anyOf" in schema:
        choices = [choice for choice in schema.pop("anyOf") if choice.get("type") != "null"]
        if len(choices) != 1:
            raise ValueError(f"Kubernetes has no unions: {raw}")
        schema = {**choices[0], **schema} | ({"nullable": True} if nullable else {})
    if "$ref" in schema:
        target = definitions[schema.pop("$ref").rpartition("/")[2]]
        schema = {**target, **schema}
        return _flat(schema, definitions, nullable=nullable)
    if "const" in schema:
        schema["enum"] = [schema.pop("const")]
    if "enum" in schema:
        schema.setdefault("type", "string")
    return schema


def _without_defaults(schema: Schema) -> Schema:
    found = {key: value for key, value in schema.items() if key != "default"}
    if "properties" in found:
        found["properties"] = {name: _without_defaults(part) for name, part in found["properties"].items()}
    if "items" in found:
        found["items"] = _without_defaults(found["items"])
    return found
