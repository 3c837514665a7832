"""The Lua check inside wrk, against a real server whose answers are known to be wrong or right."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import folders, lab, tools
from benchmarks.answers import CONSTANT
from benchmarks.load import Generator, Sample, Target
from benchmarks.models import Answer, pool_text
from benchmarks.tools import Tool
from conftest import needs, not_run

BODIES = ['{"id":"1","inputs":[]}', '{"id":"2","inputs":[]}']


@pytest.fixture
def wrk() -> Tool:
    """What is here already; a test downloads nothing."""
    needs("wrk", "apt-get install wrk", folders.DEBIAN / "root" / "usr" / "bin")
    return tools.fetch(["wrk"])["wrk"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[lab.Lab]:
    try:
        lab.cores()
    except RuntimeError as error:
        not_run(str(error), "a machine with two cores and taskset (apt-get install util-linux)")
    monkeypatch.setattr(folders, "RUN", tmp_path)
    with lab.Lab("test") as opened:
        yield opened


@pytest.fixture
def upstream(here: lab.Lab, free_port: int) -> lab.Server:
    command = [sys.executable, "-m", "benchmarks.trivial_upstream", str(free_port), "m", "25"]
    server = here.start("trivial", command, free_port, cwd=str(folders.REPOSITORY))
    here.wait(server, "/v2/models/m")
    return server


def _load(wrk: Tool, here: lab.Lab, server: lab.Server, answers: list[Answer], by_id: bool = False) -> Sample:
    pool = here.folder / "pool.lua"
    pool.write_text(pool_text(BODIES, answers))
    target = Target(f"http://{server.address}/v2/models/m/infer", pool, [server], by_id=by_id)
    return Generator(wrk, here.load_core).run(target, 8, 1)


def test_right_answers_pass(wrk: Tool, here: lab.Lab, upstream: lab.Server) -> None:
    sample = _load(wrk, here, upstream, [Answer(*CONSTANT)] * 2)
    assert sample.checked > 0 and sample.requests > sample.checked
    assert (sample.wrong, sample.failed) == (0, 0)
    assert sample.cpu_us["trivial"] > 0


def test_an_answer_off_by_more_than_a_millionth_is_wrong(wrk: Tool, here: lab.Lab, upstream: lab.Server) -> None:
    sample = _load(wrk, here, upstream, [Answer(0.25, 0.750002)] * 2)
    assert sample.wrong == sample.checked > 0
    assert sample.first_wrong.startswith("200 {")


def test_an_answer_without_its_requests_id_is_wrong(wrk: Tool, here: lab.Lab, upstream: lab.Server) -> None:
    sample = _load(wrk, here, upstream, [Answer(*CONSTANT)] * 2, by_id=True)
    assert sample.wrong == sample.checked > 0
