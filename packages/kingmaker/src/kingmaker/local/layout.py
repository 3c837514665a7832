"""Where a local stack keeps its things: `.kingmaker/` beside the resource file."""

import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

FOLDER = ".kingmaker"


@dataclass(slots=True, frozen=True)
class Layout:
    """Paths of one stack. file: the resource, absolute."""

    file: Path

    @classmethod
    def of(cls, file: Path) -> "Layout":
        return cls(file.resolve())

    @property
    def state(self) -> Path:
        return self.file.parent / FOLDER

    @property
    def logs(self) -> Path:
        return self.state / "logs"

    @property
    def redis(self) -> Path:
        return self.state / "redis"

    @property
    def mlflow(self) -> Path:
        return self.state / "mlflow"

    @property
    def token(self) -> Path:
        return self.state / "token"

    @property
    def lock(self) -> Path:
        return self.state / "lock"

    @property
    def description(self) -> Path:
        """What runs and where it listens, for the other commands; there while the stack runs."""
        return self.state / "stack.json"

    @property
    def registry_uri(self) -> str:
        """MLflow's tracking URI: MLFLOW_TRACKING_URI, else a SQLite registry of this folder's own."""
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.mlflow / 'mlflow.db'}"

    @property
    def registry_server(self) -> str | None:
        """Where MLflow is served already, to be shown: without name and password. None for a database, which a stack
        serves itself."""
        is_server = self.registry_uri.startswith(("http://", "https://"))
        return re.sub(r"(?<=//)[^/@]*@", "", self.registry_uri) if is_server else None

    def prepare(self) -> None:
        """Make the folders, and the token that the controller's API asks for."""
        for folder in (self.state, self.logs, self.redis, self.mlflow):
            folder.mkdir(parents=True, exist_ok=True)
        if not self.token.exists() or not self.token.stat().st_size:  # a run that was killed leaves it empty
            descriptor = os.open(self.token, os.O_WRONLY | os.O_CREAT, 0o600)
            with os.fdopen(descriptor, "w") as token:
                token.write(secrets.token_urlsafe(32))
