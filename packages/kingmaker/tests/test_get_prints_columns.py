"""`kingmaker get` prints what `kubectl get` would: columns that a person and awk can read."""

from datetime import UTC, datetime

from kingmaker.cli.get import _columns
from kingmaker.controller_api import ModelView
from kingmaker_contracts import wire
from kingmaker_contracts.status import Status
from tests.contracts import samples


def test_columns_are_aligned_and_never_wrapped() -> None:
    status = wire.read_json(wire.write_json(samples.STATUS), Status)
    views = [
        ModelView("default", "flights", "Canary", "2026-11-21T01:00:00Z", status),
        ModelView("default", "a-model-with-a-longer-name", "Shadow", "2026-11-21T00:00:00Z", Status(message="x " * 90)),
    ]
    lines = _columns(views, datetime(2026, 11, 21, 1, 30, tzinfo=UTC)).splitlines()
    assert len(lines) == 3
    assert lines[0].split() == ["NAME", "MODE", "PHASE", "CHAMPION", "WEIGHTS", "READY", "AGE", "MESSAGE"]
    assert lines[1].split(maxsplit=7)[:5] == ["flights", "Canary", "Progressing", "lr", "lr=80,gbm=20"]
    assert lines[1].endswith("gbm serves 20 % beside champion lr")
    assert "Unknown" in lines[1]
    assert "30m" in lines[1]
    assert all(line[lines[0].index("PHASE") - 1] == " " for line in lines)
