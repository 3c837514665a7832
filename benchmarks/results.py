"""What one `make bench` leaves in benchmarks/results/, and where it is read again."""

import datetime
from pathlib import Path

import msgspec

from benchmarks import folders
from benchmarks.figures import Section


class Results(msgspec.Struct, frozen=True):
    """One whole run. seconds: how long it took; not_run: what was left out and why."""

    date: str
    machine: dict[str, str]
    versions: dict[str, str]
    sections: list[Section]
    seconds: float
    not_run: dict[str, str] = {}
    v: int = 1

    def section(self, name: str) -> Section | None:
        return next((section for section in self.sections if section.name == name), None)


def write(results: Results, folder: Path = folders.RESULTS) -> Path:
    """A file by its date; a second run of a day replaces the first."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{results.date}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
    return path


def newest(folder: Path = folders.RESULTS) -> Results | None:
    """The latest run kept, None when there is none. Raises msgspec.DecodeError for a file that is none."""
    found = sorted(folder.glob("*.json"))
    return msgspec.json.decode(found[-1].read_bytes(), type=Results) if found else None


def today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()
