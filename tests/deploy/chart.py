"""The chart as tests ask for it: rendered by a real Helm, as plain objects."""

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/kingmaker"
RELEASE, NAMESPACE = "km", "shop"
Object = dict[str, Any]
Values = dict[str, Any]

HELMS = (pytest.param("helm 3", marks=pytest.mark.slow), "helm 4")
"""For tests of what both say; Helm 4 alone is asked in the fast ones, for there are hundreds of questions."""
GATEWAY_API = ("gateway.networking.k8s.io/v1/HTTPRoute",)
PROMETHEUS_OPERATOR = ("monitoring.coreos.com/v1/ServiceMonitor", "monitoring.coreos.com/v1/PrometheusRule")


@cache
def _helms() -> dict[str, Path]:
    found = subprocess.run([ROOT / "scripts/helm"], capture_output=True, text=True, check=True)
    four, three = found.stdout.split()
    return {"helm 4": Path(four), "helm 3": Path(three)}


class Refused(Exception):
    """Helm said no; the text is what it said."""


def helm(*arguments: str | Path, version: str = "helm 4", stdin: str = "") -> str:
    """Standard output. Raises Refused."""
    command = [_helms()[version], *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise Refused(done.stderr)
    return done.stdout


def render(
    values: Values | None = None, *, apis: tuple[str, ...] = (), version: str = "helm 4", more: tuple[str, ...] = ()
) -> list[Object]:
    """Every object of a release, hooks too. apis: what the cluster knows beside the built-in kinds."""
    return list(_rendered(json.dumps(values or {}), apis, version, more))


def text(values: str, apis: tuple[str, ...] = (), version: str = "helm 4", more: tuple[str, ...] = ()) -> str:
    flags = [f"--api-versions={api}" for api in apis]
    return helm(
        "template", RELEASE, CHART, "--namespace", NAMESPACE, "--values", "-", *flags, *more,
        version=version, stdin=values,
    )  # fmt: skip


@cache
def _rendered(values: str, apis: tuple[str, ...], version: str, more: tuple[str, ...]) -> tuple[Object, ...]:
    rendered = text(values, apis, version, more)
    return tuple(item for item in yaml.load_all(rendered, yaml.CSafeLoader) if item)


def one(objects: list[Object], kind: str, name: str) -> Object:
    [found] = [item for item in objects if item["kind"] == kind and item["metadata"]["name"] == f"{RELEASE}-{name}"]
    return found


def pods(objects: list[Object]) -> dict[str, Object]:
    """Every pod's spec by the name of what makes it."""
    found = {}
    for item in objects:
        if item["kind"] in ("Deployment", "StatefulSet"):
            found[item["metadata"]["name"]] = item["spec"]["template"]["spec"]
        elif item["kind"] == "Pod":
            found[item["metadata"]["name"]] = item["spec"]
    return found


def environment(pod: Object) -> dict[str, str]:
    """Of the first container; what comes from a field of the pod is left out."""
    return {item["name"]: item["value"] for item in pod["containers"][0].get("env", []) if "value" in item}


def defaults() -> Values:
    return dict(yaml.safe_load((CHART / "values.yaml").read_text()))
