"""Prediction ids by the hundred: all but the time is made ahead, bytes and text, in a few steps for many."""

import os
import time
from collections.abc import Callable, Sequence
from typing import Final

from kingmaker_contracts import prediction_ids
from kingmaker_contracts.prediction_ids import BLANK, SPAN_MS

_AHEAD: Final = 512


class Ids:
    """partition: goes into every id; clock_ns: since 1970."""

    def __init__(self, partition: int, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._clock_ns = clock_ns
        self._partition = partition
        self._blanks = b""
        self._at = 0
        self._span = -1

    def take(self, count: int) -> tuple[Sequence[bytes], Sequence[bytes]]:
        """Ids nobody else has: the 16 bytes of each, and their texts in ASCII."""
        unix_ms, size = self._clock_ns() // 1_000_000, count * BLANK
        if unix_ms // SPAN_MS != self._span or len(self._blanks) - self._at < size:
            self._restock(unix_ms, count)
        start = self._at
        self._at = start + size
        return prediction_ids.stamped(self._blanks[start : self._at], unix_ms)

    def _restock(self, unix_ms: int, count: int) -> None:
        self._span = unix_ms // SPAN_MS
        self._blanks = prediction_ids.blanks(unix_ms, os.urandom(9 * max(count, _AHEAD)), self._partition)
        self._at = 0
