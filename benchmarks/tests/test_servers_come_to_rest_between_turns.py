"""What a stack still works off after its load has gone is not charged to the next one."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from benchmarks import load
from benchmarks.lab import Server, wait_for_rest
from benchmarks.load import BadLoad, Counted, Generator, Target
from benchmarks.tools import Tool

Start = Callable[[str], Server]


@pytest.fixture
def start() -> Iterator[Start]:
    """A Python process that runs the code and then sleeps."""
    with ExitStack() as ended:

        def run(code: str) -> Server:
            program = f"import time\nprint(flush=True)\n{code}\ntime.sleep(60)"
            process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
            ended.enter_context(process)
            ended.callback(process.kill)
            assert process.stdout is not None
            process.stdout.readline()
            return Server("busy", process, port=0, started=0.0)

        yield run


def test_a_server_that_works_off_its_queue_is_waited_for(start: Start, tmp_path: Path) -> None:
    done = tmp_path / "done"
    server = start(f"while time.process_time() < 0.5: pass\nopen({str(done)!r}, 'w').close()")
    assert wait_for_rest([server], 60)
    assert done.exists() and server.cpu_s() > 0.5


def test_a_server_that_never_rests_is_told_apart(start: Start) -> None:
    assert not wait_for_rest([start("while True: pass")], 0.3)


def test_a_server_that_waits_for_a_core_is_not_at_rest(start: Start) -> None:
    servers = [start(code) for code in ("import os\nos.nice(19)\nwhile True: pass", "while True: pass")]
    for server in servers:
        os.sched_setaffinity(server.process.pid, {min(os.sched_getaffinity(0))})
    assert not wait_for_rest(servers[:1], 1)


def test_the_next_load_waits_for_rest(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "_REST_S", 0.3)
    wrk = tmp_path / "wrk"
    told = Counted(10, 1.0, 1.0, 1.0, 0, 0, 0, 0)
    wrk.write_text(f"#!/bin/sh\necho 'RESULT {msgspec.json.encode(told).decode()}'\n")
    wrk.chmod(0o755)
    generator = Generator(Tool("wrk", wrk, "1"), min(os.sched_getaffinity(0)))
    resting, busy = (Target("http://127.0.0.1:1", tmp_path, [start(code)]) for code in ("", "while True: pass"))
    assert generator.run(resting, 1, 1).requests == 10
    with pytest.raises(BadLoad, match="busy: still busy"):
        generator.run(busy, 1, 1)


def test_processor_time_is_told_in_more_than_hundredths_of_a_second(start: Start) -> None:
    server = start("")
    assert wait_for_rest([server], 60)
    spent = server.cpu_s()
    assert spent > 0 and round(spent, 2) != spent
