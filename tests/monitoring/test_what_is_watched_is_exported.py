"""A query for a metric that nobody exports is silence that looks like health."""

import re
import subprocess
import sys

import pytest

from tests.monitoring import watched
from tests.monitoring.exported import Exported, everything
from tests.monitoring.watched import ROOT, Expression

FROM_PROMETHEUS = {"namespace", "pod", "instance", "job"}
"""Labels that service discovery gives every series."""
CLOSED = {"window", "against", "type", "reason", "stream", "le"}
"""Labels whose values a query may not invent."""
EXPRESSIONS = list(watched.expressions())


@pytest.fixture(scope="module")
def exported() -> Exported:
    return everything()


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=lambda e: e.where)
def test_every_metric_and_label_of_a_query_is_exported(expression: Expression, exported: Exported) -> None:
    available = set(FROM_PROMETHEUS)
    for series in expression.series:
        if series.metric in watched.records():
            available |= {"namespace", "model"}
            continue
        assert series.metric in exported.labels, f"{expression.where}: no service exports {series.metric}"
        labels = exported.labels[series.metric] | FROM_PROMETHEUS
        available |= labels
        for label, operator, value in series.matchers:
            assert label in labels, f"{expression.where}: {series.metric} has no label {label}"
            if label in CLOSED:
                known = exported.values[series.metric, label]
                for wanted in value.split("|") if "~" in operator else [value]:
                    assert wanted in known, f"{expression.where}: {label} of {series.metric} is never {wanted}"
    assert expression.grouping <= available, f"{expression.where}: no series has {expression.grouping - available}"


def test_the_check_sees_what_is_wrong(exported: Exported) -> None:
    for text in (
        "kingmaker_gateway_request_total",
        'kingmaker_gateway_requests_total{status="500"}',
        "sum by (colour) (kingmaker_gateway_requests_total)",
        'kingmaker_controller_condition{type="Programed"}',
        'kingmaker_gateway_request_duration_seconds_bucket{le="0.2"}',
    ):
        with pytest.raises(AssertionError):
            test_every_metric_and_label_of_a_query_is_exported(Expression("a typo", text), exported)


def test_every_expression_names_a_metric_of_ours() -> None:
    nameless = [e.where for e in EXPRESSIONS if not e.series]
    assert nameless == ["panel Alerts"]
    assert len(EXPRESSIONS) > 130


def test_the_dashboard_is_what_its_script_says() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "dashboard", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_dashboard_has_its_rows_and_no_panel_over_another() -> None:
    panels = watched.panels()
    rows = " ".join(panel["title"].lower() for panel in panels if panel["type"] == "row")
    for topic in ("traffic", "errors", "latency", "fallback", "shadow", "drift", "quality", "events", "controller"):
        assert topic in rows
    taken: dict[tuple[int, int], str] = {}
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                assert (x, y) not in taken, f"{panel['title']} covers {taken[x, y]}"
                taken[x, y] = panel["title"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    legends = " ".join(t["legendFormat"] for panel in panels for t in panel.get("targets", []))
    assert set(re.findall(r"{{(\w+)}}", legends)) <= {
        *FROM_PROMETHEUS, "model", "variant", "code", "window", "against", "feature",
        "outcome", "stream", "phase", "type", "verb", "resource", "alertname",
    }  # fmt: skip
