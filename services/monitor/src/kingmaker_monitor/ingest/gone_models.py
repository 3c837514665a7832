"""Forget what the state file holds of models that are gone: who makes and deletes one for every change would fill it.

A model that was deleted by mistake and comes back within a week goes on where it was. Ages lie in the file, so that
restarts do not begin them anew; a week without Redis, which names the models that are there, is no week without them.
"""

from collections.abc import Collection
from typing import Final

from kingmaker_monitor.state import ModelState
from kingmaker_monitor.store import Store

STAY_MS: Final = 7 * 86_400_000
_PIECE: Final = 20_000
"""Predictions, and labels, forgotten in one transaction: 0.1 s."""
_TABLES: Final = ("arms", "offsets", "producers", "folded", "gone_models")


def forget(store: Store, states: Collection[ModelState], there: Collection[str], now_ms: int) -> list[str]:
    """Inside a transaction; gives the names of those that have left the file. there: the models Redis names."""
    since = dict(store.sql.execute("SELECT model, since FROM gone_models").fetchall())
    gone = [state for state in states if state.name not in there]
    back = since.keys() - {state.number for state in gone}
    store.sql.executemany("DELETE FROM gone_models WHERE model = ?", [(number,) for number in back])
    store.sql.executemany("INSERT OR IGNORE INTO gone_models VALUES(?, ?)", [(state.number, now_ms) for state in gone])
    due = [state for state in gone if now_ms - since.get(state.number, now_ms) >= STAY_MS]
    return [state.name for state in due if _is_cleared(store, state.number)]


def _is_cleared(store: Store, model: int) -> bool:
    """Forget a piece of it; whether it was the last."""
    predictions = store.sql.execute(
        "DELETE FROM predictions WHERE number IN (SELECT number FROM predictions WHERE model = ? LIMIT ?)",
        (model, _PIECE),
    )
    labels = store.sql.execute(
        "DELETE FROM labels WHERE model = ?1 AND (id, row, source) IN"
        " (SELECT id, row, source FROM labels WHERE model = ?1 LIMIT ?2)",
        (model, _PIECE),
    )
    if _PIECE in (predictions.rowcount, labels.rowcount):
        return False
    store.sql.execute("DELETE FROM aggregates WHERE arm IN (SELECT arm FROM arms WHERE model = ?)", (model,))
    for table in _TABLES:
        store.sql.execute(f"DELETE FROM {table} WHERE model = ?", (model,))  # noqa: S608 - fixed names
    store.sql.execute("DELETE FROM models WHERE number = ?", (model,))
    return True
