"""Queries of rules, dashboard and runbooks against what a whole running stack exports."""

import json
from typing import Any

import httpx
import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families

from kingmaker_contracts import keys
from tests.integration.running_stack import ROW, RunningStack, eventually
from tests.monitoring import watched

pytestmark = pytest.mark.slow
ONLY_ON_KUBERNETES = {"kingmaker_controller_kubernetes_requests_total"}
NOT_YET = {
    "kingmaker_controller_variant_restarts_total",
    "kingmaker_gateway_rejected_total",
    "kingmaker_monitor_quality_mae",
    "kingmaker_monitor_quality_rmse",
}
"""No child has died, no request was refused, and these models are no regressions: no sample can show labels."""
_SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


def scraped(addresses: list[str]) -> tuple[set[str], dict[str, set[str]]]:
    """Names of all series, and labels of those that have a sample."""
    names: set[str] = set()
    labels: dict[str, set[str]] = {}
    for address in addresses:
        text = httpx.get(f"{address}/metrics", timeout=10).raise_for_status().text
        for family in text_string_to_metric_families(text):
            names |= {family.name + suffix for suffix in _SUFFIXES.get(family.type, ())}
            for sample in family.samples:
                labels.setdefault(sample.name, set()).update(sample.labels)
    return names, labels


def is_judged(windows: dict[str, Any]) -> bool:
    """Some variant has rows enough for a verdict against each reference."""
    tables = [table for found in windows.values() for table in found.get("1h", {"drift": {}})["drift"].items()]
    return {against for against, table in tables if table["drifted_share"] is not None} == {"training", "champion"}


def test_every_metric_and_label_of_a_query_comes_out_of_a_running_service(stack: RunningStack) -> None:
    for _ in range(8):
        answer = stack.client.post("/v1/models/loans:predict", json={"instances": [ROW] * 200})
        id = answer.headers["x-prediction-id"]
        labels_of_it = [{"prediction_id": f"{id}.{row}", "label": row % 2} for row in range(200)]
        assert stack.client.post("/v1/models/loans/feedback", json=labels_of_it).status_code == 202
    eventually(lambda: any(v["quality"]["n"] for v in stack.evidence()["variants"].values()), 60)
    eventually(lambda: is_judged(stack.evidence()["windows"]), 60)
    record = json.loads(redis.Redis.from_url(stack.addresses["redis"]).get(keys.routing("default", "loans")) or b"")
    servers = [f"http://{endpoint}" for variant in record["variants"] for endpoint in variant["endpoints"]]
    services = [stack.addresses[name] for name in ("gateway_admin", "monitor", "controller")]
    names, labels = scraped([*services, *servers])
    for expression in watched.expressions():
        for series in expression.series:
            if series.metric in watched.records() or series.metric in ONLY_ON_KUBERNETES:
                continue
            assert series.metric in names, f"{expression.where}: nobody exports {series.metric}"
            if series.metric not in NOT_YET:
                used = {label for label, _, _ in series.matchers} - {"namespace", "pod"}
                assert used <= labels.get(series.metric, set()), f"{expression.where}: {series.metric} has no {used}"
