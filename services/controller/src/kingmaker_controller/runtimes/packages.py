"""What a running model server says of the package it serves: version, hashes, inputs, and the profile itself.

A pod fetched them and checked them; asking it spares the controller MLflow, and works when MLflow is away.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Set
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import httpx

from kingmaker_contracts import profile
from kingmaker_controller.rollout.facts import Identity
from kingmaker_controller.rollout.signatures import type_of
from kingmaker_controller.runtimes.podspec import PORT

logger = logging.getLogger(__name__)

TIMEOUT_S: Final = 5.0
PROFILE_PATH: Final = "/kingmaker/profile"
_PAUSE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Package:
    """inputs: type by name; only of a package without a profile, for that would say it too."""

    version: str
    sha256: str
    profile_sha256: str | None
    inputs: Mapping[str, str]


class Packages:
    """Asks each question once at a time, in the background; the asker is told when there is an answer."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._known: dict[tuple[str, Identity], Package] = {}
        self._profiles: dict[tuple[str, str], bytes] = {}
        self._asking: dict[tuple[str, Identity | str], asyncio.Task[None]] = {}
        """By model, and whose package or which profile."""

    def of(self, model: str, identity: Identity) -> Package | None:
        return self._known.get((model, identity))

    def profile(self, model: str, sha256: str) -> bytes | None:
        """A profile that was wanted, handed over once: it is as large as a megabyte, and Redis keeps it."""
        return self._profiles.pop((model, sha256), None)

    def want(self, model: str, identity: Identity, address: str, name: str, then: Callable[[], None]) -> None:
        self._ask((model, identity), partial(self._read, model, identity, address, name), then)

    def want_profile(self, model: str, address: str, sha256: str, then: Callable[[], None]) -> None:
        self._ask((model, sha256), partial(self._read_profile, model, address, sha256), then)

    def tidy(self, model: str, identities: Set[Identity], profiles: Set[str]) -> None:
        """Keep nothing else of a model, and ask nothing else: a late answer would be kept for ever, and believed should
        its variant come again."""
        for key in [key for key in self._known if key[0] == model and key[1] not in identities]:
            del self._known[key]
        for held in [held for held in self._profiles if held[0] == model and held[1] not in profiles]:
            del self._profiles[held]
        for question in list(self._asking):
            if question[0] == model and question[1] not in (*identities, *profiles):
                self._asking.pop(question).cancel()

    async def close(self) -> None:
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._http.aclose()

    def _ask(
        self,
        question: tuple[str, Identity | str],
        work: Callable[[], Coroutine[Any, Any, None]],
        then: Callable[[], None],
    ) -> None:
        if question in self._asking:
            return

        async def ask() -> None:
            try:
                await work()
            except (httpx.HTTPError, ValueError, KeyError, TypeError, IndexError) as error:
                logger.info("model server gave no answer", extra={"question": str(question), "error": str(error)})
                await asyncio.sleep(_PAUSE_S)
            finally:
                if self._asking.get(question) is asyncio.current_task():
                    del self._asking[question]
            then()

        self._asking[question] = asyncio.create_task(ask(), name="ask a model server")

    async def _read(self, model: str, identity: Identity, address: str, name: str) -> None:
        answer = await self._http.get(f"{_root(address)}/v2/models/{name}", timeout=TIMEOUT_S)
        answer.raise_for_status()
        told = answer.json()
        about = told.get("properties") or {}
        profile_sha256 = about.get("profile_sha256")
        inputs = {} if profile_sha256 else inputs_of(told)
        self._known[model, identity] = Package(str(told["versions"][0]), about["sha256"], profile_sha256, inputs)

    async def _read_profile(self, model: str, address: str, sha256: str) -> None:
        answer = await self._http.get(_root(address) + PROFILE_PATH, timeout=TIMEOUT_S)
        answer.raise_for_status()
        if profile.sha256_of(answer.content) != sha256:
            raise ValueError(f"the profile at {address} is not {sha256[:12]}")
        self._profiles[model, sha256] = answer.content


def inputs_of(metadata: Any) -> dict[str, str]:
    """Type by name, from the body of GET /v2/models/NAME. Raises KeyError or TypeError for something else."""
    return {each["name"]: type_of(each["datatype"], each["shape"]) for each in metadata["inputs"]}


def _root(address: str) -> str:
    return f"http://[{address}]:{PORT}" if ":" in address else f"http://{address}:{PORT}"
