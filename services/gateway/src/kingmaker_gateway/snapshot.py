"""The last good routing on disk, so that a gateway can start while Redis is away.

Replaced whole and atomically; a file that cannot be read is a warning, never a refusal to start.
"""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from kingmaker_contracts.routing import RoutingRecord

logger = logging.getLogger(__name__)


class StoredProfile(msgspec.Struct, frozen=True):
    """body: the profile's own bytes as text, because its name is their hash."""

    model: str
    sha256: str
    body: str


class Snapshot(msgspec.Struct, frozen=True):
    """What the file holds."""

    records: list[RoutingRecord]
    profiles: list[StoredProfile]
    v: Literal[1] = 1


@dataclass(slots=True, frozen=True)
class SnapshotFile:
    """One file. Both methods block: call save from a thread."""

    path: Path

    def load(self) -> Snapshot | None:
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=Snapshot)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            logger.warning(
                "snapshot unreadable, starting without it", extra={"file": str(self.path), "reason": str(error)}
            )
            return None

    def save(self, snapshot: Snapshot) -> None:
        """Raises OSError."""
        new = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with new.open("wb") as file:
            file.write(msgspec.json.encode(snapshot))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)
