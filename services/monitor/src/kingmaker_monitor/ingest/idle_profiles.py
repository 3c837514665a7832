"""Forget the profiles in the state file that nothing needs any more: a model trained every night leaves one a day.

A profile is needed while a plan names it, somebody has asked for it lately, a kept pane was counted with it, or a
prediction waits whose label it would judge. To find the last, predictions would need an index that takes a tenth of the
file. Ids rise with time, so it is enough to know since when nothing else needs the profile: once the oldest prediction
that waits is younger than that, none is left that came with it. Should one be needed after all, it is fetched anew.
"""

from collections.abc import Collection, Iterable

from kingmaker_contracts.prediction_ids import unix_ms_of
from kingmaker_monitor.state import ModelState
from kingmaker_monitor.store import Store
from kingmaker_monitor.windows import TOTAL

_OF_PANES = "SELECT DISTINCT schema FROM arms a WHERE EXISTS(SELECT 1 FROM aggregates WHERE arm = a.arm AND pane > ?)"


def forget(store: Store, states: Collection[ModelState], in_use: Iterable[str], now_ms: int) -> list[str]:
    """Inside a transaction; gives what was forgotten. in_use: asked for lately."""
    needed = {*in_use, *_planned(states), *(schema for (schema,) in store.sql.execute(_OF_PANES, (TOTAL,)))}
    since = dict(store.sql.execute("SELECT sha256, since FROM idle_profiles").fetchall())
    store.sql.executemany("DELETE FROM idle_profiles WHERE sha256 = ?", [(sha256,) for sha256 in since.keys() & needed])
    idle = [sha256 for sha256 in store.profiles() if sha256 not in needed]
    store.sql.executemany("INSERT OR IGNORE INTO idle_profiles VALUES(?, ?)", [(sha256, now_ms) for sha256 in idle])
    oldest = [({arm.schema for arm in state.arms}, _oldest(store, state, now_ms)) for state in states]
    gone = [
        sha256
        for sha256 in idle
        if sha256 in since and all(since[sha256] < waiting for schemas, waiting in oldest if sha256 in schemas)
    ]
    store.sql.executemany("DELETE FROM profiles WHERE sha256 = ?", [(sha256,) for sha256 in gone])
    store.sql.executemany("DELETE FROM idle_profiles WHERE sha256 = ?", [(sha256,) for sha256 in gone])
    return gone


def _planned(states: Iterable[ModelState]) -> set[str]:
    return {
        variant.profile
        for state in states
        if state.plan is not None
        for variant in state.plan.variants
        if variant.profile is not None
    }


def _oldest(store: Store, state: ModelState, now_ms: int) -> int:
    """When the oldest prediction was made that still waits, unix milliseconds; now when none does."""
    (id,) = store.sql.execute("SELECT min(id) FROM predictions WHERE model = ?", (state.number,)).fetchone()
    return now_ms if id is None else unix_ms_of(id)
