"""Every knob of the controller, read once in `__main__` from KINGMAKER_CONTROLLER_*."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "KINGMAKER_CONTROLLER_"


class RuntimeSettings(BaseModel, frozen=True, extra="forbid"):
    """How child processes are kept alive."""

    fetch_timeout_s: float = Field(default=600.0, gt=0)
    """A fetch that takes longer is stopped and tried again."""
    stop_grace_s: float = Field(default=3.0, ge=0)
    """Between SIGTERM and SIGKILL of a model server."""
    backoff_first_s: float = Field(default=0.5, gt=0)
    """The wait before the first restart; doubles until backoff_last_s."""
    backoff_last_s: float = Field(default=30.0, gt=0)


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid")

    file: Path
    """The ServedModel YAML; several documents are several models."""
    state_dir: Path
    """The .kingmaker folder: state.db, fetched models, logs. Made when it is missing."""
    redis_url: str = "redis://127.0.0.1:6379/0"
    registry_uri: str | None = None
    """MLflow tracking URI for the fetch step. None: only local paths can be served."""
    host: str = "127.0.0.1"
    port: int = Field(default=8083, ge=0, le=65535)
    token_file: Path
    """Holds the bearer token of /api."""
    poll_ms: int = Field(default=200, ge=10, le=10_000)
    """How often file, Redis and processes are looked at. An edit waits for two looks that agree."""
    runtime: RuntimeSettings = RuntimeSettings()
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    log_format: Literal["json", "text"] = "json"
