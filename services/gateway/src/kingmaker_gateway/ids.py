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

    def new(self) -> tuple[bytes, bytes]:
        """An id nobody else has: its 16 bytes, and its text in ASCII."""
        unix_ms = time.time_ns() // 1_000_000
        if unix_ms != self._unix_ms:
            self._unix_ms = unix_ms
            self._head, self._head_text = prediction_ids.head(unix_ms)
        if not self._tails:
            self._tails = prediction_ids.tails(os.urandom(9 * _AHEAD), self._partition)
        tail, tail_text = self._tails.pop()
        return self._head + tail, self._head_text + tail_text
