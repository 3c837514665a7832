"""Numbers that several test processes want are each given to one of them, and come back when it ends."""

import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from conftest import take_free_port
from tests.claims import claim

ROOT = Path(__file__).parents[2]
CLAIM = "import sys; from tests.claims import claim; print(claim(sys.argv[1], range(2)), flush=True); input()"


def start(what: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", CLAIM, what]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def told(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_number_is_one_process_s_until_it_ends() -> None:
    what = uuid.uuid4().hex  # other runs have this test too
    with start(what) as first, start(what) as second:
        number = told(first)
        assert {number, told(second)} == {"0", "1"}
        with pytest.raises(RuntimeError, match=f"every number of {what}"):
            claim(what, range(2))
        first.kill()
        first.wait(20)
        with start(what) as third:
            assert told(third) == number
            third.kill()
        second.kill()


def test_ports_in_a_row_overlap_no_other() -> None:
    rows = [range(first, first + 7) for first in (take_free_port(row=7) for _ in range(10))]
    assert len({port for row in rows for port in row}) == 70
