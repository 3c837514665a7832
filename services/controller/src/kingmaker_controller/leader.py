"""Leadership: one holder at a time, and a number (epoch) that only grows with every takeover.

The algorithm knows a small compare-and-swap store and nothing else: a row of the local state file
now, a Kubernetes Lease later. The epoch fences: a record written by an earlier leader is lower than
anything the next one writes.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from kingmaker_controller.errors import LeaderLost, LeaseHeld
from kingmaker_controller.rollout.facts import stamp


@dataclass(frozen=True, slots=True)
class Lease:
    """holder: "" when it was given back; renewed_at: RFC 3339."""

    holder: str
    epoch: int
    renewed_at: str


class LeaseStore(Protocol):
    def read_lease(self) -> Lease | None: ...

    def swap_lease(self, old: Lease | None, new: Lease) -> bool:
        """Replace old by new, or change nothing and say False when the stored one is not old."""
        ...

    def is_held(self, lease: Lease, now: datetime) -> bool:
        """Whether the holder still lives, as far as this store can tell."""
        ...


class Leader:
    """holder: the words that name this process to whoever is refused."""

    def __init__(self, store: LeaseStore, holder: str) -> None:
        self._store = store
        self._holder = holder
        self._lease: Lease | None = None

    @property
    def epoch(self) -> int:
        return self._lease.epoch if self._lease else 0

    def acquire(self, epochs: Iterable[int], now: datetime) -> int:
        """Take the lease with epoch 1 + the highest seen anywhere. Raises LeaseHeld."""
        old = self._store.read_lease()
        if old is not None and old.holder and self._store.is_held(old, now):
            raise LeaseHeld(f"another controller already works on this state: {old.holder}, last seen {old.renewed_at}")
        highest = max((*epochs, old.epoch if old else 0), default=0)
        new = Lease(self._holder, highest + 1, stamp(now))
        if not self._store.swap_lease(old, new):
            raise LeaseHeld("another controller took the lease at the same moment")
        self._lease = new
        return new.epoch

    def confirm(self) -> None:
        """Raises LeaderLost when the stored lease is not ours any more."""
        stored = self._store.read_lease()
        if self._lease is None or stored != self._lease:
            raise LeaderLost(f"the lease is held by {stored.holder if stored else 'nobody'} now")

    def renew(self, now: datetime) -> None:
        """Say again that we live, for stores that judge by age. Raises LeaderLost."""
        self.confirm()
        if self._lease is not None:
            new = replace(self._lease, renewed_at=stamp(now))
            if not self._store.swap_lease(self._lease, new):
                raise LeaderLost("the lease changed while it was renewed")
            self._lease = new

    def raise_above(self, epoch: int, now: datetime) -> int:
        """Our own lease with a higher epoch than one found in Redis. Raises LeaderLost."""
        self.confirm()
        if self._lease is not None and epoch >= self._lease.epoch:
            new = replace(self._lease, epoch=epoch + 1, renewed_at=stamp(now))
            if not self._store.swap_lease(self._lease, new):
                raise LeaderLost("the lease changed while its epoch was raised")
            self._lease = new
        return self.epoch

    def release(self) -> None:
        """Give the lease back; its epoch stays on record. Quiet when it was lost already."""
        if self._lease is not None:
            self._store.swap_lease(self._lease, replace(self._lease, holder=""))
            self._lease = None
