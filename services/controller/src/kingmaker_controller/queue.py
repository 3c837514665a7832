"""Which models are due for a reconcile: each stands in the queue once, however often it was reported.

A model whose reconcile failed waits, longer each time; only something new about it brings it forward. Pure:
the clock is passed in.
"""

from typing import Final

FIRST_WAIT_S: Final = 0.25
LONGEST_WAIT_S: Final = 30.0


class WorkQueue:
    """Keys with the moment they are due, in seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._failures: dict[str, int] = {}

    def add(self, key: str, now: float) -> None:
        """Something about it is new: it is due now, also when it was waiting after a failure."""
        self._due[key] = min(now, self._due.get(key, now))

    def add_after(self, key: str, due: float) -> None:
        """Look again then, unless it is due before."""
        self._due[key] = min(due, self._due.get(key, due))

    def sweep(self, key: str, now: float) -> None:
        """Due now, unless it waits after a failure."""
        if key not in self._failures:
            self.add(key, now)

    def take(self, now: float) -> list[str]:
        """Everything that is due, the longest waiting first."""
        keys = sorted((key for key, due in self._due.items() if due <= now), key=lambda key: self._due[key])
        for key in keys:
            del self._due[key]
        return keys

    def succeeded(self, key: str) -> None:
        self._failures.pop(key, None)

    def failed(self, key: str, now: float) -> None:
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self.add_after(key, now + min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(failures, 20)))

    def forget(self, key: str) -> None:
        self._due.pop(key, None)
        self._failures.pop(key, None)

    def wait_s(self, now: float, longest: float) -> float:
        """Until the next one is due."""
        return max(0.0, min([longest, *(due - now for due in self._due.values())]))
