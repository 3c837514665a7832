"""Every setting of the monitor, read once in `__main__` from KINGMAKER_MONITOR_*."""

import os
from pathlib import Path
from typing import Final

from pydantic import Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from kingmaker_servicekit.logs import LogFormat
from kingmaker_servicekit.redis_settings import RedisSettings

PREFIX: Final = "KINGMAKER_MONITOR_"


class Settings(RedisSettings):
    """The monitor's settings. What is measured, and for how long, stands in the plan and not here."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid")

    namespace: str = "default"
    """Only models of this namespace are followed."""
    host: str = "127.0.0.1"
    port: int = Field(default=8082, ge=0, le=65535)
    """API, /metrics and /health. 0 takes any free port."""
    redis_url: str
    state_file: Path
    """SQLite file that holds offsets, aggregates, pending predictions and labels. One monitor at a time."""
    evaluate_seconds: float = Field(default=1.0, ge=0.05, le=30)
    """How often evidence is computed. Costs a few milliseconds a model."""
    drift_seconds: float = Field(default=5.0, ge=0.05, le=600)
    """How often windows and segments are looked at. Costs tens of milliseconds a model."""
    partitions: int = Field(default=1, ge=1, le=256)
    """Event streams of each model that are read: partitions 0 to this less one."""
    lease_seconds: float = Field(default=10.0, ge=2, le=300)
    """How long a model stays ours when this monitor falls silent. Another one that waits for it takes over then."""
    closed_lives: int = Field(default=100, ge=0, le=100_000)
    """Lives of gateways that are over and are kept one by one, of each stream; of older ones only the sum is kept."""
    shards: int = Field(default=1, ge=1, le=1000)
    """Monitors that share the models of a namespace by the hash of their names, each with a state file of its own."""
    shard: int = Field(default=0, ge=0)
    """Which of them this is, from 0."""
    log_level: str = "INFO"
    log_format: LogFormat = "json"
    drain_seconds: float = Field(default=5.0, ge=0, le=300)
    """What requests in flight get after SIGTERM."""

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        if value.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}:
            raise ValueError(f"{value!r} is not DEBUG, INFO, WARNING, ERROR or CRITICAL")
        return value.upper()

    @model_validator(mode="after")
    def _one_of_the_shards(self) -> "Settings":
        if self.shard >= self.shards:
            raise ValueError(f"shard {self.shard} is not one of {self.shards}, they count from 0")
        return self


def unknown_variables() -> list[str]:
    """Environment variables with our prefix that name no setting: a typo would otherwise do nothing, silently."""
    known = {f"{PREFIX}{name}".upper() for name in Settings.model_fields}
    return sorted(name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in known)
