import os
import subprocess
import sys

import pytest

from kingmaker_servicekit import scheduling


@pytest.mark.parametrize(("kind", "policy"), [("normal", os.SCHED_OTHER), ("batch", os.SCHED_BATCH)])
def test_the_system_knows_how_a_process_wants_its_turns(kind: str, policy: int) -> None:
    code = f"import os; from kingmaker_servicekit import scheduling; scheduling.apply({kind!r})"
    code += "; print(os.sched_getscheduler(0))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) == policy


def test_a_system_without_it_is_named_and_not_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "SCHED_BATCH")
    with pytest.raises(ValueError, match="SCHEDULING is batch, which this system refuses"):
        scheduling.apply("batch")
