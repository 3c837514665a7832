"""What one round adds to the aggregates, collected before it is merged into totals and panes."""

from kingmaker_monitor.aggregates import Aggregate
from kingmaker_monitor.state import ModelState
from kingmaker_monitor.store import Store
from kingmaker_monitor.windows import TOTAL, is_kept


class Changes:
    """Additions of one model by arm and pane."""

    def __init__(self) -> None:
        self._added: dict[tuple[int, int], Aggregate] = {}

    def of(self, arm: int, pane: int) -> Aggregate:
        """The addition to write into."""
        return self._added.setdefault((arm, pane), Aggregate())

    def save(self, state: ModelState, store: Store, now_ms: int) -> None:
        """Merge into totals, which stay in memory, and into panes, which live in the store alone."""
        touched: set[int] = set()
        for (arm, pane), added in self._added.items():
            state.totals.setdefault(arm, Aggregate()).merge(added)
            touched.add(arm)
            if is_kept(pane, now_ms):
                kept = store.aggregate(arm, pane)
                kept.merge(added)
                store.save_aggregate(arm, pane, kept)
        for arm in touched:
            store.save_aggregate(arm, TOTAL, state.totals[arm])
