"""The demo, shortened, as a newcomer without a terminal would run it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _ctrl_c_is_heard() -> Iterator[None]:
    """Children inherit it when SIGINT is ignored, as under `nohup` or in the background of a script."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def demo(folder: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Running; killed in the end if it still does, so that a test that fails leaves none behind."""
    command = [sys.executable, "-m", "examples.flights.demo", "--folder", str(folder / "demo")]
    command += ["--report", str(folder / "summary.json"), *arguments]
    env = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    env |= {"XDG_STATE_HOME": str(folder / "state"), "TMPDIR": str(folder)}
    process = subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        process.kill()


def left_behind(folder: Path) -> list[str]:
    """Command lines of processes that still belong to the demo: by arguments, environment or working folder."""
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
            about = [line, process.cwd(), *process.environ().values()]
            if process.pid != os.getpid() and any(str(folder) in text for text in about):
                found.append(line)
        except psutil.Error:
            continue
    return [line for line in found if "pytest" not in line]


def check(summary: dict[str, Any], flights: int) -> None:
    assert (summary["flights_served"], summary["failed_requests"]) == (flights, 0)
    assert set(summary["variants"]) == {"lr", "gbm"}
    assert sum(one["requests"] for one in summary["variants"].values()) == flights
    for variant in summary["variants"].values():
        assert variant["errors"] == variant["fallbacks"] == 0
        assert 0 < variant["p50_ms"] <= variant["p99_ms"]
        assert variant["auc"] > 0.9
    # every flight's outcome was joined; the challenger's copies count for it as well
    lr, gbm = summary["variants"]["lr"], summary["variants"]["gbm"]
    assert lr["auc_n"] == lr["requests"]
    assert gbm["auc_n"] > gbm["requests"]
    # 10 % before the edit at half time, 30 % after it; how many flights pass meanwhile depends on the machine
    assert 0.11 < summary["variants"]["gbm"]["share"] < 0.29
    assert set(summary["drift"]) == {
        "dep_delay", "hour", "weekday", "distance", "carrier", "origin", "dest", "rg_origin", "rg_dest",
    }  # fmt: skip
    assert 0.9 < summary["agreement"] <= 1
    events = summary["events"]
    assert events["stored"] == events["sent"] > flights
    assert (events["dropped"], events["lost"]) == (0, 0)
    assert 0 <= summary["weight_change_s"] < 2


@pytest.mark.slow
def test_a_short_demo_works_in_every_part_and_leaves_nothing_running(tmp_path: Path) -> None:
    with demo(tmp_path, "--flights", "4000", "--exit") as process:
        output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    check(json.loads((tmp_path / "summary.json").read_text()), 4000)
    for part in ("gateway", "/docs", "monitor", "MLflow", "/metrics", "lr (champion)", "gbm (challenger)"):
        assert part in output
    assert left_behind(tmp_path) == []


@pytest.mark.slow
def test_the_whole_demo_serves_50_000_flights(tmp_path: Path) -> None:
    with demo(tmp_path, "--exit") as process:
        output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    check(json.loads((tmp_path / "summary.json").read_text()), 50_000)
    assert left_behind(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [1, 4, 8, 12, 16, 20, 26])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_demo_can_be_ended_at_any_moment(tmp_path: Path, seconds: int, number: int) -> None:
    with demo(tmp_path, "--flights", "50000", "--exit") as process:
        time.sleep(seconds)  # the moment is what this test is about
        assert process.poll() is None
        process.send_signal(number)
        process.wait(20)
    deadline = time.monotonic() + 20
    while left_behind(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left_behind(tmp_path) == []
