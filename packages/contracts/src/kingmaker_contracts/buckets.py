"""Buckets 0..9999 and the ranges that give them to challengers; the champion owns what is left.

bucket = blake2b(salt 00 key, 8 bytes, big-endian) mod 10000: equal on every gateway and after every
restart. Ranges are written `gbm:0-499,nn:500-999`; one name may own several. They are history, not a
function of the weights: a change moves only the buckets it must (see the controller's allocation).
"""

import hashlib
import itertools
import re
import struct
from collections.abc import Callable, Sequence
from typing import Final

COUNT: Final = 10000
PER_PERCENT: Final = COUNT // 100

Ranges = dict[str, list[tuple[int, int]]]
"""Challenger to its (first, last) buckets, both inclusive, ascending."""

_MANY: Final = 8
"""Keys that are hashed in steps for all of them: each is taken in C, and all together are dearer for a few keys."""
_PART: Final = re.compile(r"([a-z0-9](?:[-a-z0-9]*[a-z0-9])?):(\d{1,4})-(\d{1,4})")


def bucket_of(salt: str, key: str) -> int:
    """The bucket of one caller, 0..9999."""
    return salted(salt)(key.encode())


def salted(salt: str) -> Callable[[bytes], int]:
    """`bucket_of` for one salt and many keys, in UTF-8."""
    start = salt.encode() + b"\x00"
    hash, number = hashlib.blake2b, int.from_bytes

    def bucket(key: bytes) -> int:
        return number(hash(start + key, digest_size=8).digest(), "big") % COUNT

    return bucket


def owners(salt: str, owner: bytes) -> Callable[[Sequence[bytes]], list[int]]:
    """`owner[bucket_of(salt, key)]` of many keys, in UTF-8. owner: of each bucket."""
    bucket, start = salted(salt), hashlib.blake2b(salt.encode() + b"\x00", digest_size=8)
    copy, update, digest = hashlib.blake2b.copy, hashlib.blake2b.update, hashlib.blake2b.digest

    def owners_of(keys: Sequence[bytes]) -> list[int]:
        if len(keys) < _MANY:
            return [owner[bucket(key)] for key in keys]
        hashes = list(map(copy, itertools.repeat(start, len(keys))))
        list(map(update, hashes, keys))
        numbers = struct.unpack(f">{len(keys)}Q", b"".join(map(digest, hashes)))
        return [owner[number % COUNT] for number in numbers]

    return owners_of


def key_hash(key: str) -> int:
    """The 64-bit number that stands for a sticky key in events, where the key itself never goes. Never 0."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") or 1


def parse(text: str) -> Ranges:
    """Ranges from their text. Raises ValueError for a malformed part, a falling range or an overlap."""
    ranges: Ranges = {}
    taken: list[tuple[int, int]] = []
    for part in filter(None, text.split(",")):
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"ranges: {part!r} is not name:first-last")
        first, last = int(match[2]), int(match[3])
        if first > last:
            raise ValueError(f"ranges: {part!r} falls")
        taken.append((first, last))
        ranges.setdefault(match[1], []).append((first, last))
    taken.sort()
    for (_, last), (first, _) in itertools.pairwise(taken):
        if first <= last:
            raise ValueError(f"ranges: bucket {first} is given twice")
    return {name: sorted(owned) for name, owned in ranges.items()}


def format(ranges: Ranges) -> str:
    """The text of ranges, ordered by first bucket."""
    parts = sorted((first, last, name) for name, owned in ranges.items() for first, last in owned)
    return ",".join(f"{name}:{first}-{last}" for first, last, name in parts)


def size(owned: list[tuple[int, int]]) -> int:
    """How many buckets a list of ranges holds."""
    return sum(last - first + 1 for first, last in owned)
