"""The loop that follows the streams: look what there is, read, commit, again.

Plain XREAD from offsets of our own instead of a consumer group: the offset lives in the transaction of the
counts, so there is no second truth to reconcile. One client for blocking reads, one for short commands.
"""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from functools import partial
from typing import Any, Final, Literal, TypeVar, cast

import redis
from redis.asyncio import Redis

from kingmaker_monitor.ingest.decoding import Decoded, Read, Stream, decode
from kingmaker_monitor.ingest.discovery import Acks, Discovery
from kingmaker_monitor.ingest.rounds import Book
from kingmaker_servicekit.redis_client import BLOCK_MS

logger = logging.getLogger(__name__)

T = TypeVar("T")
COUNT: Final = 200
"""Entries of one stream in a round, at most. A round is held in memory and is one transaction."""
LOOK_S: Final = 1.0
"""How often models, plans and acks are asked for."""
_BLOCK_MS: Final = min(BLOCK_MS, 300)
_BACK_OFF_S: Final = (0.1, 2.0)
_KINDS: Final[tuple[Literal["events", "feedback"], ...]] = ("events", "feedback")
REDIS_ERRORS: Final = (redis.RedisError, OSError, TimeoutError)


class Reader:
    """Owns the offsets' progress. run() ends only by cancellation, or with sqlite3.DatabaseError when the state
    file is beyond use."""

    def __init__(
        self,
        book: Book,
        discovery: Discovery,
        blocking: Redis,
        *,
        executor: Executor,
        partitions: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._book = book
        self._discovery = discovery
        self._blocking = blocking
        self._executor = executor
        self._partitions = partitions
        self._clock = clock
        self._streams: dict[bytes, Stream] = {}
        self._acks: Acks = {}
        self._looked = -LOOK_S
        self._followed: tuple[str, ...] | None = None
        self.redis_up: bool | None = None
        """None before the first answer or failure."""
        self.models: tuple[str, ...] = tuple(sorted(book.models))
        """Models that are followed now; before Redis was reached, those the state file knows."""

    async def run(self) -> None:
        wait = _BACK_OFF_S[0]
        while True:
            try:
                await self._step()
                self._note(is_up=True)
                wait = _BACK_OFF_S[0]
            except REDIS_ERRORS as error:
                self._note(is_up=False, error=str(error) or type(error).__name__)
                self._looked = -LOOK_S
                await asyncio.sleep(wait)
                wait = min(2 * wait, _BACK_OFF_S[1])
            except sqlite3.OperationalError as error:  # a full disk, say: nothing was committed, so try again
                logger.error("state file not written, reading waits", extra={"error": str(error)})
                await asyncio.sleep(wait)
                wait = min(2 * wait, _BACK_OFF_S[1])

    async def _step(self) -> None:
        if time.monotonic() - self._looked >= LOOK_S:
            await self._look()
        if not self._streams:
            await asyncio.sleep(_BLOCK_MS / 1000)
            return
        offsets = {key: self._offset(key.decode(), stream.model) for key, stream in self._streams.items()}
        answer: Any = await self._blocking.xread(cast(Any, offsets), count=COUNT, block=_BLOCK_MS)
        reads = self._reads(answer)
        if reads:
            await self._commit(reads)

    async def _look(self) -> None:
        found = await self._discovery.look()
        await self._off_loop(lambda: self._book.follow(found.plans))
        if tuple(found.plans) != self._followed:
            logger.info("following models", extra={"models": list(found.plans)})
            self.models = self._followed = tuple(found.plans)
            streams = [
                Stream(model, kind, partition)
                for model in found.plans
                for kind in _KINDS
                for partition in range(self._partitions)
            ]
            self._streams = {stream.key.encode(): stream for stream in streams}
        await self._fetch_profiles(
            (model, variant.profile)
            for model, plan in found.plans.items()
            if plan is not None
            for variant in plan.variants
            if variant.profile is not None
        )
        self._acks = found.acks
        self._looked = time.monotonic()

    def _reads(self, answer: dict[bytes, list[list[tuple[bytes, dict[bytes, bytes]]]]]) -> list[Read]:
        """Entries by stream, and the acks of each stream that was read to its end."""
        reads = []
        for key, stream in self._streams.items():
            entries = [entry for chunk in answer.get(key, ()) for entry in chunk]
            acks = {}
            if stream.kind == "events" and len(entries) < COUNT:
                acks = self._acks.pop((stream.model, stream.partition), {})
            if entries or acks:
                reads.append(Read(stream, entries, acks))
        return reads

    async def _commit(self, reads: list[Read]) -> None:
        decoded: list[Decoded] = await self._off_loop(lambda: [decode(read) for read in reads])
        await self._fetch_profiles((read.stream.model, schema) for read in decoded for schema in read.schemas)
        now_ms = round(self._clock() * 1000)
        await self._off_loop(lambda: self._book.apply(decoded, now_ms))

    async def _fetch_profiles(self, wanted: Iterable[tuple[str, str]]) -> None:
        for model, sha256 in dict.fromkeys(wanted):
            if self._book.profiles.missing(sha256):
                raw = await self._discovery.profile(model, sha256)
                await self._off_loop(partial(self._book.learn, sha256, raw))

    def _offset(self, key: str, model: str) -> bytes:
        return self._book.models[model].offsets.get(key, b"0-0")

    async def _off_loop(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def _note(self, *, is_up: bool, error: str = "") -> None:
        if is_up is not self.redis_up:
            if is_up:
                logger.info("redis reached")
            else:
                logger.warning("redis away, keeping what was counted", extra={"error": error})
        self.redis_up = is_up
