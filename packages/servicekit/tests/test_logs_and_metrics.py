"""Logs carry their fields, and the second port tells metrics and health."""

import json
import logging

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from kingmaker_servicekit import logs, metrics_endpoint
from kingmaker_servicekit.quick_metrics import QuickCounter, QuickHistogram, QuickTotal


def test_a_json_log_line_carries_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "json")
    logging.getLogger("x").warning("weights unreadable", extra={"age_s": 3})
    line = json.loads(capsys.readouterr().err)
    assert (line["level"], line["event"], line["age_s"]) == ("warning", "weights unreadable", 3)


def test_a_text_log_line_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "text")
    logging.getLogger("x").info("listening", extra={"address": "127.0.0.1:1"})
    assert capsys.readouterr().err.rstrip().endswith("INFO    listening  address=127.0.0.1:1")


async def test_the_second_port_tells_metrics_and_readiness() -> None:
    registry = metrics_endpoint.new_registry()
    Counter("things", "Things.", registry=registry).inc(3)
    state = {"ready": False}
    transport = httpx.ASGITransport(metrics_endpoint.build(registry, lambda: state["ready"]))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        assert "things_total 3.0" in (await client.get("/metrics")).text
        assert (await client.get("/health/live")).status_code == 200
        assert (await client.get("/health/ready")).status_code == 503
        state["ready"] = True
        assert (await client.get("/health/ready")).json() == {"ready": True}


def samples(registry: CollectorRegistry) -> set[tuple[str, str, float]]:
    text = generate_latest(registry).decode()
    families = text_string_to_metric_families(text)
    return {
        (s.name, str(sorted(s.labels.items())), s.value)
        for f in families
        for s in f.samples
        if not s.name.endswith("_created")
    }


def test_quick_metrics_say_what_prometheus_own_would() -> None:
    quick, slow = CollectorRegistry(), CollectorRegistry()
    bounds = (0.1, 0.5, 1.0)
    requests, total = QuickCounter("r", "R.", "code", ["200", "400"], quick), QuickTotal("rows", "Rows.", quick)
    seconds = QuickHistogram("s_seconds", "S.", bounds, quick)
    requests_there = Counter("r", "R.", ["code"], registry=slow)
    requests_there.labels("200"), requests_there.labels("400")
    total_there = Counter("rows", "Rows.", registry=slow)
    seconds_there = Histogram("s_seconds", "S.", buckets=bounds, registry=slow)
    for amount, duration in ((1, 0.05), (2, 0.1), (3, 0.7), (4, 9.0)):
        requests.of["200"].inc(amount)
        requests_there.labels("200").inc(amount)
        total.inc(amount)
        total_there.inc(amount)
        seconds.observe(duration)
        seconds_there.observe(duration)
    assert samples(quick) == samples(slow)
