"""The loop that follows the streams: look what there is, read, commit, again.

Plain XREAD from positions of our own instead of a consumer group: the position lies in the transaction of the
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

from kingmaker_contracts.plan import Plan
from kingmaker_monitor.errors import Superseded
from kingmaker_monitor.ingest.decoding import Decoded, Read, Stream, decode
from kingmaker_monitor.ingest.discovery import Acks, Discovery
from kingmaker_monitor.ingest.lives import Lives
from kingmaker_monitor.ingest.ownership import Leases
from kingmaker_monitor.ingest.rounds import Book
from kingmaker_monitor.positions import START, Extent, Standing, id_of
from kingmaker_servicekit.redis_client import BLOCK_MS

logger = logging.getLogger(__name__)

T = TypeVar("T")
COUNT: Final = 200
"""Entries of one stream in a round, at most. A round is held in memory and is one transaction."""
LOOK_S: Final = 1.0
"""How often models, plans, leases, acks and the streams' ends are asked for."""
_BLOCK_MS: Final = min(BLOCK_MS, 300)
_BACK_OFF_S: Final = (0.1, 2.0)
_KINDS: Final[tuple[Literal["events", "feedback"], ...]] = ("events", "feedback")
REDIS_ERRORS: Final = (redis.RedisError, OSError, TimeoutError)


