"""What a stack still works off after its load has gone is not charged to the next one."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from benchmarks.lab import Server, wait_for_rest

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


def test_processor_time_is_told_in_more_than_hundredths_of_a_second(start: Start) -> None:
    server = start("")
    assert wait_for_rest([server], 60)
    spent = server.cpu_s()
    assert spent > 0 and round(spent, 2) != spent
