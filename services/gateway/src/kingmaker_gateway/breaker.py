"""Keep requests away from a challenger that keeps failing, and find out when it is well again.

Closed: everything passes. After so many failures in a row it opens: nothing passes, the champion
answers. After a while it is half open: one request at a time passes as a probe (its client is
protected by the fallback like any other); enough good probes close it, one bad one opens it again.
Pure: the clock is an argument.
"""

from enum import IntEnum

from kingmaker_gateway.settings import BreakerSettings


class State(IntEnum):
    """The value of the metric."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Breaker:
    """One challenger's. Every request that `admits` let through ends in `succeeded`, `failed` or `abandoned`."""

    def __init__(self, settings: BreakerSettings) -> None:
        self._threshold = settings.failures
        self._open_s = settings.open_ms / 1000
        self._needed = settings.probes
        self._failures = 0
        self._good_probes = 0
        self._probing = False
        self._open_until = 0.0
        self.state = State.CLOSED

    def would_admit(self, now: float) -> bool:
        """What `admits` would say, without taking the probe."""
        if self.state is State.CLOSED:
            return True
        return not self._probing and (self.state is State.HALF_OPEN or now >= self._open_until)

    def admits(self, now: float) -> bool:
        """Whether a request may pass; in half-open state it takes the one probe."""
        if not self.would_admit(now):
            return False
        if self.state is not State.CLOSED:
            self.state = State.HALF_OPEN
            self._probing = True
        return True

    def succeeded(self) -> None:
        self._failures = 0
        if self.state is State.HALF_OPEN:
            self._probing = False
            self._good_probes += 1
            if self._good_probes >= self._needed:
                self.state = State.CLOSED

    def failed(self, now: float) -> None:
        self._failures += 1
        if self.state is State.HALF_OPEN or (self.state is State.CLOSED and self._failures >= self._threshold):
            self.state = State.OPEN
            self._open_until = now + self._open_s
            self._good_probes = 0
            self._probing = False

    def close(self) -> None:
        """Forget what was."""
        self._failures = 0
        self._probing = False
        self.state = State.CLOSED

    def abandoned(self) -> None:
        """The request ended without telling anything (it was cancelled)."""
        self._probing = False
