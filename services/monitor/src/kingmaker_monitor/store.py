"""One SQLite file: offsets, producers, aggregates, pending predictions and labels, committed together.

A round of reading is one transaction, so a monitor killed at any point neither loses nor counts twice: what
was not committed is read again from the offset that was. WAL with synchronous=NORMAL: a power cut may undo
the newest commits, and the stream still has them. A damaged file is set aside and the streams are read
from their beginning, which restores everything they still hold.
"""

import fcntl
import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from kingmaker_contracts.plan import Plan
from kingmaker_contracts.wire import BadRecord, read_json, write_json
from kingmaker_monitor.accounts import Account
from kingmaker_monitor.aggregates import Aggregate, pack, unpack
from kingmaker_monitor.errors import StateLocked, StateUnusable
from kingmaker_monitor.state import Arm, ModelState, Producer, Tally
from kingmaker_monitor.windows import TOTAL

logger = logging.getLogger(__name__)

VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE models(number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, plan BLOB, tally BLOB NOT NULL);
CREATE TABLE offsets(model INTEGER, stream TEXT, last BLOB NOT NULL, PRIMARY KEY(model, stream)) WITHOUT ROWID;
CREATE TABLE producers(model INTEGER, partition INTEGER, producer TEXT, account BLOB NOT NULL,
    PRIMARY KEY(model, partition, producer)) WITHOUT ROWID;
