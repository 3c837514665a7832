"""deploy/k8s/crd/ is what the contracts say, structural, bounded, and described to the last field."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kingmaker_contracts.crd import NAME

ROOT = Path(__file__).parents[2]
CRD = yaml.safe_load((ROOT / "deploy/k8s/crd" / f"{NAME}.yaml").read_text())
[VERSION] = CRD["spec"]["versions"]
SCHEMA = VERSION["schema"]["openAPIV3Schema"]


def nodes(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from nodes(part, f"{path}.{name}")
    for below in ("items", "additionalProperties"):
        if below in schema:
            yield from nodes(schema[below], f"{path}[]")


def test_the_file_is_what_the_contracts_say() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/crd", "--check"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("path", "schema"), list(nodes(SCHEMA)))
def test_a_field_is_structural_and_described(path: str, schema: dict[str, Any]) -> None:
    assert schema["type"] in {"object", "array", "string", "integer", "boolean"}
    assert not schema.keys() & {"$ref", "anyOf", "oneOf", "allOf", "$defs", "title", "const"}
    assert not ("properties" in schema and "additionalProperties" in schema)
    # metadata is described by Kubernetes itself
    if not path.startswith(".metadata") and not path.endswith("[]"):
        assert schema.get("description", "").endswith("."), f"{path} has no description"


@pytest.mark.parametrize(("path", "schema"), [(p, s) for p, s in nodes(SCHEMA["properties"]["spec"], "spec")])
def test_what_a_rule_may_walk_over_is_bounded(path: str, schema: dict[str, Any]) -> None:
    """An apiserver multiplies a rule's cost by the largest size of what it walks over."""
    if schema["type"] == "array":
        assert "maxItems" in schema
    if "additionalProperties" in schema:
        assert "maxProperties" in schema
    if schema["type"] == "string":
        assert "maxLength" in schema or "enum" in schema


def test_no_rule_makes_its_message_from_names() -> None:
    for path, schema in nodes(SCHEMA):
        for rule in schema.get("x-kubernetes-validations", []):
            assert "messageExpression" not in rule, path


def test_lists_say_what_makes_an_item_one() -> None:
    kinds = {
        p: s.get("x-kubernetes-list-map-keys", s.get("x-kubernetes-list-type"))
        for p, s in nodes(SCHEMA)
        if s["type"] == "array"
    }
    assert kinds == {
        ".spec.challengers": ["name"],
        ".spec.gates": ["name"],
        ".spec.rollout.steps": "atomic",
        ".spec.segments": "set",
        ".spec.sensitive": "set",
        ".status.conditions": ["type"],
        ".status.routing.variants": ["name"],
        # one name twice: a variant whose model was changed drains beside the new one
        ".status.variants": ["name", "model"],
    }


def test_the_keys_of_a_list_are_required_or_have_a_default() -> None:
    for path, schema in nodes(SCHEMA):
        for key in schema.get("x-kubernetes-list-map-keys", []):
            item = schema["items"]
            assert key in item["required"] or "default" in item["properties"][key], path


def test_status_has_no_defaults_as_only_the_controller_fills_it() -> None:
    assert not [path for path, schema in nodes(SCHEMA["properties"]["status"]) if "default" in schema]


def test_spec_defaults_are_shown() -> None:
    defaults = {path: schema["default"] for path, schema in nodes(SCHEMA["properties"]["spec"]) if "default" in schema}
    assert defaults[".mode"] == "Canary"
    assert defaults[".paused"] is False
    assert defaults[".limits"] == {}
    assert defaults[".limits.deadlineMilliseconds"] == 1000
    assert ".weights" not in defaults, "a default would give one manager every weight"


def test_names_and_columns() -> None:
    names = CRD["spec"]["names"]
    assert (names["shortNames"], names["categories"]) == (["sm"], ["kingmaker"])
    assert VERSION["subresources"] == {"status": {}}
    narrow = [column["name"] for column in VERSION["additionalPrinterColumns"] if not column.get("priority")]
    assert narrow == ["Mode", "Phase", "Champion", "Weights", "Ready", "Age"]
