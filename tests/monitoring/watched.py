"""What rules, dashboard and runbooks ask Prometheus for, as text and as the metrics and labels in it."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
RUNBOOKS = ROOT / "docs" / "runbooks"
RULES = sorted((MONITORING / "rules").glob("*.yaml"))
RULE_TESTS = sorted((MONITORING / "tests").glob("*.yaml"))
DASHBOARD = MONITORING / "dashboards" / "kingmaker.json"

_SERIES = re.compile(r"((?:namespace_model:)?kingmaker_[a-z0-9_:]*[a-z0-9])(\{[^{}]*\})?")
_MATCHER = re.compile(r'([a-z_]+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
_GROUPING = re.compile(r"\b(?:by|on|without|ignoring)\s*\(([^()]*)\)")


@dataclass(frozen=True)
class Series:
    """One metric as an expression names it. matchers: label, operator, value."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Expression:
    """where: for a failing test's message."""

    where: str
    text: str
    series: tuple[Series, ...] = field(init=False)
    grouping: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        found = [Series(name, tuple(_MATCHER.findall(braces))) for name, braces in _SERIES.findall(self.text)]
        object.__setattr__(self, "series", tuple(found))
        labels = {label.strip() for part in _GROUPING.findall(self.text) for label in part.split(",")}
        object.__setattr__(self, "grouping", frozenset(labels - {""}))


def groups(file: Path) -> list[dict[str, Any]]:
    read: dict[str, Any] = YAML(typ="safe").load(file.read_text())
    found: list[dict[str, Any]] = read["groups"]
    return found


def rules() -> list[dict[str, Any]]:
    return [rule for file in RULES for group in groups(file) for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def records() -> dict[str, str]:
    return {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def expressions() -> Iterator[Expression]:
    """Every query of rules, dashboard and runbooks; the dashboard's variables filled in."""
    for rule in rules():
        yield Expression(str(rule.get("alert") or rule["record"]), rule["expr"])
    for panel in panels():
        for target in panel.get("targets", []):
            yield Expression(f"panel {panel['title']}", target["expr"].replace("$__rate_interval", "5m"))
    for file in sorted(RUNBOOKS.glob("*.md")):
        for at, query in enumerate(re.findall(r"```promql\n(.*?)\n```", file.read_text(), re.DOTALL), 1):
            yield Expression(f"{file.name}, query {at}", query)
