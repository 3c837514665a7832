"""Prediction ids: UUIDv7 (RFC 9562, section 5.7) whose last byte is the event partition.

Time-ordered ids tell a reader when a prediction was made, and the partition byte tells the gateway
which stream a late label belongs to, so prediction and label meet without a look-up.
Row i of a request is `<id>.<i>`; `<id>` alone means row 0 of a one-row request.
"""

import functools
import re
import struct
from binascii import hexlify
from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

import numpy as np

_TEXT: Final = re.compile(
    r"([0-9a-fA-F]{8}-[0-9a-fA-F]{4}-7[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12})(?:\.(\d{1,5}))?"
)
MAX_ROW: Final = 65535
SPAN_MS: Final = 1 << 16
"""Ids whose times differ by less, from a multiple of it on, differ in time by their last two bytes alone."""
BLANK: Final = 16 + 36
"""The bytes of an id and its text, one after the other."""
_STAMPED: Final = (4, 5, *range(16 + 9, 16 + 13))
"""Where in them stands what differs between milliseconds of a span."""
_TAIL: Final = struct.Struct("6x10s13x23s")
"""Of a blank: what stands behind the time, bytes and text."""
_MANY: Final = 8
"""From here on it pays to stamp them together."""


class RowId(NamedTuple):
    """One prediction: the request's id (16 bytes) and the row, None when the client named none."""

    id: bytes
    row: int | None


def new(unix_ms: int, noise: bytes, partition: int) -> bytes:
    """The 16 bytes of an id. noise: 9 random bytes; partition: 0..255, the last byte."""
    if len(noise) != 9:
        raise ValueError(f"an id takes 9 bytes of noise, got {len(noise)}")
    raw = bytearray(unix_ms.to_bytes(6, "big") + noise + bytes((partition,)))
    raw[6] = 0x70 | raw[6] & 0x0F
    raw[8] = 0x80 | raw[8] & 0x3F
    return bytes(raw)


@functools.lru_cache(maxsize=1)
def head(unix_ms: int) -> tuple[bytes, bytes]:
    """The first 6 bytes of an id, and their text in ASCII: what all ids of a millisecond share."""
    raw = unix_ms.to_bytes(6, "big")
    digits = hexlify(raw)
    return raw, b"%b-%b" % (digits[:8], digits[8:])


def blanks(unix_ms: int, noise: bytes, partition: int) -> bytes:
    """Many ids but for the last two bytes of their time, for `stamped`: BLANK bytes each. noise: 9 random bytes for
    each. They hold for all times with the same unix_ms // SPAN_MS."""
    count = len(noise) // 9
    raw = np.empty((count, 10), np.uint8)
    raw[:, :9] = np.frombuffer(noise, np.uint8).reshape(count, 9)
    raw[:, 0] = 0x70 | raw[:, 0] & 0x0F
    raw[:, 2] = 0x80 | raw[:, 2] & 0x3F
    raw[:, 9] = partition
    digits = np.frombuffer(hexlify(raw.tobytes()), np.uint8).reshape(count, 20)
    first, words = head(unix_ms)
    made = np.empty((count, BLANK), np.uint8)
    made[:] = np.frombuffer(first + bytes(10) + words + b"-" * 23, np.uint8)
    for place, part in ((6, raw), (30, digits[:, :4]), (35, digits[:, 4:8]), (40, digits[:, 8:])):
        made[:, place : place + part.shape[1]] = part
    return made.tobytes()


def stamped(blanks: bytes, unix_ms: int) -> tuple[Sequence[bytes], Sequence[bytes]]:
    """Ids from blanks that are used for nothing else: `new` of the same noise, and their texts in ASCII. Of many, what
    is to be done for each is done in C."""
    count = len(blanks) // BLANK
    first, words = head(unix_ms)
    if count == 1:
        raw, text = _TAIL.unpack(blanks)
        return [first + raw], [words + text]
    if count < _MANY:
        tails = list(_TAIL.iter_unpack(blanks))
        return [first + raw for raw, _ in tails], [words + text for _, text in tails]
    made, time = bytearray(blanks), bytearray(first[4:] + words[9:])
    for at, place in enumerate(_STAMPED):
        made[place::BLANK] = time[at : at + 1] * count
    ids = struct.unpack("16s36s" * count, made)
    return ids[::2], ids[1::2]


def text(raw: bytes) -> str:
    """As UUIDs are written. (str(UUID(bytes=raw)) takes five times as long, on every prediction.)"""
    digits = raw.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def parse(value: str) -> RowId:
    """`<uuid>` or `<uuid>.<row>`; ValueError that says what was found."""
    match = _TEXT.fullmatch(value)
    if match is None:
        raise ValueError(f"{value[:80]!r} is not a prediction id, expected <UUIDv7> or <UUIDv7>.<row>")
    row = None if match[2] is None else int(match[2])
    if row is not None and row > MAX_ROW:
        raise ValueError(f"{value!r} names row {row}; the last possible row is {MAX_ROW}")
    return RowId(UUID(match[1]).bytes, row)


def partition_of(raw: bytes) -> int:
    return raw[15]


def unix_ms_of(raw: bytes) -> int:
    return int.from_bytes(raw[:6], "big")
