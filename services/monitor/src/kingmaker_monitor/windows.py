"""Time as part of every aggregate's key: panes of five minutes, aligned to UTC, and the total over a rollout.

Evidence reads the total. Panes of the last day are kept beside it, so that windows can be sums of panes;
a pane belongs to the time of the prediction, also for what its label says a month later.
"""

from typing import Final

PANE_MS: Final = 5 * 60 * 1000
TOTAL: Final = -1
"""The pane that holds everything since the rollout started."""
KEEP_MS: Final = 24 * 3600 * 1000


def pane_of(unix_ms: int) -> int:
    """Start of the pane, unix milliseconds."""
    return unix_ms - unix_ms % PANE_MS


def is_kept(pane: int, now_ms: int) -> bool:
    """Whether a pane is still worth writing. TOTAL always is."""
    return pane == TOTAL or pane >= pane_of(now_ms - KEEP_MS)
