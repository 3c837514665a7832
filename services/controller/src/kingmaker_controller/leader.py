"""Leadership: one holder at a time, and a number (epoch) that only grows with every takeover.

The algorithm knows a small compare-and-swap store and nothing else: a row of the local state file, or a
Kubernetes Lease. The epoch fences: a record written by an earlier leader is lower than anything the next
one writes.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from kingmaker_controller.errors import LeaderLost, LeaseHeld, LeaseUnavailable
from kingmaker_controller.rollout.facts import stamp

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lease:
    """holder: "" when it was given back; renewed_at: RFC 3339."""

    holder: str
    epoch: int
    renewed_at: str


class LeaseStore(Protocol):
    """Every method raises LeaseUnavailable when the store does not answer."""

    async def read_lease(self) -> Lease | None: ...

    async def swap_lease(self, old: Lease | None, new: Lease) -> bool:
        """Replace old by new, or change nothing and say False when the stored one is not old."""
        ...

    def is_held(self, lease: Lease, now: datetime) -> bool:
        """Whether the holder still lives, as far as this store can tell."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """look_s: how often the lease is looked at; renew_s: how often it is renewed; give_up_s: without a word from the
    store for this long, leadership counts as lost."""

    look_s: float = 1.0
    renew_s: float = 10.0
    give_up_s: float = 60.0


class Leader:
    """holder: the words that name this process to whoever is refused, and no other; clock: monotonic seconds."""

    def __init__(
        self, store: LeaseStore, holder: str, pace: Pace | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._holder = holder
        self._pace = pace or Pace()
        self._clock = clock
        self._lease: Lease | None = None
        self._asked = 0
        """The highest epoch we asked for, whether or not we heard that it is ours."""
        self._looked = self._renewed = self._tried = clock()
        self._one_at_a_time = asyncio.Lock()

    @property
    def epoch(self) -> int:
        return self._lease.epoch if self._lease else 0

    async def acquire(self, epochs: Iterable[int], now: datetime) -> int:
        """Take the lease with epoch 1 + the highest seen anywhere. Raises LeaseHeld."""
        began = self._clock()
        old = await self._store.read_lease()
        is_ours = old is not None and (old.holder, old.epoch) == (self._holder, self._asked)  # the answer got lost
        if old is not None and old.holder and not is_ours and self._store.is_held(old, now):
            raise LeaseHeld(f"another controller already works on this state: {old.holder}, last seen {old.renewed_at}")
        highest = max((*epochs, old.epoch if old else 0), default=0)
        new = Lease(self._holder, highest + 1, stamp(now))
        self._asked = new.epoch
        if not await self._store.swap_lease(old, new):
            raise LeaseHeld("another controller took the lease at the same moment")
        self._lease = new
        self._looked = self._renewed = began
        return new.epoch

    async def hold(self, now: datetime) -> None:
        """Look and renew when it is time; call it before every piece of work. Raises LeaderLost."""
        async with self._one_at_a_time:
            at = self._clock()
            try:
                if at - self._renewed >= self._pace.renew_s and at - self._tried >= min(1.0, self._pace.renew_s):
                    self._tried = at
                    await self.renew(now)
                elif at - self._looked >= self._pace.look_s:
                    await self._confirm()
            except LeaseUnavailable as error:
                logger.warning("the lease cannot be looked at", extra={"error": str(error)})
            if self._clock() - max(self._looked, self._renewed) >= self._pace.give_up_s:
                raise LeaderLost(f"the lease could not be renewed for {self._pace.give_up_s:g} s")

    async def keep(self, now: Callable[[], datetime]) -> None:
        """Hold it until cancelled, whatever else is being done. Raises LeaderLost."""
        while True:
            await self.hold(now())
            await asyncio.sleep(min(self._pace.look_s, self._pace.renew_s) / 2)

    async def confirm(self) -> None:
        """Raises LeaderLost when the stored lease is not ours any more."""
        async with self._one_at_a_time:
            await self._confirm()

    async def renew(self, now: datetime) -> None:
        """Say again that we live, for stores that judge by age. Raises LeaderLost."""
        if self._lease is not None:
            await self._swap(replace(self._lease, renewed_at=stamp(now)), "while it was renewed")

    async def raise_above(self, epoch: int, now: datetime) -> int:
        """Our own lease with a higher epoch than one found in Redis. Raises LeaderLost."""
        async with self._one_at_a_time:
            await self._confirm()
            if self._lease is not None and epoch >= self._lease.epoch:
                new = replace(self._lease, epoch=epoch + 1, renewed_at=stamp(now))
                await self._swap(new, "while its epoch was raised")
            return self.epoch

    async def release(self) -> None:
        """Give the lease back; its epoch stays on record. Quiet when it was lost already or nobody answers."""
        try:
            if self._lease is not None:
                await self._swap(replace(self._lease, holder=""), "before it was given back")
        except LeaderLost:
            pass
        except LeaseUnavailable as error:
            logger.warning("the lease could not be given back", extra={"error": str(error)})
        finally:
            self._lease = None

    async def _confirm(self) -> None:
        began = self._clock()
        stored = await self._store.read_lease()
        if not self._is_ours(stored):
            raise LeaderLost(f"the lease is held by {stored.holder or 'nobody' if stored else 'nobody'} now")
        self._looked = began

    async def _swap(self, new: Lease, when: str) -> None:
        began = self._clock()  # others judge by when they saw it, and the answer may be late
        self._asked = max(self._asked, new.epoch)
        if not await self._store.swap_lease(self._lease, new):
            stored = await self._store.read_lease()
            if stored is None or not self._is_ours(stored):  # a lost answer can make our last word look like another's
                raise LeaderLost(f"the lease changed {when}; {stored.holder if stored else 'nobody'} holds it")
            new = replace(new, epoch=max(new.epoch, stored.epoch))
            if not await self._store.swap_lease(stored, new):
                raise LeaderLost(f"the lease changed {when}")
        self._lease = new
        self._looked = self._renewed = began

    def _is_ours(self, stored: Lease | None) -> bool:
        mine = self._lease
        return (
            stored is not None
            and mine is not None
            and stored.holder == mine.holder
            and mine.epoch <= stored.epoch <= self._asked
        )
