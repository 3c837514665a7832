"""How many rows of a producer arrived, were dropped, or are proven lost.

Every batch says how many rows its producer had offered and given up before it, so what should have
arrived up to and with a batch is sent - dropped + count. The largest such number less what did arrive is
lost; a batch that comes late after all takes its rows out of the loss again. A loss behind the last batch
shows in the gateway's ack, and counts only once the stream was read to its end after that ack. When a
gateway's life is over, what it still had in its buffer is lost too: then lost = sent - dropped - stored.

Every restart of a gateway is a life, so lives that can say nothing more are folded into one sum. A life can when it may
be read again: a stream that forgot its end is read from its beginning, and then the account tells what was seen.
So a life is folded once nothing of it is left in its stream, and never while an ack speaks for it. A folded life that
speaks again all the same is taken out of the sum and goes on where it was; the file remembers 10,000 for that.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

from kingmaker_monitor.positions import START, id_of

Key = TypeVar("Key")

MAX_HOLES: Final = 1000
"""Missing sequence numbers remembered for a producer; an older one that still arrives counts as a duplicate."""


@dataclass(slots=True)
class Account:
    """One producer on one stream, in rows. owed: what should have arrived up to the newest batch or ack;
    tail: what an ack without `written` says is missing behind it; closed: this life is over; number: of the life,
    in the order they were first seen; last_entry: id of its newest entry in the stream."""

    last_seq: int = 0
    sent: int = 0
    dropped: int = 0
    stored: int = 0
    owed: int = 0
    tail: int = 0
    holes: set[int] = field(default_factory=set)
    closed: bool = False
    number: int = 0
    last_entry: bytes = START

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

    def seen_at(self, entry: bytes) -> None:
        """An entry of it was read, counted or not."""
        if id_of(entry) > id_of(self.last_entry):
            self.last_entry = entry

    def close(self) -> bool:
        """The producer is gone; whether that was news. An ack after all opens the account again."""
        was, self.closed = self.closed, True
        return not was


def finished(
    accounts: Mapping[Key, Account], *, first_entry: bytes | None, acked: Collection[Key], keep: int
) -> list[Key]:
    """Lives on one stream that can say nothing more, but for the newest `keep` of those that are over.

    The newest lives stay in sight. first_entry: the oldest the stream still holds, None when it is empty.
    """
    over = sorted((key for key, one in accounts.items() if one.closed), key=lambda key: accounts[key].number)
    return [
        key
        for key in over[: max(0, len(over) - keep)]
        if key not in acked and (first_entry is None or id_of(first_entry) > id_of(accounts[key].last_entry))
    ]


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
