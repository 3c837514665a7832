"""Prediction ids by the thousand: the random bytes are drawn ahead, a system call for many."""

import os
import time
from typing import Final

from kingmaker_contracts import prediction_ids

_NOISE: Final = 9
_DRAWN: Final = 1024


class Ids:
    """partition: goes into every id."""

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self._pool = b""
        self._at = 0

    def new(self) -> tuple[bytes, str]:
        """An id nobody else has: its 16 bytes, and its text."""
        if self._at >= len(self._pool):
            self._pool, self._at = os.urandom(_NOISE * _DRAWN), 0
        noise = self._pool[self._at : self._at + _NOISE]
        self._at += _NOISE
        raw = prediction_ids.new(time.time_ns() // 1_000_000, noise, self._partition)
        return raw, prediction_ids.text(raw)
