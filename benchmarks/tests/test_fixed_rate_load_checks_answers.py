"""The open-loop client against a real server on loopback, and the parts it decides with."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import folders, lab, open_loop
from benchmarks.answers import CONSTANT
from conftest import not_run

BODY = '{"id":"1","inputs":[]}'


@pytest.fixture
def upstream(free_port: int) -> Iterator[str]:
    """The trivial upstream's address."""
    command = [sys.executable, "-m", "benchmarks.trivial_upstream", str(free_port), "m", "25"]
    process = subprocess.Popen(command, cwd=folders.REPOSITORY)
    deadline = time.monotonic() + 20
    try:
        while not lab._is_open(free_port):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        yield f"http://127.0.0.1:{free_port}/v2/models/m/infer"
    finally:
        process.kill()
        process.wait()


def test_right_answers_are_counted_as_answered(upstream: str) -> None:
    told = open_loop.ask(upstream, [BODY], [list(CONSTANT)], rate=2000, seconds=0.1)
    assert (told.answered, told.wrong, told.failed) == (200, 0, 0)
    assert 0 < told.p50_ms <= told.p99_ms


def test_wrong_answers_are_seen(upstream: str) -> None:
    told = open_loop.ask(upstream, [BODY, BODY], [list(CONSTANT), [0.5, 0.5]], rate=2000, seconds=0.05)
    assert (told.answered, told.wrong) == (100, 50)


def test_a_server_that_is_not_there_is_an_error(free_port: int) -> None:
    with pytest.raises(OSError, match="refused"):
        open_loop.ask(f"http://127.0.0.1:{free_port}/", [BODY], [[0.0, 1.0]], 100, 0.1)


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([], 0.99, 0.0), ([5.0], 0.5, 5.0), ([3.0, 1.0, 2.0], 0.5, 2.0), (list(map(float, range(1, 101))), 0.99, 99.0)],
)
def test_percentiles_are_values_that_occurred(values: list[float], share: float, expected: float) -> None:
    assert open_loop.percentile(values, share) == expected


def test_an_answer_is_whole_only_with_its_last_byte() -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"
    assert all(open_loop.split_answer(whole[:n]) is None for n in range(len(whole)))
    assert open_loop.split_answer(whole) == (200, b"body")


def test_an_answer_without_a_length_is_an_error() -> None:
    with pytest.raises(ValueError, match="without a length"):
        open_loop.split_answer(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")


@pytest.mark.parametrize(
    ("data", "right"),
    [("[0.25,0.75]", True), ("[[0.25,0.75]]", True), ("[0.25,0.7501]", False), ("[0.25]", False), ("[]", False)],
)
def test_an_answer_is_right_within_a_millionth(data: str, right: bool) -> None:
    body = f'{{"outputs":[{{"name":"probabilities","data":{data}}}]}}'.encode()
    assert open_loop.is_right(body, [0.25, 0.75]) is right
    assert not open_loop.is_right(b"not json", [0.25, 0.75])
    assert not open_loop.is_right(b'{"error":"no"}', [0.25, 0.75])


def test_the_settings_of_another_stack_reach_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KINGMAKER_GATEWAY_PORT", "1")
    assert "KINGMAKER_GATEWAY_PORT" not in lab.environment()
    assert lab.environment({"KINGMAKER_GATEWAY_PORT": "2"})["KINGMAKER_GATEWAY_PORT"] == "2"


def test_stopping_a_lab_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: int) -> None:
    a_lab_is_possible()
    monkeypatch.setattr(folders, "RUN", tmp_path)
    port = free_port
    with lab.Lab("test") as here:
        command = [sys.executable, "-m", "benchmarks.trivial_upstream", str(port), "m", "25"]
        server = here.start("trivial", command, port, cwd=str(folders.REPOSITORY))
        here.wait(server, "/v2/models/m")
        assert server.ready_s is not None and server.cpu_s() > 0 and server.rss_mb() > 1
        with server.hung():
            assert not lab._answers(f"http://{server.address}/v2/models/m", None)
        assert lab._answers(f"http://{server.address}/v2/models/m", None)
    assert server.process.poll() is not None
    assert not lab._is_open(port)


def test_a_server_that_does_not_start_tells_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    a_lab_is_possible()
    monkeypatch.setattr(folders, "RUN", tmp_path)
    with lab.Lab("test") as here:
        server = here.start("broken", [sys.executable, "-c", "raise SystemExit('no such luck')"], free_port)
        with pytest.raises(lab.NotReady, match="broken is not ready: no such luck"):
            here.wait(server, "")


def a_lab_is_possible() -> None:
    try:
        lab.cores()
    except RuntimeError as error:
        not_run(str(error), "a machine with two cores and taskset (apt-get install util-linux)")
