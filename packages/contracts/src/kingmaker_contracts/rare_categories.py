"""Which categories training knew beside the named ones: hashes, so that a rare one is not taken for a new one.

A profile names the hundred commonest categories of a feature. A column of airports has thousands, and whoever wants to
hear of values training never saw must not hear of each small airport. Names would cost what they cost; a hash costs
4 bytes (5.3 in JSON). A rare category is always found; a new one is taken for a rare one by chance,
once in 4.3 billion / hashes: with 40,000 of them, one new category in 107,000.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

METHOD: Final = "blake2b-32"
HASH_BYTES: Final = 4
_KIND: Final = np.dtype("<u4")


class RareCategories(msgspec.Struct, frozen=True):
    """As a profile holds them. hashes: rising, HASH_BYTES each, little-endian; method: how they are made. A reader that
    does not know the method does as if there were none."""

    hashes: bytes
    method: str = METHOD

    def __post_init__(self) -> None:
        if self.method != METHOD:
            return
        if len(self.hashes) % HASH_BYTES:
            raise ValueError(f"hashes have {len(self.hashes)} bytes, expected a multiple of {HASH_BYTES}")
        found = np.frombuffer(self.hashes, _KIND)
        if not (found[1:] > found[:-1]).all():
            raise ValueError("hashes must rise")

    @property
    def count(self) -> int:
        return len(self.hashes) // HASH_BYTES


@dataclass(slots=True, frozen=True)
class RareNames:
    """Says of a text whether training knew it."""

    hashes: bytes

    def __contains__(self, text: str) -> bool:
        known = np.frombuffer(self.hashes, _KIND)
        wanted = _hash(text)
        at = int(known.searchsorted(_KIND.type(wanted)))  # a plain int is wider: all hashes would be copied
        return at < len(known) and int(known[at]) == wanted


def of(texts: Iterable[str]) -> RareCategories:
    """What a profile keeps of these categories."""
    return RareCategories(np.unique(np.array([_hash(text) for text in texts], _KIND)).tobytes())


def read(kept: RareCategories | None) -> RareNames | None:
    """None for none, and for a method of a later release."""
    return RareNames(kept.hashes) if kept is not None and kept.method == METHOD else None


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=HASH_BYTES).digest()
    return int.from_bytes(digest, "little")
