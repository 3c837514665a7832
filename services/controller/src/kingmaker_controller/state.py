"""What must survive the controller: statuses, generations, the lease, the audit log. One SQLite file.

A lock on a file beside it tells whether the last holder of the lease still lives: the kernel drops it
with the process, so a killed controller is replaced at once and a frozen one is not.
"""

import fcntl
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from kingmaker_contracts.status import Status
from kingmaker_controller.leader import Lease
from kingmaker_controller.rollout.facts import Event, stamp

FILE: Final = "state.db"
LOCK: Final = "controller.lock"
AUDIT_ROWS: Final = 10_000
"""Entries kept per model; the oldest go."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS models (
    model TEXT PRIMARY KEY, created_at TEXT NOT NULL, generation INTEGER NOT NULL,
    resource TEXT NOT NULL, status TEXT NOT NULL, removed INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS lease (
    id INTEGER PRIMARY KEY CHECK (id = 1), holder TEXT NOT NULL, epoch INTEGER NOT NULL, renewed_at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS audit (
    id INTEGER PRIMARY KEY, time TEXT NOT NULL, model TEXT NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS audit_by_model ON audit (model, id);
"""


@dataclass(frozen=True, slots=True)
class StoredModel:
    """resource: the last accepted one as plain data, None before the first; removed: gone from the source,
    its keys perhaps still in Redis."""

    model: str
    created_at: str
    generation: int
    resource: dict[str, Any] | None
    status: Status
    removed: bool


@dataclass(frozen=True, slots=True)
class AuditEntry:
    time: str
    model: str
    reason: str
    message: str


class State:
    """Opens STATE_DIR/state.db; every write is one transaction, on disk when the call returns."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._is_locked = self._try_lock()
        self._db = sqlite3.connect(folder / FILE, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA busy_timeout = 2000")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        self._db.close()
        os.close(self._lock)

    # leases

    async def read_lease(self) -> Lease | None:
        row = self._db.execute("SELECT holder, epoch, renewed_at FROM lease").fetchone()
        return Lease(*row) if row else None

    async def swap_lease(self, old: Lease | None, new: Lease) -> bool:
        if old is None:
            query = "INSERT OR IGNORE INTO lease (id, holder, epoch, renewed_at) VALUES (1, ?, ?, ?)"
            return self._db.execute(query, (new.holder, new.epoch, new.renewed_at)).rowcount == 1
        query = (
            "UPDATE lease SET holder = ?, epoch = ?, renewed_at = ? WHERE holder = ? AND epoch = ? AND renewed_at = ?"
        )
        values = (new.holder, new.epoch, new.renewed_at, old.holder, old.epoch, old.renewed_at)
        return self._db.execute(query, values).rowcount == 1

    def is_held(self, lease: Lease, now: datetime) -> bool:  # noqa: ARG002 - a Lease without locks looks at its age
        return not self._is_locked

    def _try_lock(self) -> bool:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    # models

    def models(self) -> dict[str, StoredModel]:
        query = "SELECT model, created_at, generation, resource, status, removed FROM models ORDER BY model"
        return {row[0]: _stored(row) for row in self._db.execute(query)}

    def find(self, model: str) -> StoredModel | None:
        return self.models().get(model)

    async def save(self, stored: StoredModel, events: Sequence[Event], now: datetime) -> None:
        """The model as it is now, and the decisions that led there, together."""
        row = (
            stored.model,
            stored.created_at,
            stored.generation,
            msgspec.json.encode(stored.resource).decode(),
            msgspec.json.encode(stored.status).decode(),
            stored.removed,
        )
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._db.execute("INSERT OR REPLACE INTO models VALUES (?, ?, ?, ?, ?, ?)", row)
            for event in events:
                entry = (stamp(now), stored.model, event.reason, event.message)
                self._db.execute("INSERT INTO audit (time, model, reason, message) VALUES (?, ?, ?, ?)", entry)
            if events:
                self._trim(stored.model)
            self._db.execute("COMMIT")
        except sqlite3.Error:
            self._db.execute("ROLLBACK")
            raise

    async def reload(self, stored: StoredModel) -> StoredModel:
        """The model as it stands in the file; nobody else writes there."""
        return self.models().get(stored.model, stored)

    def audit(self, model: str, limit: int = 200) -> list[AuditEntry]:
        """The newest decisions about a model, newest first."""
        query = "SELECT time, model, reason, message FROM audit WHERE model = ? ORDER BY id DESC LIMIT ?"
        return [AuditEntry(*row) for row in self._db.execute(query, (model, limit))]

    def _trim(self, model: str) -> None:
        oldest = "SELECT id FROM audit WHERE model = ? ORDER BY id DESC LIMIT 1 OFFSET ?"
        query = f"DELETE FROM audit WHERE model = ? AND id <= ({oldest})"  # noqa: S608 - both halves stand here
        self._db.execute(query, (model, model, AUDIT_ROWS))


def _stored(row: tuple[Any, ...]) -> StoredModel:
    model, created_at, generation, resource, status, removed = row
    return StoredModel(
        model,
        created_at,
        generation,
        msgspec.json.decode(resource),
        msgspec.json.decode(status, type=Status),
        bool(removed),
    )
