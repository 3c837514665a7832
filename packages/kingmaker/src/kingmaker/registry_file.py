"""MLflow's SQLite database, made whole or not at all.

MLflow makes its tables in dozens of steps. Broken off in between, by Ctrl-C say, or with two processes at it, they are
never finished: every later use fails with "table ... already exists". So they are made in a file of another name, which
gets its own once it is done.
"""

import os
from pathlib import Path
from typing import Final

SQLITE: Final = "sqlite:///"


def path_of(uri: str) -> Path:
    """The database file of a sqlite address, absolute."""
    return Path(uri.removeprefix(SQLITE).partition("?")[0]).resolve()


def make(uri: str) -> None:
    """Make the database of a sqlite address unless it is there, as of every other address. Raises OSError and whatever
    MLflow raises."""
    path = path_of(uri)
    if not uri.startswith(SQLITE) or path.exists():
        return
    # Nobody but the registry is told; MLflow reads this when it is imported.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient  # noqa: PLC0415 - three seconds that only a new registry should cost

    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)
    try:
        address = f"{SQLITE}{unfinished}"
        MlflowClient(address, address).search_experiments(max_results=1)
        try:
            os.link(unfinished, path)
        except OSError:  # somebody else was faster, and theirs is whole too; or this file system has no links
            if not path.exists():
                unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
