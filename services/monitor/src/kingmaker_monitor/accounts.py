"""How many rows of a producer arrived, were dropped, or are proven lost.

Every batch says how many rows its producer had offered and given up before it, so what should have
arrived up to and with a batch is sent - dropped + count. The largest such number less what did arrive is
lost; a batch that comes late after all takes its rows out of the loss again. A loss behind the last batch
shows in the gateway's ack, and counts only once the stream was read to its end after that ack. When a
gateway's life is over, what it still had in its buffer is lost too: then lost = sent - dropped - stored.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

MAX_HOLES: Final = 1000
"""Missing sequence numbers remembered for a producer; an older one that still arrives counts as a duplicate."""


@dataclass(slots=True)
class Account:
    """One producer on one stream, in rows. owed: what should have arrived up to the newest batch or ack;
    tail: what an ack without `written` says is missing behind it; closed: this life is over."""

    last_seq: int = 0
    sent: int = 0
    dropped: int = 0
    stored: int = 0
    owed: int = 0
    tail: int = 0
    holes: set[int] = field(default_factory=set)
    closed: bool = False

    @property
    def lost(self) -> int:
        missing = max(0, self.owed - self.stored) + self.tail
        return max(missing, self.sent - self.dropped - self.stored) if self.closed else missing

    def accept(self, seq: int, sent: int, dropped: int, count: int) -> bool:
        """Enter a batch; False when it was seen before. sent, dropped: the producer's rows before the batch."""
        if seq <= self.last_seq and seq not in self.holes:
            return False
        if seq > self.last_seq:
            first = max(self.last_seq + 1, seq - MAX_HOLES)
            self.holes.update(range(first, seq))
            while len(self.holes) > MAX_HOLES:
                self.holes.remove(min(self.holes))
            self.last_seq = seq
        self.holes.discard(seq)
        self.stored += count
        self.owed = max(self.owed, sent - dropped + count)
        self.sent = max(self.sent, sent + count)
        self.dropped = max(self.dropped, dropped)
        self.tail = 0
        return True

    def acknowledge(self, last_seq: int, sent: int, dropped: int, written: int | None = None) -> bool:
        """Enter an ack; whether it was news. Call it only when everything written before the ack has been read."""
        before = (self.sent, self.dropped, self.lost)
        if sent > self.sent or dropped > self.dropped or (written or 0) > self.owed:
            self.closed = False
        self.sent = max(self.sent, sent)
        self.dropped = max(self.dropped, dropped)
        if written is not None:
            self.owed = max(self.owed, written)
            self.tail = 0
        elif last_seq > self.last_seq:
            self.tail = max(0, self.sent - self.dropped - max(self.owed, self.stored))
        return before != (self.sent, self.dropped, self.lost)

    def close(self) -> bool:
        """The producer is gone; whether that was news. An ack after all opens the account again."""
        was, self.closed = self.closed, True
        return not was


@dataclass(slots=True, frozen=True)
class Totals:
    sent: int
    stored: int
    dropped: int
    lost: int


def total(accounts: Iterable[Account]) -> Totals:
    """Sums over producers."""
    sent = stored = dropped = lost = 0
    for account in accounts:
        sent += account.sent
        stored += account.stored
        dropped += account.dropped
        lost += account.lost
    return Totals(sent, stored, dropped, lost)
