"""values.yaml, its schema and the copies inside the chart come from one definition, and the schema lets nothing through
that nobody reads."""

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml

from deploy.helm.definition import __main__ as definition
from deploy.helm.definition import schema, values
from kingmaker_contracts import crd, served_model
from tests.deploy import chart
from tests.deploy.chart import CHART, HELMS, ROOT, Refused, Values, render
from tests.deploy.chart_cases import CASES, CHAMPION

SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def nodes(part: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, part
    for name, below in part.get("properties", {}).items():
        yield from nodes(below, f"{path}.{name}")
    for below in part.get("patternProperties", {}).values():
        yield from nodes(below, f"{path}[]")
    for key in ("items", "additionalProperties"):
        if isinstance(part.get(key), dict):
            yield from nodes(part[key], f"{path}[]")


def test_everything_written_is_current() -> None:
    assert not definition.stale(), "run make chart"


def test_the_crd_is_in_the_chart_as_it_is_beside_it() -> None:
    copies = {file.name: file.read_text() for file in (CHART / "crds").iterdir()}
    assert copies == {file.name: file.read_text() for file in (ROOT / "deploy/k8s/crd").glob("*.yaml")}


def test_no_object_takes_fields_nobody_named() -> None:
    loose = [
        path
        for path, part in nodes(SCHEMA)
        if part.get("type") == "object" and part.get("additionalProperties") in (None, True) and path != ".global"
    ]
    assert not loose


def test_every_value_says_what_it_is() -> None:
    bare = [
        path
        for path, part in nodes(schema.of_values(values.Values))
        if not part.get("description")
        and path
        and "[]" not in path
        and not re.match(r"\.models|.*\.(settings|affinity|resources)\.", path)
    ]
    assert not bare


def test_the_values_of_the_chart_are_the_definition_s_defaults() -> None:
    given = yaml.safe_load((CHART / "values.yaml").read_text())
    assert given == values.Values().model_dump(mode="json", by_alias=True)
    jsonschema.Draft7Validator(SCHEMA).validate(given)


def test_a_served_model_s_part_is_the_crd_s_own_schema() -> None:
    part = SCHEMA["properties"]["models"]["patternProperties"].popitem()[1]
    assert part == schema.served_model_spec()
    assert part["properties"].keys() == crd.spec_schema()["properties"].keys()


@pytest.mark.parametrize("case", [name for name in CASES if "models" in CASES[name].values])
def test_models_a_cluster_takes_are_taken(case: str) -> None:
    for name, spec in CASES[case].values["models"].items():
        head = {"apiVersion": served_model.API_VERSION, "kind": served_model.KIND, "metadata": {"name": name}}
        assert served_model.parse({**head, "spec": spec})


TYPOS: dict[str, tuple[Values, str, str]] = {
    "a part": ({"gatway": {}}, "gatway", ""),
    "a field": ({"redis": {"acl": {"enabeld": True}}}, "enabeld", "redis/acl"),
    "a setting of a service": ({"gateway": {"settings": {"FLUSHMS": 1}}}, "FLUSHMS", "gateway/settings"),
    "a setting the chart decides": ({"gateway": {"settings": {"PORT": 1}}}, "PORT", "gateway/settings"),
    "a field of a model": (
        {"models": {"m": {"champion": {"name": "a", "model": "models:/m/1"}, "wieghts": {}}}}, "wieghts", "models/m"),
    "a toleration": ({"monitor": {"tolerations": [{"keey": "x"}]}}, "keey", "monitor/tolerations/0"),
    "an affinity": ({"redis": {"affinity": {"podAffinty": {}}}}, "podAffinty", "redis/affinity"),
    "a peer": ({"networkPolicy": {"clients": [{"ipblock": {}}]}}, "ipblock", "networkPolicy/clients/0"),
    "a resource": ({"gateway": {"resources": {"limit": {}}}}, "limit", "gateway/resources"),
    "a route's Gateway": (
        {"httpRoute": {"parentRefs": [{"nmae": "x", "name": "y"}]}}, "nmae", "httpRoute/parentRefs/0"),
}  # fmt: skip


@pytest.mark.parametrize("version", HELMS)
@pytest.mark.parametrize("typo", TYPOS)
def test_a_typo_is_an_error_that_names_its_place(typo: str, version: str) -> None:
    values, name, place = TYPOS[typo]
    with pytest.raises(Refused) as refused:
        render(values, version=version)
    said = str(refused.value)
    assert name in said
    assert place in said or place.replace("/", ".") in said, "Helm 4 writes a/b, Helm 3 a.b"


WRONG: dict[str, tuple[Values, str]] = {
    "text for a number": ({"gateway": {"replicas": "three"}}, "replicas"),
    "no gateway at all": ({"gateway": {"replicas": 0}}, "replicas"),
    "a setting out of range": ({"gateway": {"settings": {"PARTITION": 256}}}, "PARTITION"),
    "a port out of range": ({"gateway": {"service": {"port": 70000}}}, "port"),
    "a Service of a kind there is not": ({"gateway": {"service": {"type": "Internal"}}}, "type"),
    "a size without a unit Kubernetes knows": ({"redis": {"persistence": {"size": "8GB"}}}, "size"),
    "a memory without a unit Redis knows": ({"redis": {"maxMemory": "1Gi"}}, "maxMemory"),
    "a digest that is none": ({"gateway": {"image": {"digest": "latest"}}}, "digest"),
    "an address that is no Redis": ({"externalRedis": {"url": "http://redis"}}, "url"),
    "a registry without http": ({"registry": {"uri": "sqlite:///mlflow.db"}}, "uri"),
    "a registry's password in the open": ({"registry": {"uri": "https://me:secret@mlflow"}}, "uri"),
    "a weight over 100": (
        {"models": {"m": {"champion": {"name": "a", "model": "models:/m/1"}, "weights": {"b": 101}}}}, "weights"),
    "a model without a champion": ({"models": {"m": {}}}, "champion"),
    "a model's name no Kubernetes takes": ({"models": {"M_1": {"champion": CHAMPION}}}, "models"),
    "a model's name that is too long": ({"models": {"m" * 64: {"champion": CHAMPION}}}, "models"),
}  # fmt: skip


@pytest.mark.parametrize("version", HELMS)
@pytest.mark.parametrize("wrong", WRONG)
def test_a_value_that_cannot_be_is_an_error_that_names_it(wrong: str, version: str) -> None:
    values, name = WRONG[wrong]
    with pytest.raises(Refused) as refused:
        render(values, version=version)
    assert name in str(refused.value)


def test_helm_s_own_global_values_are_let_through() -> None:
    assert render({"global": {"anything": {"at": "all"}}}) and chart.defaults().get("global") is None
