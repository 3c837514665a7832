"""Waiting for something to come true, with an end to it and words about what was seen last."""

import time
from collections.abc import Callable
from typing import Any

import httpx

from kingmaker_contracts import wire

NOT_YET = (wire.BadRecord, httpx.HTTPError, LookupError, TypeError, AttributeError, StopIteration)
"""What looking raises while a thing is not there."""


def until(holds: Callable[[], Any], what: str, seconds: float, told: Callable[[], str]) -> Any:
    """Poll until something holds; its value. told: for the failure, what everybody said."""
    deadline = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < deadline:
        try:
            last = holds()
            if last:
                return last
        except NOT_YET as error:
            last = error
        time.sleep(0.03)
    raise AssertionError(f"{what} did not come true; last: {last!r}\n{told()}")
