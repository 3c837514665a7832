"""Prediction ids by the hundred: all but the time is made ahead, bytes and text, in a few steps for many."""

import os
import time
from typing import Final

from kingmaker_contracts import prediction_ids

_AHEAD: Final = 512


class Ids:
    """partition: goes into every id."""

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self._tails: list[tuple[bytes, bytes]] = []
        self._unix_ms = -1
        self._head = b""
        self._head_text = b""

    def take(self, count: int) -> list[tuple[bytes, bytes]]:
        """Ids nobody else has: the 16 bytes of each, and its text in ASCII."""
        unix_ms = time.time_ns() // 1_000_000
        if unix_ms != self._unix_ms:
            self._unix_ms = unix_ms
            self._head, self._head_text = prediction_ids.head(unix_ms)
        if len(self._tails) < count:
            self._tails += prediction_ids.tails(os.urandom(9 * max(count, _AHEAD)), self._partition)
        head, head_text = self._head, self._head_text
        rest = len(self._tails) - count
        taken = [(head + tail, head_text + text) for tail, text in self._tails[rest:]]
        del self._tails[rest:]
        return taken
