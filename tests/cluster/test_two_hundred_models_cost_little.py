"""200 ServedModels with 3 variants each: what the controller takes of memory, CPU and the API server, and how fast an
edit still is. Pods are pretended; what they say of themselves comes from one small server on all their addresses."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cluster.pretended import Answers
from tests.cluster.stage import Stage

MODELS, CHALLENGERS = 200, 2
QUIET_S = 60
KINDS_WATCHED = 7


@pytest.fixture
def crowd(tmp_path: Path, new_stage: Any) -> Iterator[Any]:
    answers = Answers()
    with new_stage(tmp_path, runner=answers) as built:
        yield built
    answers.close()


@pytest.mark.slow
@pytest.mark.fake_only("pods are pretended, and requests are counted")
@pytest.mark.timeout(560)
def test_two_hundred_models_with_three_variants_each(crowd: Any, record_property: Any) -> None:
    stage = crowd
    spec = {
        "champion": {"name": "lr", "model": "models:/flights/1"},
        "challengers": [{"name": f"c{i}", "model": f"models:/flights/{i + 2}"} for i in range(CHALLENGERS)],
        "weights": {"c0": 10, "c1": 5},
    }
    for i in range(MODELS):
        assert stage.create(spec, f"m{i:03}").status_code == 201
    began = time.monotonic()
    process = psutil.Process(stage.controller().pid)
    store = stage.fake.server.cluster.store

    def settled() -> bool:
        items = store.all("servedmodels.kingmaker.dev")
        told = [item["status"]["summary"]["weights"] for item in items if item.get("status", {}).get("summary")]
        return told == ["lr=85,c0=10,c1=5"] * MODELS

    stage.until(settled, "every challenger has its weight", 400)
    figures = {"settled_s": time.monotonic() - began, "settle_cpu_s": cpu(process)}
    figures["settle_requests"] = len(stage.fake.server.faults.requests)

    # Events are sent one after another, some ten a model: what comes before the last of them is not quiet yet
    stage.until(lambda: is_told(stage), "every Event was sent", 180)
    figures["told_s"] = time.monotonic() - began
    before, cpu_before, at = len(seen(stage)), cpu(process), time.monotonic()
    time.sleep(QUIET_S)  # what takes place when nothing does: measured, not waited for
    quiet_s = time.monotonic() - at
    quiet = seen(stage)[before:]
    figures["quiet_requests_per_minute"] = len(quiet) * 60 / quiet_s
    figures["quiet_cpu_percent"] = (cpu(process) - cpu_before) * 100 / quiet_s

    took = []
    for i in range(20):
        name, weight = f"m{i * 7:03}", 20 + i
        patched = time.monotonic()
        stage.patch({"weights": {"c0": weight}}, name)
        stage.until(lambda name=name, weight=weight: weight_of(stage, name) == weight, "the edit is in Redis", 20)
        took.append(time.monotonic() - patched)
    figures |= {
        "edit_median_s": sorted(took)[10],
        "edit_worst_s": max(took),
        "rss_mb": process.memory_info().rss / 2**20,
    }
    for name, value in figures.items():
        record_property(name, round(value, 3))
    print({name: round(value, 3) for name, value in figures.items()})  # noqa: T201 - the figures are the purpose

    kinds = Counter(f"{r.verb} {r.path.rpartition('/namespaces/default/')[2].partition('/')[0]}" for r in quiet)
    renewals = kinds.pop("PUT leases", 0)
    assert renewals <= quiet_s, "the Lease is renewed every two seconds"
    assert all(kind.startswith("GET ") for kind in kinds), f"with nothing to do, nothing is written: {kinds}"
    assert sum(kinds.values()) <= 2 * KINDS_WATCHED, "a watch ends and begins again, and now and then there is a list"
    writes = [r for r in seen(stage) if r.verb == "PATCH" and r.path.endswith("/status")]
    assert len(writes) < 15 * MODELS


def is_told(stage: Stage) -> bool:
    """Whether no Event was sent for five seconds."""
    sent = [r.at for r in seen(stage) if r.verb == "POST" and r.path.endswith("/events")]
    return bool(sent) and time.monotonic() - max(sent) > 5


def seen(stage: Stage) -> list[Any]:
    return [request for request in stage.fake.server.faults.requests if "httpx" not in request.agent]


def cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def weight_of(stage: Stage, name: str) -> int:
    return next(v.weight for v in stage.record(name).variants if v.name == "c0")
