"""Ctrl-C before everything is up ends `kingmaker up` as quietly as afterwards."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CALL = """
import signal, sys
from kingmaker import cli, resource_file
from kingmaker.local.stack import Stack

where, name = sys.argv.pop(), sys.argv.pop()

def interrupt(*_):
    signal.raise_signal(getattr(signal, name))

if where == "reading":
    resource_file.load = interrupt
else:
    Stack._wait_for_children = interrupt
cli.main()
"""


@pytest.mark.parametrize("where", ["reading", "starting"])
@pytest.mark.parametrize("signal", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_interrupted_start_says_so_and_nothing_else(where: str, signal: str, tmp_path: Path, resource: str) -> None:
    file = tmp_path / "model.yaml"
    file.write_text(resource)
    env = os.environ | {"XDG_STATE_HOME": str(tmp_path / "state")}
    command = [sys.executable, "-c", CALL, "up", str(file), signal, where]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1:], done.stderr) == (0, ["stopped"], "")
