"""What one round adds to the aggregates, collected before it is merged into totals, windows and panes."""

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
        """Merge into totals and windows, which stay in memory, and into panes, which lie in the store alone.

        What no window can hold (see `windows.is_kept`) goes into the total and nowhere else.
        """
        arms = {number: arm for arm, number in state.arms.items()}
        for (number, pane), added in self._added.items():
            total = self._total(state, store, number, is_current=state.is_current(arms[number]))
            total.merge(added)
            store.save_aggregate(number, TOTAL, total)
            if is_kept(pane, now_ms):
                kept = store.aggregate(state, number, pane)
                kept.merge(added)
                store.save_aggregate(number, pane, kept)
                for window in state.windows.values():
                    window.add(number, pane, added)

    @staticmethod
    def _total(state: ModelState, store: Store, arm: int, *, is_current: bool) -> Aggregate:
        if not is_current:
            return store.aggregate(state, arm, TOTAL)
        return state.totals.setdefault(arm, Aggregate())