class Reader:
    """Owns the positions' progress. run() ends only by cancellation, or with sqlite3.DatabaseError when the state
    file is beyond use."""

    def __init__(
        self,
        book: Book,
        discovery: Discovery,
        leases: Leases,
        blocking: Redis,
        *,
        executor: Executor,
        partitions: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._book = book
        self._discovery = discovery
        self._leases = leases
        self._blocking = blocking
        self._executor = executor
        self._partitions = partitions
        self._clock = clock
        self._streams: dict[bytes, Stream] = {}
        self._unreadable: set[Stream] = set()
        """Of them, those whose key held no stream when last asked."""
        self._acks: Acks = {}
        self._lives = Lives()
        self._looked = -LOOK_S
        self._followed: tuple[str, ...] | None = None
        self.redis_up: bool | None = None
        """None before the first answer or failure."""
        self.models: tuple[str, ...] = tuple(sorted(book.models))
        """Models that are followed now; before Redis was reached, those the state file knows."""
        self.standings: dict[Stream, Standing] = {}
        """Of the followed streams that exist, when last asked."""
        self.read_until: dict[str, int] | None = None
        """By followed model, unix milliseconds up to which all its streams are read; None before Redis was reached."""

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
            except Superseded as error:
                logger.warning("a round is given up", extra={"reason": str(error)})
                self._looked = -LOOK_S
                await asyncio.sleep(LOOK_S)
            except sqlite3.OperationalError as error:  # a full disk, say: nothing was committed, so try again
                logger.error("state file not written, reading waits", extra={"error": str(error)})
                await asyncio.sleep(wait)
                wait = min(2 * wait, _BACK_OFF_S[1])

    async def _step(self) -> None:
        if self._book.is_stale:  # its positions may have passed entries that were never written
            await self._off_loop(self._book.load)
        if time.monotonic() - self._looked >= LOOK_S:
            await self._look()
        offsets = {key: self._offset(stream) for key, stream in self._streams.items() if stream not in self._unreadable}
        if not offsets:
            await asyncio.sleep(_BLOCK_MS / 1000)
            return
        answer: Any = await self._blocking.xread(cast(Any, offsets), count=COUNT, block=_BLOCK_MS)
        reads = self._reads(answer)
        if reads:
            await self._commit(reads)

    async def _look(self) -> None:
        found = await self._discovery.look(self._writing())
        tokens = await self._leases.hold(await self._off_loop(lambda: self._book.tokens(found.plans)))
        await self._off_loop(lambda: self._book.follow(found.plans, tokens))
        self._follow(tuple(tokens))
        asked = await self._discovery.extents(self._streams.values())
        extents = {stream: extent for stream, extent in asked.items() if extent is not None}
        self._unreadable = asked.keys() - extents.keys()
        self.standings = await self._off_loop(
            lambda: {stream: self._book.place(stream, extent) for stream, extent in extents.items()}
        )
        self.read_until = dict.fromkeys(tokens, self._now_ms())
        for stream, found_at in self.standings.items():
            if found_at.waiting:
                read, _ = id_of(found_at.position.offset)
                self.read_until[stream.model] = min(self.read_until[stream.model], read)
        await self._fetch_profiles(_profiles({model: found.plans[model] for model in tokens}))
        self._acks = {key: acks for key, acks in found.acks.items() if key[0] in tokens}
        accounts = {model: self._book.models[model].accounts for model in tokens}
        self._lives.look(self._acks, found.ended, accounts, time.monotonic())
        await self._off_loop(lambda: self._fold(extents))
        await self._off_loop(lambda: self._book.forget_gone(found.plans.keys(), self._now_ms()))
        self._looked = time.monotonic()

    def _writing(self) -> set[str]:
        """Producers of the followed models whose lives are not over."""
        followed = (self._book.models[model] for model in self._followed or ())
        return {one.id for state in followed for one, account in state.accounts.items() if not account.closed}

    def _fold(self, extents: dict[Stream, Extent]) -> None:
        for stream, extent in extents.items():
            if stream.kind == "events":
                self._book.fold(stream, extent, self._acks.get((stream.model, stream.partition), {}))

    def _follow(self, models: tuple[str, ...]) -> None:
        if models == self._followed:
            return
        logger.info("following models", extra={"models": list(models)})
        self.models = self._followed = models
        streams = [
            Stream(model, kind, partition)
            for model in models
            for kind in _KINDS
            for partition in range(self._partitions)
        ]
        self._streams = {stream.key.encode(): stream for stream in streams}

    def _reads(self, answer: dict[bytes, list[list[tuple[bytes, dict[bytes, bytes]]]]]) -> list[Read]:
        """Entries by stream, with acks and ends of lives where a stream was read to its end after they were known."""
        reads = []
        for key, stream in self._streams.items():
            if stream in self._unreadable:
                continue
            entries = [entry for chunk in answer.get(key, ()) for entry in chunk]
            read = Read(stream, entries)
            if stream.kind == "events" and len(entries) < COUNT:
                at = stream.model, stream.partition
                read = Read(stream, entries, self._acks.pop(at, {}), self._lives.take_ended(*at))
            if read.entries or read.acks or read.ended:
                reads.append(read)
        return reads

    async def _commit(self, reads: list[Read]) -> None:
        decoded: list[Decoded] = await self._off_loop(lambda: [decode(read) for read in reads])
        await self._fetch_profiles((read.stream.model, schema) for read in decoded for schema in read.schemas)
        lapsed = sorted({read.stream.model for read in reads if not self._leases.is_held(read.stream.model)})
        if lapsed:  # this process stood still for longer than its lease: somebody else may count by now
            raise Superseded(f"the lease of {', '.join(lapsed)} ran out before what was read could be written")
        now_ms = self._now_ms()
        await self._off_loop(lambda: self._book.apply(decoded, now_ms))

    async def _fetch_profiles(self, wanted: Iterable[tuple[str, str]]) -> None:
        for model, sha256 in dict.fromkeys(wanted):
            if self._book.profiles.missing(sha256):
                raw = await self._discovery.profile(model, sha256)
                await self._off_loop(partial(self._book.learn, sha256, raw, self._now_ms()))

    def _offset(self, stream: Stream) -> bytes:
        at = self._book.models[stream.model].positions.get(stream.key)
        return START if at is None else at.offset

    def _now_ms(self) -> int:
        return round(self._clock() * 1000)

    async def _off_loop(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def _note(self, *, is_up: bool, error: str = "") -> None:
        if is_up is not self.redis_up:
            if is_up:
                logger.info("redis reached")
            else:
                logger.warning("redis away, keeping what was counted", extra={"error": error})
        self.redis_up = is_up


def _profiles(plans: dict[str, Plan | None]) -> list[tuple[str, str]]:
    return [
        (model, variant.profile)
        for model, plan in plans.items()
        if plan is not None
        for variant in plan.variants
        if variant.profile is not None
    ]
