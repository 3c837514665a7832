"""Prediction ids: UUIDv7 (RFC 9562, section 5.7) whose last byte is the event partition.

Time-ordered ids tell a reader when a prediction was made, and the partition byte tells the gateway
which stream a late label belongs to, so prediction and label meet without a look-up.
Row i of a request is `<id>.<i>`; `<id>` alone means row 0 of a one-row request.
"""

import re
from binascii import hexlify
from typing import Final, NamedTuple
from uuid import UUID

_TEXT: Final = re.compile(
    r"([0-9a-fA-F]{8}-[0-9a-fA-F]{4}-7[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12})(?:\.(\d{1,5}))?"
)
MAX_ROW: Final = 65535
_VERSION: Final = bytes(0x70 | byte & 0x0F for byte in range(256))
_TAIL_CHARS: Final = len("-7xxx-8xxx-xxxxxxxxxxxx")
_DIGITS: Final = [at for at in range(_TAIL_CHARS) if at not in (0, 5, 10)]
_VARIANT: Final = bytes(0x80 | byte & 0x3F for byte in range(256))


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


def head(unix_ms: int) -> tuple[bytes, bytes]:
    """The first 6 bytes of an id, and their text in ASCII: what all ids of a millisecond share."""
    raw = unix_ms.to_bytes(6, "big")
    digits = hexlify(raw)
    return raw, b"%b-%b" % (digits[:8], digits[8:])


def tails(noise: bytes, partition: int) -> list[tuple[bytes, bytes]]:
    """The rest of many ids, bytes and text in ASCII: `new` is head + tail of the same noise, for a fifth of its price.
    noise: 9 random bytes for each."""
    raw = bytearray(len(noise) // 9 * 10)
    for at in range(9):
        raw[at::10] = noise[at::9]
    raw[0::10] = raw[0::10].translate(_VERSION)
    raw[2::10] = raw[2::10].translate(_VARIANT)
    raw[9::10] = bytes((partition,)) * (len(raw) // 10)
    digits = hexlify(raw)
    words = bytearray(b"-" * (len(raw) // 10 * _TAIL_CHARS))
    for at, place in enumerate(_DIGITS):
        words[place::_TAIL_CHARS] = digits[at::20]
    raws, texts = bytes(raw), bytes(words)
    return [
        (raws[10 * at : 10 * at + 10], texts[_TAIL_CHARS * at : _TAIL_CHARS * (at + 1)]) for at in range(len(raw) // 10)
    ]


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
