"""Ctrl-C that is not lost in somebody else's code.

Python raises KeyboardInterrupt wherever it happens to be. Libraries that train and convert catch everything here and
there, and what is raised in a finalizer is only printed: then the person at the keyboard has asked in vain.
"""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Final

AGAIN_S: Final = 2.0


@contextlib.contextmanager
def insisting(again_s: float = AGAIN_S) -> Iterator[None]:
    """Inside, an interrupt is raised again every again_s seconds until the block has been left. In the main thread."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, again_s)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGALRM)}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
