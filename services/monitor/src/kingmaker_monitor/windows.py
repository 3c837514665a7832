"""Time as part of every aggregate's key: panes of five minutes, aligned to UTC, and sums of panes.

A pane belongs to the time of the prediction, also for what its label says a month later. Panes lie in the state
file for a day; what is looked at stands in memory as sums that slide: a pane's counts are added when they come
and subtracted when the pane leaves the window, so a look costs nothing and memory does not grow with time.
An hour is the running pane and the eleven before it; the two hours before it are kept beside it, for a verdict
takes more than one of them.
"""

from dataclasses import dataclass, field
from typing import Final, Literal

from kingmaker_monitor.aggregates import Aggregate

PANE_MS: Final = 5 * 60 * 1000
TOTAL: Final = -1
"""The pane that holds everything since the rollout started."""
KEEP_MS: Final = 24 * 3600 * 1000
_HOUR_MS: Final = 3600 * 1000
_OPEN: Final = 1 << 62

Sliding = Literal["1h", "24h", "hour before", "two hours before"]
WINDOWS: Final[dict[Sliding, tuple[int, int]]] = {
    "1h": (_HOUR_MS, 0),
    "24h": (KEEP_MS, 0),
    "hour before": (_HOUR_MS, _HOUR_MS),
    "two hours before": (_HOUR_MS, 2 * _HOUR_MS),
}
"""How long, and how long ago it ended."""
HOURS: Final[tuple[Sliding, ...]] = ("two hours before", "hour before", "1h")


def pane_of(unix_ms: int) -> int:
    """Start of the pane, unix milliseconds."""
    return unix_ms - unix_ms % PANE_MS


def is_kept(pane: int, now_ms: int) -> bool:
    """Whether any window may hold a pane: not one of the future, beyond what clocks differ by, nor older than a day."""
    return oldest_kept(now_ms) <= pane <= pane_of(now_ms) + PANE_MS


def oldest_kept(now_ms: int) -> int:
    """The oldest pane that any window holds."""
    return pane_of(now_ms) - KEEP_MS + PANE_MS


@dataclass(slots=True)
class Window:
    """Sums over the panes from `first` up to and without `end`, by arm. Both 0 before anything was summed.

    blurred: a pane left whose sums of floats were so much larger than what stays that the rest has lost its digits.
    """

    length_ms: int
    ago_ms: int
    first: int = 0
    end: int = 0
    sums: dict[int, Aggregate] = field(default_factory=dict)
    blurred: bool = False

    def forget(self) -> None:
        """As before anything was summed."""
        self.first = self.end = 0
        self.sums = {}
        self.blurred = False

    def at(self, now_ms: int) -> tuple[int, int]:
        """The panes it holds at that time. The newest window is open: clocks differ."""
        end = pane_of(now_ms) - self.ago_ms + PANE_MS
        return end - self.length_ms, end if self.ago_ms else _OPEN

    def add(self, arm: int, pane: int, added: Aggregate) -> None:
        """Counts that came for a pane; others than the window's do not concern it."""
        if self.first <= pane < self.end:
            self.sums.setdefault(arm, Aggregate()).merge(added)

    def subtract(self, arm: int, gone: Aggregate) -> None:
        """A pane that left. An arm nothing is left of is forgotten."""
        have = self.sums.get(arm)
        if have is not None:
            have.subtract(gone)
            if not have.get("rows", 1).any():  # every counted row is in "rows"; sums of floats may keep a trace
                del self.sums[arm]
            else:
                self.blurred |= have.is_dwarfed_by(gone)


def new_windows() -> dict[Sliding, Window]:
    return {name: Window(*spec) for name, spec in WINDOWS.items()}
