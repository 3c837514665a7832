"""Notices when the wall clock jumps: what is deleted by age waits until it has been steady for a while.

A clock that is set forward by a day would empty every window and expire every pending prediction, and putting it
right again would not bring them back. Reading and counting go on: a row's time is the gateway's, not ours.
"""

import logging
from typing import Final

logger = logging.getLogger(__name__)

JUMP_S: Final = 60.0
"""How far wall and monotonic clock may drift apart between two looks; a slewed clock stays far below."""
WAIT_S: Final = 600.0
"""How long the clock must be steady after a jump before anything is moved or deleted by it."""


class SteadyClock:
    """jumps: how many were seen since the start."""

    def __init__(self) -> None:
        self.jumps = 0
        self._last: tuple[float, float] | None = None
        self._trusted_from = 0.0

    def is_so(self, wall_s: float, monotonic_s: float) -> bool:
        """Enter a look at both clocks; whether deletions by age may go on."""
        last, self._last = self._last, (wall_s, monotonic_s)
        if last is not None:
            jump = (wall_s - last[0]) - (monotonic_s - last[1])
            if abs(jump) >= JUMP_S:
                self.jumps += 1
                self._trusted_from = monotonic_s + WAIT_S
                logger.warning("the clock jumped; windows and retention wait", extra={"seconds": round(jump)})
        return monotonic_s >= self._trusted_from
