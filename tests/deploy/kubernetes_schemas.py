"""Whether an object is one of Kubernetes: its own schemas, strict, of several versions. Read once, unlike by the
library they come from, which takes a second an object."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
from jsonschema.protocols import Validator
from jsonschema.validators import Draft202012Validator
from referencing import Registry, Resource

from tests.deploy.chart import Object

VERSIONS = ("1.30.0", "1.33.0", "1.37.0")
_FOLDER = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"


@cache
def _definitions(version: str) -> "Registry[Any]":
    raw = json.loads((_FOLDER / f"v{version}-local-strict/_definitions.json").read_text())
    return Resource.from_contents(raw) @ Registry()


@cache
def _validator(version: str, kind: str, api_version: str) -> Validator:
    group, _, number = api_version.rpartition("/")
    file = "-".join(filter(None, (kind.lower(), group.partition(".")[0], number)))
    schema = json.loads((_FOLDER / f"v{version}-local-strict/{file}.json").read_text())
    return Draft202012Validator(schema, registry=Resource.from_contents(schema) @ _definitions(version))


def faults(item: Object, version: str) -> tuple[str, ...]:
    """Every fault with its path. Raises FileNotFoundError for a kind this version does not have."""
    return _faults(json.dumps(item, sort_keys=True), version)


@cache
def _faults(text: str, version: str) -> tuple[str, ...]:
    """Most objects are the same for most values."""
    return tuple(_found(json.loads(text), version))


def _found(item: Object, version: str) -> Iterator[str]:
    for error in _validator(version, item["kind"], item["apiVersion"]).iter_errors(item):
        path = ".".join(map(str, error.absolute_path))
        yield f"{version} {item['kind']}/{item['metadata']['name']} {path}: {error.message}"
