"""What the monitor's side of the benchmark measures is what a monitor does, and it finds what was put in."""

import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from benchmarks import monitor_drift, monitor_load
from kingmaker_contracts.profile import sha256_of
from kingmaker_contracts.wire import write_json


def test_the_shifted_features_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dice = np.random.default_rng(2)
    live = dice.normal(size=(30_000, 6)).astype(np.float32)
    live[:, :2] += 0.5
    np.savez(tmp_path / "rows.npz", reference=dice.normal(size=(20_000, 6)).astype(np.float32), live=live)
    monkeypatch.setattr(sys, "argv", ["monitor_drift", str(tmp_path / "rows.npz")])
    monitor_drift.main()
    assert msgspec.json.decode(capsys.readouterr().out)["drifted"] == 2


def test_every_row_of_the_load_is_counted(tmp_path: Path) -> None:
    raw = write_json(monitor_load.profile_of(monitor_load.FEATURES))
    made = monitor_load.entries(1000, sha256_of(raw), 1_790_000_000_000)
    _, store = monitor_load.ingest(tmp_path, made, raw, 1_790_000_000_000)
    assert store.sql.execute("SELECT count(*) FROM predictions").fetchone() == (1000,)
    store.close()