CREATE TABLE profiles(sha256 TEXT PRIMARY KEY, raw BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE arms(arm INTEGER PRIMARY KEY, model INTEGER, rollout TEXT, variant TEXT, version TEXT, schema TEXT,
    role TEXT, UNIQUE(model, rollout, variant, version, schema, role));
CREATE TABLE aggregates(arm INTEGER, pane INTEGER, raw BLOB NOT NULL, PRIMARY KEY(arm, pane)) WITHOUT ROWID;
CREATE TABLE predictions(number INTEGER PRIMARY KEY, model INTEGER, id BLOB, row INTEGER, arm INTEGER,
    kind INTEGER, score REAL, code INTEGER, at INTEGER, labelled INTEGER NOT NULL DEFAULT 0);
CREATE UNIQUE INDEX prediction_names ON predictions(model, id, row, arm);
CREATE TABLE labels(model INTEGER, id BLOB, row INTEGER, source TEXT, label TEXT, observed INTEGER,
    arrived INTEGER, parked INTEGER, PRIMARY KEY(model, id, row, source)) WITHOUT ROWID;
CREATE INDEX parked_labels ON labels(arrived) WHERE parked = 1;
"""


class Store:
    """The open state file. Everything but `open` runs in one thread."""

    def __init__(self, connection: sqlite3.Connection, lock: int) -> None:
        self.sql = connection
        self._lock = lock

    @classmethod
    def open(cls, path: Path) -> "Store":
        """Open or make the file. Raises StateLocked, StateUnusable."""
        lock = _take_lock(path)
        try:
            return cls(_connect(path), lock)
        except _Damaged as damage:
            _set_aside(path, str(damage))
            return cls(_connect(path), lock)
        except sqlite3.OperationalError as error:
            raise StateUnusable(f"state file {path} cannot be used: {error}") from None

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
        """Every model, by `namespace/name`."""
        models: dict[int, ModelState] = {}
        for number, name, plan, tally in self.sql.execute("SELECT number, name, plan, tally FROM models"):
            models[number] = ModelState(number, name, plan=_plan(plan), tally=msgspec.msgpack.decode(tally, type=Tally))
        for model, stream, last in self.sql.execute("SELECT model, stream, last FROM offsets"):
            models[model].offsets[stream] = last
        for model, partition, producer, raw in self.sql.execute("SELECT * FROM producers"):
            models[model].accounts[Producer(partition, producer)] = msgspec.msgpack.decode(raw, type=Account)
        owner = {}
        for arm, model, *key in self.sql.execute("SELECT * FROM arms"):
            models[model].arms[Arm(*key)] = arm
            owner[arm] = model
        for arm, raw in self.sql.execute("SELECT arm, raw FROM aggregates WHERE pane = ?", (TOTAL,)):
            models[owner[arm]].totals[arm] = unpack(raw)
        return {state.name: state for state in models.values()}

    def new_model(self, name: str) -> ModelState:
        tally = msgspec.msgpack.encode(Tally())
        cursor = self.sql.execute("INSERT INTO models(name, tally) VALUES(?, ?)", (name, tally))
        return ModelState(int(cursor.lastrowid or 0), name)

    def arm_number(self, state: ModelState, arm: Arm) -> int:
        """The number of an arm, a new one when it was never seen."""
        number = state.arms.get(arm)
        if number is None:
            cursor = self.sql.execute(
                "INSERT INTO arms(model, rollout, variant, version, schema, role) VALUES(?, ?, ?, ?, ?, ?)",
                (state.number, *arm),
            )
            number = state.arms[arm] = int(cursor.lastrowid or 0)
        return number

    def save_plan(self, state: ModelState, plan: Plan | None) -> None:
        raw = None if plan is None else write_json(plan)
        self.sql.execute("UPDATE models SET plan = ? WHERE number = ?", (raw, state.number))

    def save_progress(self, state: ModelState, producers: Iterable[Producer]) -> None:
        """Tally, offsets, and the accounts that changed."""
        tally = msgspec.msgpack.encode(state.tally)
        self.sql.execute("UPDATE models SET tally = ? WHERE number = ?", (tally, state.number))
        self.sql.executemany(
            "INSERT OR REPLACE INTO offsets VALUES(?, ?, ?)",
            [(state.number, stream, last) for stream, last in state.offsets.items()],
        )
        self.sql.executemany(
            "INSERT OR REPLACE INTO producers VALUES(?, ?, ?, ?)",
            [(state.number, *one, msgspec.msgpack.encode(state.accounts[one])) for one in producers],
        )

    def save_aggregate(self, arm: int, pane: int, aggregate: Aggregate) -> None:
        self.sql.execute("INSERT OR REPLACE INTO aggregates VALUES(?, ?, ?)", (arm, pane, pack(aggregate)))

    def aggregate(self, arm: int, pane: int) -> Aggregate:
        found = self.sql.execute("SELECT raw FROM aggregates WHERE arm = ? AND pane = ?", (arm, pane)).fetchone()
        return Aggregate() if found is None else unpack(found[0])

    def save_profile(self, sha256: str, raw: bytes) -> None:
        self.sql.execute("INSERT OR REPLACE INTO profiles VALUES(?, ?)", (sha256, raw))

    def profiles(self) -> list[tuple[str, bytes]]:
        return list(self.sql.execute("SELECT sha256, raw FROM profiles"))


class _Damaged(Exception):
    pass


def _take_lock(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateUnusable(f"state file {path} cannot be used: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise StateLocked(f"state file {path} is in use by another monitor; give this one a file of its own") from None
    return lock


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA cache_size = -65536")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and not connection.execute("SELECT 1 FROM sqlite_schema").fetchone():
            connection.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {VERSION}; COMMIT;")
        elif version != VERSION:
            raise _Damaged(f"layout {version}, expected {VERSION}")
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise _Damaged(verdict)
    except sqlite3.OperationalError:
        connection.close()
        raise
    except sqlite3.DatabaseError as error:
        connection.close()
        raise _Damaged(str(error)) from None
    except _Damaged:
        connection.close()
        raise
    return connection


def _set_aside(path: Path, reason: str) -> None:
    number = 1
    while Path(f"{path}.damaged-{number}").exists():
        number += 1
    aside = Path(f"{path}.damaged-{number}")
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        companion = Path(f"{path}{suffix}")
        if companion.exists():
            companion.rename(f"{aside}{suffix}")
    logger.error(
        "state file damaged, set aside; counts, pending predictions and labels older than the streams are lost, "
        "everything the streams still hold is read again",
        extra={"state_file": str(path), "set_aside_as": str(aside), "reason": reason},
    )


def _plan(raw: bytes | None) -> Plan | None:
    if raw is None:
        return None
    try:
        return read_json(raw, Plan)
    except BadRecord as error:
        logger.warning("stored plan unreadable, waiting for a new one", extra={"error": str(error)})
        return None
