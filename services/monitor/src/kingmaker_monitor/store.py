"""What lies in the state file: offsets, producers, aggregates, pending predictions and labels, committed together.

A round of reading is one transaction, so a monitor killed at any point neither loses nor counts twice: what
was not committed is read again from the offset that was. WAL with synchronous=NORMAL: a power cut may undo
the newest commits, and the stream still has them.
"""

import logging
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from kingmaker_contracts.plan import Plan
from kingmaker_contracts.wire import BadRecord, read_json, write_json
from kingmaker_monitor import state_file
from kingmaker_monitor.accounts import Account
from kingmaker_monitor.aggregates import Aggregate, BadAggregate, pack, unpack
from kingmaker_monitor.errors import StateUnusable, Superseded
from kingmaker_monitor.positions import Position
from kingmaker_monitor.state import Arm, ModelState, Producer, Tally
from kingmaker_monitor.state_file import Damaged
from kingmaker_monitor.windows import TOTAL, Window, new_windows

logger = logging.getLogger(__name__)

KEPT_LIVES: Final = 10_000
"""A model's newest lives whose accounts the file keeps after they were folded, should one come back: 100 bytes each."""


class Store:
    """The open state file. Everything but `open` runs in one thread. id: made with the file."""

    def __init__(self, connection: sqlite3.Connection, lock: int) -> None:
        self.sql = connection
        self._lock = lock
        self.id: str = connection.execute("SELECT value FROM about WHERE name = 'id'").fetchone()[0]

    @classmethod
    def open(cls, path: Path) -> "Store":
        """Open or make the file, and read it once. Raises StateLocked, StateUnusable."""
        lock = state_file.take_lock(path)
        try:
            try:
                return cls._checked(path, lock)
            except Damaged as damage:
                said = state_file.set_aside(path, str(damage))
                connection = state_file.connect(path)
                state_file.remember(connection, said)
                return cls(connection, lock)
        except (sqlite3.Error, OSError, Damaged) as error:
            os.close(lock)
            raise StateUnusable(f"state file {path} cannot be used: {error}") from None

    @classmethod
    def _checked(cls, path: Path, lock: int) -> "Store":
        """SQLite has no checksums: a page that was overwritten may still look like one, and shows when it is read."""
        store = cls(state_file.connect(path), lock)
        try:
            store.load()
        except (msgspec.MsgspecError, BadAggregate, LookupError, TypeError, sqlite3.DatabaseError) as error:
            store.sql.close()
            raise Damaged(f"what it holds cannot be read: {error}") from None
        return store

    def close(self) -> None:
        """Give up the file and its lock. Again does nothing."""
        self.sql.close()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing."""
        self.sql.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.sql.execute("ROLLBACK")
            raise
        self.sql.execute("COMMIT")

    def load(self) -> dict[str, ModelState]:
        """Every model, by `namespace/name`. Windows are empty until they are first slid."""
        models: dict[int, ModelState] = {}
        for number, name, plan, tally, token in self.sql.execute("SELECT number, name, plan, tally, token FROM models"):
            read = msgspec.msgpack.decode(tally, type=Tally)
            models[number] = ModelState(number, name, plan=_plan(plan), token=token, tally=read)
        for model, stream, last, read_so_far in self.sql.execute("SELECT model, stream, last, read FROM offsets"):
            models[model].positions[stream] = Position(last, read_so_far)
        for model, partition, producer, raw in self.sql.execute("SELECT * FROM producers"):
            models[model].accounts[Producer(partition, producer)] = msgspec.msgpack.decode(raw, type=Account)
        for state in models.values():
            state.accounts = dict(sorted(state.accounts.items(), key=lambda item: item[1].number))
        for arm, model, *key in self.sql.execute("SELECT * FROM arms"):
            models[model].arms[Arm(*key)] = arm
        for state in models.values():
            self.load_totals(state)
        return {state.name: state for state in models.values()}

    def load_totals(self, state: ModelState) -> None:
        """Into memory the totals of the planned rollout, and no others. Raises BadAggregate."""
        wanted = {number for arm, number in state.arms.items() if state.is_current(arm)}
        state.totals = {arm: total for arm, total in state.totals.items() if arm in wanted}
        for arm in sorted(wanted - set(state.totals)):
            found = self.sql.execute("SELECT raw FROM aggregates WHERE arm = ? AND pane = ?", (arm, TOTAL)).fetchone()
            if found is not None:
                state.totals[arm] = unpack(found[0])

    def slide(self, state: ModelState, now_ms: int) -> None:
        """Move the windows to now: panes that left are subtracted, panes that a clock set back brings in are added."""
        damaged = state.tally.damaged_panes
        for window in state.windows.values():
            self._slide(state, window, window.at(now_ms))
        if state.tally.damaged_panes != damaged:  # its counts may be in the sums already: sum anew without it
            self.slide(state, now_ms)

    def _slide(self, state: ModelState, window: Window, to: tuple[int, int]) -> None:
        was, (window.first, window.end) = (window.first, window.end), to
        for first, end in _less(to, was):
            for arm, pane in self._panes(state, first, end):
                window.sums.setdefault(arm, Aggregate()).merge(pane)
        for first, end in _less(was, to):
            for arm, pane in self._panes(state, first, end):
                window.subtract(arm, pane)
        if window.blurred:
            window.forget()
            self._slide(state, window, to)

    def _panes(self, state: ModelState, first: int, end: int) -> Iterator[tuple[int, Aggregate]]:
        """Panes from `first` up to and without `end` that can be read."""
        found = self.sql.execute(
            "SELECT arm, pane, raw FROM aggregates WHERE pane >= ? AND pane < ? AND arm IN"
            " (SELECT arm FROM arms WHERE model = ?)",
            (first, end, state.number),
        ).fetchall()
        for arm, pane, raw in found:
            try:
                yield arm, unpack(raw)
            except BadAggregate as error:
                self._drop_pane(state, arm, pane, error)

    def new_model(self, name: str) -> ModelState:
        tally = msgspec.msgpack.encode(Tally())
        cursor = self.sql.execute("INSERT INTO models(name, tally) VALUES(?, ?)", (name, tally))
        return ModelState(int(cursor.lastrowid or 0), name)

    def take_over(self, state: ModelState, token: int) -> None:
        """Count under this token from now on. Raises Superseded when a higher one was here."""
        self.check_token(state)
        if token < state.token:
            raise Superseded(f"{state.name}: the file knows token {state.token}, ours is {token}")
        if token > state.token:
            self.sql.execute("UPDATE models SET token = ? WHERE number = ?", (token, state.number))
            state.token = token

    def check_token(self, state: ModelState) -> None:
        """In a transaction: that nobody with a newer lease has written here meanwhile. Raises Superseded."""
        (token,) = self.sql.execute("SELECT token FROM models WHERE number = ?", (state.number,)).fetchone()
        if token > state.token:
            raise Superseded(
                f"{state.name}: another monitor with token {token} writes this file, ours is {state.token}"
            )

    def arm_number(self, state: ModelState, arm: Arm) -> int:
        """The number of an arm, a new one when it was never seen."""
        number = state.arms.get(arm)
        if number is None:
            cursor = self.sql.execute(
                "INSERT INTO arms(model, rollout, variant, version, schema, role, segment) VALUES(?, ?, ?, ?, ?, ?, ?)",
                (state.number, *arm),
            )
            number = state.arms[arm] = int(cursor.lastrowid or 0)
        return number

    def save_plan(self, state: ModelState, plan: Plan | None) -> None:
        raw = None if plan is None else write_json(plan)
        self.sql.execute("UPDATE models SET plan = ? WHERE number = ?", (raw, state.number))

    def save_progress(self, state: ModelState, producers: Iterable[Producer]) -> None:
        """Tally, positions, and the accounts that changed."""
        tally = msgspec.msgpack.encode(state.tally)
        self.sql.execute("UPDATE models SET tally = ? WHERE number = ?", (tally, state.number))
        self.sql.executemany(
            "INSERT OR REPLACE INTO offsets VALUES(?, ?, ?, ?)",
            [(state.number, stream, at.offset, at.read) for stream, at in state.positions.items()],
        )
        self.sql.executemany(
            "INSERT OR REPLACE INTO producers VALUES(?, ?, ?, ?)",
            [(state.number, *one, msgspec.msgpack.encode(state.accounts[one])) for one in producers],
        )

    def fold(self, state: ModelState, producers: Collection[Producer]) -> None:
        """Out of memory into the sum, and aside in the file."""
        keys = [(state.number, *one) for one in producers]
        self.sql.executemany("DELETE FROM producers WHERE model = ? AND partition = ? AND producer = ?", keys)
        for one in producers:
            account = state.accounts.pop(one)
            state.tally.fold(account)
            raw = msgspec.msgpack.encode(account)
            self.sql.execute(
                "INSERT OR REPLACE INTO folded VALUES(?, ?, ?, ?, ?)", (state.number, *one, account.number, raw)
            )
        self.sql.execute(
            "DELETE FROM folded WHERE model = ? AND number <= ?", (state.number, state.tally.lives - KEPT_LIVES)
        )

    def unfold(self, state: ModelState, producer: Producer) -> Account | None:
        """Back into memory and out of the sum, when it was folded and is remembered."""
        key = (state.number, *producer)
        where = "WHERE model = ? AND partition = ? AND producer = ?"
        found = self.sql.execute(f"SELECT account FROM folded {where}", key).fetchone()  # noqa: S608 - fixed words
        if found is None:
            return None
        self.sql.execute(f"DELETE FROM folded {where}", key)  # noqa: S608 - fixed words
        account = state.accounts[producer] = msgspec.msgpack.decode(found[0], type=Account)
        state.tally.fold(account, -1)
        return account

    def save_aggregate(self, arm: int, pane: int, aggregate: Aggregate) -> None:
        self.sql.execute("INSERT OR REPLACE INTO aggregates VALUES(?, ?, ?)", (arm, pane, pack(aggregate)))

    def aggregate(self, state: ModelState, arm: int, pane: int) -> Aggregate:
        """A pane, empty when there is none or what is there cannot be read, which is counted."""
        found = self.sql.execute("SELECT raw FROM aggregates WHERE arm = ? AND pane = ?", (arm, pane)).fetchone()
        try:
            return Aggregate() if found is None else unpack(found[0])
        except BadAggregate as error:
            self._drop_pane(state, arm, pane, error)
            return Aggregate()

    def _drop_pane(self, state: ModelState, arm: int, pane: int, error: BadAggregate) -> None:
        self.sql.execute("DELETE FROM aggregates WHERE arm = ? AND pane = ?", (arm, pane))
        state.tally.damaged_panes += 1
        state.windows = new_windows()
        logger.error(
            "a pane cannot be read back, its counts are gone from the windows; totals are kept apart and whole",
            extra={"model": state.name, "pane": pane, "error": str(error)},
        )

    def save_profile(self, sha256: str, raw: bytes) -> None:
        self.sql.execute("INSERT OR REPLACE INTO profiles VALUES(?, ?)", (sha256, raw))

    def profile(self, sha256: str) -> bytes | None:
        found = self.sql.execute("SELECT raw FROM profiles WHERE sha256 = ?", (sha256,)).fetchone()
        return None if found is None else bytes(found[0])

    def profiles(self) -> list[str]:
        """The sha256 of each."""
        return [sha256 for (sha256,) in self.sql.execute("SELECT sha256 FROM profiles")]

    def mishaps(self) -> list[tuple[int, str]]:
        """What happened to this file, oldest first: unix milliseconds, and words for people."""
        return list(self.sql.execute("SELECT at, what FROM mishaps ORDER BY at DESC LIMIT 10"))[::-1]


def _less(one: tuple[int, int], other: tuple[int, int]) -> list[tuple[int, int]]:
    """What of a span lies outside another, as spans."""
    before, behind = (one[0], min(one[1], other[0])), (max(one[0], other[1]), one[1])
    return [span for span in dict.fromkeys((before, behind)) if span[0] < span[1]]


def _plan(raw: bytes | None) -> Plan | None:
    if raw is None:
        return None
    try:
        return read_json(raw, Plan)
    except BadRecord as error:
        logger.warning("stored plan unreadable, waiting for a new one", extra={"error": str(error)})
        return None
