"""Logs carry their fields, and the second port tells metrics and health."""

import json
import logging

import httpx
import pytest
from prometheus_client import Counter

from kingmaker_servicekit import logs, metrics_endpoint


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
