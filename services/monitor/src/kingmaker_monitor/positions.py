"""Where a stream stands beside where we are in it: what was trimmed before it was read, and how much is left.

The consumer group lag of XINFO is wrong after a trim on every Redis 7, so it is not asked for. `entries-added`
counts every entry a stream ever had and `length` those it holds, so their difference was removed; with our own
count of entries read, the rest follows.
"""

from dataclasses import dataclass
from typing import Any, Final

START: Final = b"0-0"


@dataclass(slots=True, frozen=True)
class Extent:
    """A stream as Redis tells it. last: the newest id it ever gave; added: entries it ever got; length: it holds;
    first: the oldest of those, None when there is none."""

    last: bytes
    added: int
    length: int
    first: bytes | None = None


@dataclass(slots=True, frozen=True)
class Position:
    """Where a reader is. offset: the last id it read; read: entries up to there, removed ones included."""

    offset: bytes = START
    read: int = 0


@dataclass(slots=True, frozen=True)
class Standing:
    """position: to go on from; trimmed: entries that were removed before they were read; replaced: this is not the
    stream that was read before, or it forgot its end, so it is read from its beginning; waiting: entries not read
    yet; behind_ms: by the ids, how much older our last entry is than the newest."""

    position: Position
    trimmed: int
    replaced: bool
    waiting: int
    behind_ms: int


def of_info(info: dict[str, Any]) -> Extent:
    """From XINFO STREAM, as redis-py gives it. Raises KeyError, ValueError for a server that tells less."""
    first = _bytes(info["recorded-first-entry-id"]) if info["length"] else None
    return Extent(_bytes(info["last-generated-id"]), int(info["entries-added"]), info["length"], first)


def standing(position: Position, extent: Extent) -> Standing:
    """Compare. A replaced stream is read from its beginning: what was seen before is told by its numbers.

    Entries trimmed from under a reader that went on behind them show for certain once it has read the newest. A stream
    that forgot its end and still holds an entry we have passed is the one we read: what it has lost before was read.
    """
    replaced = id_of(extent.last) < id_of(position.offset) or extent.added < position.read
    if replaced:
        is_known = extent.first is not None and id_of(extent.first) <= id_of(position.offset)
        position = Position(START, extent.added - extent.length if is_known else 0)
    at_end = id_of(position.offset) == id_of(extent.last)
    removed = extent.added if at_end else extent.added - extent.length
    trimmed = max(0, removed - position.read)
    read = position.read + trimmed
    behind = 0 if position.offset == START else id_of(extent.last)[0] - id_of(position.offset)[0]
    waiting = extent.added - read
    return Standing(Position(position.offset, read), trimmed, replaced, waiting, behind if waiting else 0)


def _bytes(entry: bytes | str) -> bytes:
    return entry if isinstance(entry, bytes) else entry.encode()


def id_of(raw: bytes) -> tuple[int, int]:
    """An entry id as numbers that compare as Redis compares: milliseconds, number within."""
    milliseconds, _, number = raw.partition(b"-")
    return int(milliseconds), int(number or 0)
