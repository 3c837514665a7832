"""Time as part of every aggregate's key: panes of five minutes, aligned to UTC, and sums of panes.

A pane belongs to the time of the prediction, also for what its label says a month later. Panes lie in the state
file for a day; what is looked at stands in memory as sums that slide: a pane's counts are added when they come
and subtracted when the pane leaves the window, so a look costs nothing and memory does not grow with time.
An hour is the running pane and the eleven before it.
"""

from dataclasses import dataclass, field
from typing import Final, Literal

from kingmaker_monitor.aggregates import Aggregate

PANE_MS: Final = 5 * 60 * 1000
TOTAL: Final = -1
"""The pane that holds everything since the rollout started."""
KEEP_MS: Final = 24 * 3600 * 1000
Sliding = Literal["1h", "24h"]
WINDOWS: Final[dict[Sliding, int]] = {"1h": 3600 * 1000, "24h": KEEP_MS}


def pane_of(unix_ms: int) -> int:
    """Start of the pane, unix milliseconds."""
    return unix_ms - unix_ms % PANE_MS


def is_kept(pane: int, now_ms: int) -> bool:
    """Whether any window may hold a pane: not one of the future, beyond what clocks differ by, nor older than a day."""
    return oldest_kept(now_ms) <= pane <= pane_of(now_ms) + PANE_MS


def oldest_kept(now_ms: int) -> int:
    """The oldest pane that any window holds."""
    return first_pane(KEEP_MS, now_ms)


def first_pane(length_ms: int, now_ms: int) -> int:
    """The oldest pane of a window that ends with the running pane."""
    return pane_of(now_ms) - length_ms + PANE_MS


@dataclass(slots=True)
class Window:
    """Sums over the panes from `first` on, by arm. first: None before anything was summed."""

    length_ms: int
    first: int | None = None
    sums: dict[int, Aggregate] = field(default_factory=dict)

    def add(self, arm: int, pane: int, added: Aggregate) -> None:
        """Counts that came for a pane; older ones than the window do not concern it."""
        if self.first is not None and pane >= self.first:
            self.sums.setdefault(arm, Aggregate()).merge(added)

    def subtract(self, arm: int, gone: Aggregate) -> None:
        """A pane that left. An arm nothing is left of is forgotten."""
        have = self.sums.get(arm)
        if have is not None:
            have.subtract(gone)
            if not any(values.any() for values in have.arrays.values()):
                del self.sums[arm]


def new_windows() -> dict[Sliding, Window]:
    return {name: Window(length) for name, length in WINDOWS.items()}
