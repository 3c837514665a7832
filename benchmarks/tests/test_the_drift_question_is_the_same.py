"""What the monitor's side of the benchmark measures is what a monitor does, and it finds what was put in."""

import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from benchmarks import monitor_drift, monitor_load
from benchmarks.sections import monitoring
from kingmaker_contracts.profile import sha256_of
from kingmaker_contracts.wire import write_json


def test_the_shifted_features_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dice = np.random.default_rng(2)
    live = dice.normal(size=(30_000, 6)).astype(np.float32)
    live[:, :2] += 0.5
    np.save(tmp_path / monitor_drift.REFERENCE, dice.normal(size=(20_000, 6)).astype(np.float32))
    live.tofile(tmp_path / monitor_drift.LIVE)
    monkeypatch.setattr(sys, "argv", ["monitor_drift", str(tmp_path)])
    monitor_drift.main()
    assert msgspec.json.decode(capsys.readouterr().out)["drifted"] == 2


def test_rounds_give_every_row_once(tmp_path: Path) -> None:
    live = np.random.default_rng(1).normal(size=(monitor_drift.ROUND + 7, 3)).astype(np.float32)
    live.tofile(tmp_path / monitor_drift.LIVE)
    blocks = list(monitor_drift.rounds(tmp_path / monitor_drift.LIVE, 3))
    assert [block.shape for block in blocks] == [(3, monitor_drift.ROUND), (3, 7)]
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), live.T)


@pytest.mark.parametrize(
    ("took", "left_s", "rows"),
    [
        ({}, 1, 1_000_000),
        ({10_000: 10}, 31, 1_000_000),
        ({10_000: 10}, 29, 0),
        ({10_000: 6, 100_000: 8}, 40, 1_000_000),  # 28 s, and two fifths more
        ({10_000: 6, 100_000: 8}, 38, 900_000),
        ({10_000: 6, 100_000: 8}, 10, 0),
        ({10_000: 60, 100_000: 8}, 12, 1_000_000),  # a start that was slow for another reason
    ],
)
def test_no_question_is_asked_that_the_time_does_not_allow(took: dict[int, float], left_s: float, rows: int) -> None:
    assert monitoring.fitting(1_000_000, took, left_s) == rows


def test_segments_and_other_bins_are_counted_in_their_rates(tmp_path: Path) -> None:
    raw = write_json(monitor_load.profile_of(monitor_load.FEATURES))
    now_ms = round(time.time() * 1000)
    rates = monitor_load.dearer_rates(tmp_path, monitor_load.entries(1000, sha256_of(raw), now_ms), raw, now_ms)
    assert all(rate > 0 for rate in rates.values())
    assert len(rates) == 2


def test_every_row_of_the_load_is_counted(tmp_path: Path) -> None:
    raw = write_json(monitor_load.profile_of(monitor_load.FEATURES))
    made = monitor_load.entries(1000, sha256_of(raw), 1_790_000_000_000)
    _, store = monitor_load.ingest(tmp_path, made, raw, 1_790_000_000_000)
    assert store.sql.execute("SELECT count(*) FROM predictions").fetchone() == (1000,)
    store.close()
