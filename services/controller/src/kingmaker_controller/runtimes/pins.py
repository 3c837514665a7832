"""Which version each model string means: asked of the registry in the background, until it answers.

Nobody waits here. A registry that takes its time, or is away, delays the variants that need it and nothing else:
weights, other models' children and their repair go on.

What it says of a version may be wrong: a tag with another sha256 than the file's. Pods find that out; then the same
version is asked about again, until the tag was put right and the pods can be given it.
"""

import asyncio
import logging
from collections.abc import Callable, Set
from typing import Final

from kingmaker_controller.errors import FetchFailed
from kingmaker_controller.queue import FIRST_WAIT_S, LONGEST_WAIT_S
from kingmaker_controller.rollout.facts import Identity
from kingmaker_controller.runtimes.podspec import Pin
from kingmaker_controller.runtimes.registry import Registry

logger = logging.getLogger(__name__)

AT_ONCE: Final = 8
"""Questions at the same time; 200 new models must not be 200 connections to one MLflow."""

Key = tuple[str, Identity]
"""A variant: the model's `namespace/name`, and who it is."""


class Pins:
    """then: told the model whenever there is an answer, another one, or another reason for there being none."""

    def __init__(self, registry: Registry, then: Callable[[str], None]) -> None:
        self._registry, self._then = registry, then
        self._found: dict[Key, Pin | FetchFailed] = {}
        self._asking: dict[Key, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)

    def of(self, key: Key) -> Pin | FetchFailed | None:
        """The answer; why there is none yet; or None while nothing is known. Asks when nobody has."""
        found = self._found.get(key)
        if not isinstance(found, Pin) and key not in self._asking:
            self._asking[key] = asyncio.create_task(self._ask(key), name="ask the registry")
        return found

    def corrected(self, key: Key, held: Pin) -> Pin:
        """What the registry said last of the version that is held; what is held when nobody asked."""
        found = self._found.get(key)
        return found if isinstance(found, Pin) and found.version == held.version else held

    def doubt(self, key: Key, held: Pin) -> None:
        """Its pods cannot run what is held: ask about that version until the registry says something else."""
        if key not in self._asking:
            self._asking[key] = asyncio.create_task(self._ask_again(key, held), name="ask the registry again")

    def trust(self, key: Key) -> None:
        """Its pods run: no more questions."""
        task = self._asking.pop(key, None)
        if task is not None:
            task.cancel()

    def tidy(self, model: str, identities: Set[Identity]) -> None:
        """Forget variants of a model that nobody wants any more."""
        for key in [key for key in (*self._found, *self._asking) if key[0] == model and key[1] not in identities]:
            self._found.pop(key, None)
            self.trust(key)

    async def close(self) -> None:
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, key: Key) -> None:
        wait_s = FIRST_WAIT_S
        while True:
            found = await self._answer(key[1].model)
            self._found[key] = found
            self._then(key[0])
            if isinstance(found, Pin):
                del self._asking[key]
                return
            await asyncio.sleep(wait_s)
            wait_s = min(LONGEST_WAIT_S, wait_s * 2)

    async def _ask_again(self, key: Key, held: Pin) -> None:
        wait_s = FIRST_WAIT_S
        while True:
            await asyncio.sleep(wait_s)
            wait_s = min(LONGEST_WAIT_S, wait_s * 2)
            found = await self._answer(held.string(key[1].model))
            if isinstance(found, Pin) and found != held:
                logger.info("the registry corrected itself", extra={"model": key[0], "variant": key[1].name})
                self._found[key] = found
                del self._asking[key]
                self._then(key[0])
                return

    async def _answer(self, model: str) -> Pin | FetchFailed:
        async with self._slots:
            try:
                return await self._registry.resolve(model)
            except FetchFailed as failure:
                return failure
            except Exception as error:  # an answer of another form than MLflow's: said, and asked again
                logger.exception("the registry's answer cannot be used", extra={"model_string": model})
                return FetchFailed(f"the registry's answer cannot be used: {error!r}", "RegistryUnreachable")
