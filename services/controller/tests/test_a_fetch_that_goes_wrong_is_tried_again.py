"""Child processes of variants, whose fetches fail in ways nobody thought of."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from kingmaker_contracts import package, wire
from kingmaker_contracts.package import Manifest
from kingmaker_contracts.profile import sha256_of
from kingmaker_contracts.served_model import Champion
from kingmaker_controller.rollout.facts import WantedVariant
from kingmaker_controller.runtimes.fetching import Fetched, Fetcher
from kingmaker_controller.runtimes.processes import Commands, ProcessRuntime
from kingmaker_controller.runtimes.replica import Backoff

MODEL = "default/flights"
WANTED = WantedVariant("lr", "models:/flights/1", "", "", None, 1, asked=Champion(name="lr", model="m"))
MANIFEST = Manifest("models:/flights/1", "flights", "1", "a" * 64, None, "b" * 64)


@dataclass(frozen=True)
class Shaky(Fetcher):
    """Says what stands in `answers`, one after the other."""

    answers: list[Fetched | Exception] = field(default_factory=list)

    async def fetch(self, wanted: WantedVariant, log: Path) -> Fetched:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Watched:
    """A runtime, and the phases it was seen in."""

    def __init__(self, fetcher: Fetcher, commands: Commands) -> None:
        self.seen: list[str] = []
        self.runtime = ProcessRuntime(fetcher, commands, self._look, print)

    def _look(self) -> None:
        self.seen += [observed.phase for observed in self.runtime.observe(MODEL, frozenset()).values()]


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    sleeps = (sys.executable, "-c", "import time; time.sleep(600)")
    commands = Commands(sleeps, {}, "127.0.0.1", "json", tmp_path / "logs", 1.0, Backoff(0.01, 0.01))
    answers: list[Fetched | Exception] = [RuntimeError("a bug"), Fetched(tmp_path, MANIFEST, b"a profile")]
    fetcher = Shaky((), tmp_path, tmp_path, None, {}, 5.0, answers)
    built = Watched(fetcher, commands)
    yield built
    await built.runtime.close()


async def until(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, "it did not come true"
        await asyncio.sleep(0.01)


async def test_a_failure_nobody_thought_of_is_shown_and_the_fetch_tried_again(watched: Watched) -> None:
    watched.runtime.apply(MODEL, [WANTED])
    await until(lambda: watched.seen[-1:] == ["Starting"])
    assert watched.seen == ["Fetching", "Failed", "Starting"]


async def test_a_profile_is_forgotten_with_its_variant(watched: Watched) -> None:
    watched.runtime.apply(MODEL, [WANTED])
    await until(lambda: watched.runtime.profile(MODEL, "b" * 64) == b"a profile")
    watched.runtime.apply(MODEL, [])
    assert watched.runtime.profile(MODEL, "b" * 64) is None


async def test_a_kept_version_that_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    fetcher = Fetcher(("no such program",), tmp_path / "models", tmp_path, None, {}, 5.0)
    good = Manifest("models:/flights/1", "flights", "1", sha256_of(b"a model"), None, None)
    for name, raw in (("a-torn", b'{"source": "\xff"}'), ("flights-1", wire.write_json(good))):
        (fetcher.root / name).mkdir(parents=True)
        (fetcher.root / name / package.MANIFEST).write_bytes(raw)
        (fetcher.root / name / package.MODEL).write_bytes(b"a model")
    pinned = WantedVariant("lr", "models:/flights/1", "1", good.sha256, None, 1)
    assert (await fetcher.fetch(pinned, tmp_path / "log")).folder == fetcher.root / "flights-1"


@pytest.mark.parametrize("left", [None, b"", b"half of a mod"])
async def test_a_kept_version_whose_model_was_damaged_is_fetched_again(tmp_path: Path, left: bytes | None) -> None:
    """A full disk or a lost battery leaves such files; no server could ever start on one."""
    raw = b"a model"
    (tmp_path / "lr.onnx").write_bytes(raw)
    command = (sys.executable, str(Path(__file__).with_name("stand_in_fetch.py")))
    fetcher = Fetcher(command, tmp_path / "models", tmp_path, None, {}, 60.0)
    wanted = WantedVariant("lr", "lr.onnx", "", "", None, 1)
    first = await fetcher.fetch(wanted, tmp_path / "log")
    model = first.folder / package.MODEL
    if left is None:
        model.unlink()
    else:
        model.write_bytes(left)
    pinned = WantedVariant("lr", "lr.onnx", first.manifest.version, first.manifest.sha256, None, 1)
    assert (await fetcher.fetch(pinned, tmp_path / "log")).folder == first.folder
    assert model.read_bytes() == raw
