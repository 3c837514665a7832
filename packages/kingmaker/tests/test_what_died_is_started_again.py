"""A child that dies is started again with growing pauses, however often, and nothing of its last life is in the way."""

import os
import sys
import time
from pathlib import Path

from kingmaker.local.processes import Process
from kingmaker.local.stack import _Child


def test_one_that_died_a_thousand_times_is_still_started_again_after_the_longest_pause(tmp_path: Path) -> None:
    mortal = _Child(Process("mlflow", [sys.executable, "-c", ""], dict(os.environ), 0, ""), tmp_path / "log")
    mortal.process.wait(20)
    mortal.restarts = 1100  # nine hours of pauses
    said: list[str] = []
    before = time.monotonic()
    mortal.revive(said.append)
    assert said == [f"mlflow ended with code 0; starting it again in 30 s ({mortal.log})"]
    assert 29 < mortal.next_start - before < 60
