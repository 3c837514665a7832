"""Predictions that wait for their label, and the answers of a champion and its shadows that meet by id and row.

The one place where predictions become rows: they go into SQLite with executemany, about 100 bytes each,
until the plan's pending_seconds are over. Failed answers are no predictions and do not wait.
"""

import math
from collections.abc import Sequence
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kingmaker_monitor.ingest import fold
from kingmaker_monitor.ingest.judging import FAIR, OTHER, SHADOW, Judging, Stored
from kingmaker_monitor.state import ModelState
from kingmaker_monitor.store import Store

_INSERT = (
    "INSERT OR IGNORE INTO predictions(model, id, row, arm, kind, score, code, at, segments)"
    " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_ANSWER = "number, arm, kind, score, code, at, segments"
_PAIR = ", ".join(f"{side}.{name}" for side in "no" for name in _ANSWER.split(", "))


SEGMENT = np.dtype("<u4")
"""How the numbers of a row's segment arms are kept."""


def newest(store: Store) -> int:
    """The number behind which this round's predictions come."""
    return int(store.sql.execute("SELECT coalesce(max(number), 0) FROM predictions").fetchone()[0])


def insert(
    store: Store,
    state: ModelState,
    arm: int,
    rows: fold.Rows,
    *,
    at_ms: NDArray[np.int64],
    segments: NDArray[Any] | None,
) -> None:
    """Keep answered rows. at_ms: their times, unix milliseconds; segments: shape (rows, k), numbers of the arms of
    their segments."""
    shadow = rows.shadow
    kinds = np.where(shadow, SHADOW, np.where(fold.FAIR[rows.columns["reason"]], FAIR, OTHER))
    for chosen in (~shadow & ~rows.failed, shadow & ~rows.failed):
        if not chosen.any():
            continue
        columns = rows.columns
        scores = columns["score"][chosen].astype(np.float64)
        cursor = store.sql.executemany(
            _INSERT,
            zip(
                repeat(state.number),
                columns["id"][chosen].tolist(),
                columns["row"][chosen].tolist(),
                repeat(arm),
                kinds[chosen].tolist(),
                [None if math.isnan(score) else score for score in scores.tolist()],
                columns["label"][chosen].tolist(),
                at_ms[chosen].tolist(),
                repeat(None) if segments is None else [row.tobytes() for row in segments[chosen]],
                strict=False,  # the repeated ones have no end
            ),
        )
        if not shadow[chosen][0]:
            state.tally.pending += cursor.rowcount


def answers(store: Store, state: ModelState, id: bytes, row: int) -> list[Stored]:
    """Every stored answer to one row of one request."""
    found = store.sql.execute(
        f"SELECT {_ANSWER} FROM predictions WHERE model = ? AND id = ? AND row = ?",  # noqa: S608 - fixed columns
        (state.number, id, row),
    )
    return [_stored(values) for values in found]


def pair_up(store: Store, state: ModelState, after: int, judging: Judging) -> None:
    """Enter every pair of answers that this round completed. after: from `newest`."""
    pairs = store.sql.execute(
        f"SELECT {_PAIR}"  # noqa: S608 - fixed columns
        " FROM predictions n CROSS JOIN predictions o"
        " ON o.model = n.model AND o.id = n.id AND o.row = n.row AND o.number < n.number"
        " WHERE n.number > ? AND n.model = ?",
        (after, state.number),
    )
    for values in pairs:
        judging.meet(_stored(values[:7]), _stored(values[7:]))


def expire(store: Store, state: ModelState, now_ms: int, pending_s: int, at_most: int) -> int:
    """Forget the oldest predictions whose time is up, and their labels; how many were forgotten. Ids rise with time."""
    before = id_floor(now_ms - pending_s * 1000)
    old = store.sql.execute(
        "SELECT number, id, kind, labelled FROM predictions WHERE model = ? AND id < ? ORDER BY id LIMIT ?",
        (state.number, before, at_most),
    ).fetchall()
    store.sql.executemany("DELETE FROM predictions WHERE number = ?", [(number,) for number, *_ in old])
    unlabelled = sum(kind != SHADOW and not labelled for *_, kind, labelled in old)
    state.tally.pending -= unlabelled
    state.tally.unlabelled += unlabelled
    until = old[-1][1] if len(old) == at_most else before  # of the last id there may be more
    store.sql.execute("DELETE FROM labels WHERE model = ? AND id < ? AND parked = 0", (state.number, until))
    return len(old)


def id_floor(unix_ms: int) -> bytes:
    """The least id of that millisecond."""
    return max(0, unix_ms).to_bytes(6, "big") + bytes(10)


def _stored(values: Sequence[Any]) -> Stored:
    """Values of _ANSWER."""
    number, arm, kind, score, code, at, segments = values
    arms = () if segments is None else tuple(np.frombuffer(segments, SEGMENT).tolist())
    return Stored(number, arm, kind, math.nan if score is None else score, code, at, arms)
