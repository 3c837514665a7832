"""A tag that says another sha256 than the file's keeps a variant from running; put right, it counts by itself."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from kingmaker_controller.errors import FetchFailed
from kingmaker_controller.rollout.facts import Identity
from kingmaker_controller.runtimes.pins import Pins
from kingmaker_controller.runtimes.podspec import Pin
from kingmaker_controller.runtimes.registry import Registry

KEY = ("shop/flights", Identity("gbm", "models:/flights@challenger"))
WRONG, RIGHT = Pin("3", "0" * 64), Pin("3", "a" * 64)


class Told(Registry):
    """Says what stands first in `answers`, and the last one for ever."""

    def __init__(self, *answers: Pin | FetchFailed) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def resolve(self, model: str) -> Pin:
        self.asked.append(model)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, FetchFailed):
            raise answer
        return answer


class Asker:
    def __init__(self) -> None:
        self.told: list[str] = []
        self.pins: Pins

    def about(self, registry: Registry) -> Pins:
        self.pins = Pins(registry, self.told.append)
        return self.pins


@pytest.fixture
async def asker() -> AsyncIterator[Asker]:
    made = Asker()
    yield made
    await made.pins.close()


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.02)


def asking() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if "registry" in task.get_name()]


async def test_the_pinned_version_is_asked_about_until_the_registry_says_something_else(asker: Asker) -> None:
    registry = Told(WRONG, FetchFailed("away", "RegistryUnreachable"), RIGHT)
    pins = asker.about(registry)
    for _ in range(3):  # as often as it is looked at
        pins.doubt(KEY, WRONG)
    assert pins.corrected(KEY, WRONG) == WRONG
    await until(lambda: asker.told)
    assert registry.asked == ["models:/flights/3"] * 3, "not what the alias may mean by now"
    assert asker.told == ["shop/flights"]
    assert pins.corrected(KEY, WRONG) == RIGHT


async def test_one_that_runs_or_is_not_wanted_is_asked_about_no_more(asker: Asker) -> None:
    registry = Told(WRONG)
    pins = asker.about(registry)
    for end in (lambda: pins.trust(KEY), lambda: pins.tidy("shop/flights", set())):
        registry.asked.clear()
        pins.doubt(KEY, WRONG)
        await until(lambda: registry.asked)
        end()
        await until(lambda: not asking())
    assert not asker.told


async def test_an_answer_about_another_version_corrects_nothing(asker: Asker) -> None:
    pins = asker.about(Told(Pin("4", "b" * 64)))
    pins.of(KEY)
    await until(lambda: asker.told)
    assert pins.corrected(KEY, WRONG) == WRONG
