"""Samples and results to decide about, without measuring anything."""

from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.figures import Figure, Ratio, Row, Section
from benchmarks.load import Sample
from benchmarks.results import Results


@pytest.fixture
def sample() -> Callable[..., Sample]:
    def make(rate: float = 1000.0, p99: float = 2.0, **changes: Any) -> Sample:
        fields: dict[str, Any] = {
            "p50_ms": 1.0,
            "requests": 1000,
            "checked": 100,
            "wrong": 0,
            "failed": 0,
            "cpu_us": {"gateway": 10.0},
        }
        return Sample(requests_per_s=rate, p99_ms=p99, **{**fields, **changes})

    return make


@pytest.fixture
def results() -> Results:
    """A run with one part in it."""
    rate = Figure(1234.0, 1000.0, 1500.0, 5)
    row = Row("Kingmaker", "gb25", "64 connections", rate, rate, rate, rate, {"gateway": 12.0}, 100, 0, 0)
    other = Row("Kingmaker", "gb25", "1 connections", rate, rate, rate, None, {}, 100, 0, 0)
    section = Section(
        "end_to_end",
        rows=[row, other],
        ratios=[Ratio("e2e_vs_envoy_mlserver", "gb25", "64 connections", Figure(25.5, 24.0, 26.0, 5))],
        footprint=[{"server": "gateway", "rss_mb": 70.0, "ready_s": 1.5}],
        not_run={"KServe": "it was not there"},
    )
    return Results("2026-01-02", {"processor": "abacus"}, {"wrk": "4.1.0"}, [section], 60.0, {"hop": "no nginx"})
