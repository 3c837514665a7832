"""The state file itself: one monitor at a time, checked when it is opened, set aside when it cannot be trusted.

A damaged file is renamed and the streams are read from their beginning, which restores everything they still hold.
What that leaves out is said, in the log and in the new file, so that it can be shown as long as the file lives.
"""

import fcntl
import logging
import os
import sqlite3
import time
import uuid
from contextlib import closing
from pathlib import Path
from typing import Final

from kingmaker_monitor.errors import StateLocked, StateUnusable

logger = logging.getLogger(__name__)

VERSION: Final = 2
_SCHEMA: Final = """
CREATE TABLE models(number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, plan BLOB, tally BLOB NOT NULL,
    token INTEGER NOT NULL DEFAULT 0);
CREATE TABLE offsets(model INTEGER, stream TEXT, last BLOB NOT NULL, read INTEGER NOT NULL,
    PRIMARY KEY(model, stream)) WITHOUT ROWID;
CREATE TABLE producers(model INTEGER, partition INTEGER, producer TEXT, account BLOB NOT NULL,
    PRIMARY KEY(model, partition, producer)) WITHOUT ROWID;
CREATE TABLE profiles(sha256 TEXT PRIMARY KEY, raw BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE arms(arm INTEGER PRIMARY KEY, model INTEGER, rollout TEXT, variant TEXT, version TEXT, schema TEXT,
    role TEXT, segment TEXT NOT NULL, UNIQUE(model, rollout, variant, version, schema, role, segment));
CREATE TABLE aggregates(arm INTEGER, pane INTEGER, raw BLOB NOT NULL, PRIMARY KEY(arm, pane)) WITHOUT ROWID;
CREATE INDEX aggregates_by_pane ON aggregates(pane);
CREATE TABLE predictions(number INTEGER PRIMARY KEY, model INTEGER, id BLOB, row INTEGER, arm INTEGER,
    kind INTEGER, score REAL, code INTEGER, at INTEGER, labelled INTEGER NOT NULL DEFAULT 0, segments BLOB);
CREATE UNIQUE INDEX prediction_names ON predictions(model, id, row, arm);
CREATE TABLE labels(model INTEGER, id BLOB, row INTEGER, source TEXT, label TEXT, observed INTEGER,
    arrived INTEGER, parked INTEGER, PRIMARY KEY(model, id, row, source)) WITHOUT ROWID;
CREATE INDEX parked_labels ON labels(arrived) WHERE parked = 1;
CREATE TABLE about(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE mishaps(at INTEGER NOT NULL, what TEXT NOT NULL);
"""
_ADDED: Final = """
CREATE TABLE IF NOT EXISTS idle_profiles(sha256 TEXT PRIMARY KEY, since INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS folded(model INTEGER, partition INTEGER, producer TEXT, number INTEGER NOT NULL,
    account BLOB NOT NULL, PRIMARY KEY(model, partition, producer)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS gone_models(model INTEGER PRIMARY KEY, since INTEGER NOT NULL);
"""
"""What later releases brought, and earlier ones read past: a file of theirs gets it when it is opened."""
_LOST: Final = (
    "set aside as {aside}: {reason}. Counted anew from what the streams still hold; older counts, "
    "pending predictions and labels are lost{known}"
)


class Damaged(Exception):
    """The file cannot be trusted; the text says why."""


def take_lock(path: Path) -> int:
    """The descriptor of the lock, held until it is closed. Raises StateLocked, StateUnusable."""
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


def connect(path: Path) -> sqlite3.Connection:
    """Open or make the file. Raises Damaged, sqlite3.OperationalError."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA cache_size = -65536")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0 and not connection.execute("SELECT 1 FROM sqlite_schema").fetchone():
            born = f"INSERT INTO about VALUES('id', '{uuid.uuid4().hex}');"
            connection.executescript(f"BEGIN; {_SCHEMA} {born} PRAGMA user_version = {VERSION}; COMMIT;")
        elif version != VERSION:
            raise Damaged(f"its layout is {version}, this release reads {VERSION}")
        connection.executescript(_ADDED)
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise Damaged(verdict)
        if not connection.execute("SELECT 1 FROM about WHERE name = 'id'").fetchone():
            raise Damaged("it carries no id")
    except sqlite3.OperationalError:
        connection.close()
        raise
    except sqlite3.DatabaseError as error:
        connection.close()
        raise Damaged(str(error)) from None
    except Damaged:
        connection.close()
        raise
    return connection


def set_aside(path: Path, reason: str) -> str:
    """Rename the file and what belongs to it; what was lost, for people."""
    known = _holdings(path)
    number = 1
    while Path(f"{path}.damaged-{number}").exists():
        number += 1
    aside = Path(f"{path}.damaged-{number}")
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        companion = Path(f"{path}{suffix}")
        if companion.exists():
            companion.rename(f"{aside}{suffix}")
    said = _LOST.format(aside=aside.name, reason=reason.strip(), known=known)
    logger.error(
        "state file damaged, set aside",
        extra={"state_file": str(path), "set_aside_as": str(aside), "reason": reason, "lost": said},
    )
    return said


def remember(connection: sqlite3.Connection, what: str) -> None:
    """Keep a mishap for the API."""
    connection.execute("INSERT INTO mishaps VALUES(?, ?)", (round(time.time() * 1000), what))


def _holdings(path: Path) -> str:
    """How much the file held, as far as it can still say."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            waiting, labels = (
                connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - fixed names
                for table in ("predictions", "labels")
            )
            return f" (it held {waiting} predictions and {labels} labels)"
    except sqlite3.Error:
        return " (how many it cannot say)"
