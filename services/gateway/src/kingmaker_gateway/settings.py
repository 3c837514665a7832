"""What an operator sets before the gateway starts; what changes while it runs (weights) is routing, in Redis.

Read once in `__main__` from variables `KINGMAKER_GATEWAY_<NAME>`, nested names with a double underscore:
`KINGMAKER_GATEWAY_RECORDER__FLUSH_MS=200`. A variable with our prefix that names no setting is an error,
because a misspelt limit that silently does nothing is worse than a refusal to start.
"""

import os
import socket
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from kingmaker_gateway import tokens
from kingmaker_servicekit.redis_settings import RedisSettings

PREFIX: Final = "KINGMAKER_GATEWAY_"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RecorderSettings(_Section):
    """Prediction events on their way to Redis."""

    buffer_rows: int = Field(default=100_000, ge=1)
    """Rows kept while Redis is away, all models together, about 200 bytes each; more are dropped and counted. Those
    that Redis refuses while it takes others fill half of it at most."""
    buffer_bytes: int = Field(default=64 * 1024 * 1024, ge=1024)
    """The same in bytes, for models with many features."""
    flush_ms: int = Field(default=100, ge=1, le=60_000)
    """Longest time a row waits for company. A gateway killed with SIGKILL loses this much."""
    batch_rows: int = Field(default=2048, ge=1, le=65_536)
    """Rows in one stream entry, at most, unless one frame alone has more; so many waiting rows of a variant are flushed
    at once. Fewer rows make shorter waits while an entry is made, half a millisecond for so many of 25 features, and
    cost more: one of any size takes 0.2 ms."""
    max_stream_entries: int = Field(default=200_000, ge=1)
    """Redis trims a model's stream to about this many entries."""
    max_stream_bytes: int = Field(default=256 * 1024 * 1024, ge=1024 * 1024)
    """And to about this size, judged by the entries this gateway writes: a Redis that is full refuses routing too."""


class ShadowSettings(_Section):
    """Copies of answered requests."""

    gather_ms: int = Field(default=2, ge=0, le=1000)
    """How long copies wait for others to travel with; nobody waits for them. 0: not at all."""
    queue_size: int = Field(default=256, ge=1)
    """Copies waiting for one shadow, at most. A full queue drops the newest and counts it."""
    connections: int = Field(default=4, ge=1, le=64)
    """Frames of copies in flight to one shadow, each on a connection of its own."""
    timeout_ms: int = Field(default=1000, ge=1)
    """How long a shadow may take before its copies are given up and their connection is closed."""


class UpstreamSettings(_Section):
    """Connections to model servers."""

    connections: int = Field(default=4, ge=1, le=256)
    """Persistent connections to one endpoint of one variant, at most, each with one frame in flight; while all are
    busy, requests gather for the next frame. More of them make smaller frames."""
    connect_timeout_ms: int = Field(default=500, ge=1)
    backoff_first_ms: int = Field(default=100, ge=1)
    """Pause after the first failed connection; it doubles up to backoff_last_ms."""
    backoff_last_ms: int = Field(default=3000, ge=1)
    max_answer_bytes: int = Field(default=64 * 1024 * 1024, ge=1024)
    """A longer answer is garbage."""
    resolve_ms: int = Field(default=3000, ge=100)
    """How often the addresses behind an endpoint's name are looked up again."""
    eject_failures: int = Field(default=3, ge=1)
    """Consecutive failures after which an endpoint gets no traffic while another can have it."""
    eject_ms: int = Field(default=2000, ge=1)
    """How long it stays away before one frame tries it again."""


class BreakerSettings(_Section):
    """When a sick challenger is taken to zero here, without asking anybody."""

    failures: int = Field(default=5, ge=1)
    """Consecutive failures that open it."""
    open_ms: int = Field(default=5000, ge=1)
    """How long an open breaker keeps all requests away before it lets a probe through."""
    probes: int = Field(default=3, ge=1)
    """Consecutive successful probes that close it again; one probe at a time."""


class FeedbackSettings(_Section):
    """Labels from clients."""

    max_in_flight: int = Field(default=64, ge=1)
    """Feedback calls waiting for Redis, at most; more are answered 429."""
    max_stream_entries: int = Field(default=1_000_000, ge=1)
    """Redis trims the stream to about this many calls."""
    timeout_ms: int = Field(default=1000, ge=1)
    """How long Redis may take to accept one call."""


class RoutesSettings(_Section):
    """How the routing records are followed."""

    poll_ms: int = Field(default=1000, ge=10)
    """Besides the announcement over pub/sub, records are read this often."""
    settle_ms: int = Field(default=15_000, ge=0)
    """A gateway to which Redis has named no model for so long is ready at its admin port. Longer than a controller
    takes to fill an emptied Redis again."""


class AuthSettings(_Section):
    """Who may call. Files of lines `name:token`, read again when they change; without one everybody may."""

    predict_tokens_file: Path | None = None
    """For predictions. Health and metadata stay open."""
    feedback_tokens_file: Path | None = None
    """For labels: who sends the truth decides who wins, so this can be a smaller circle."""

    @field_validator("predict_tokens_file", "feedback_tokens_file")
    @classmethod
    def _holds_tokens(cls, value: Path | None) -> Path | None:
        if value is not None:
            tokens.read(value)
        return value


class TlsSettings(_Section):
    """TLS on the public port, read at the start only. Both or none; the admin port stays plain."""

    key_file: Path | None = None
    cert_file: Path | None = None
    """PEM, the whole chain."""

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("found one of CERT_FILE and KEY_FILE; expected both or none")
        if self.cert_file is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            try:
                context.load_cert_chain(self.cert_file, self.key_file, password=lambda: "")
            except OSError as error:  # ssl.SSLError is one
                found = f"{self.cert_file} and {self.key_file}: {error.strerror or error}"
                raise ValueError(f"found {found}; expected PEM files of a certificate and its key") from None
        return self

    @property
    def files(self) -> tuple[Path, Path] | None:
        """Certificate and key."""
        return None if self.cert_file is None or self.key_file is None else (self.cert_file, self.key_file)


class LimitSettings(_Section):
    """Bounds that hold before a model is known or a deadline runs."""

    body_read_ms: int = Field(default=10_000, ge=1)
    """How long a client may take to send its body."""


class Settings(RedisSettings):
    """Everything, from the environment."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid", env_ignore_empty=True
    )

    namespace: str = Field(default="default", pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    admin_port: int = Field(default=8081, ge=0, le=65535)
    snapshot_file: Path | None = None
    """Where the last good records are kept, to start from when Redis is away."""
    gateway_id: str = Field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}", min_length=1)
    partition: int = Field(default=0, ge=0, le=255)
    """The event partition this process writes to; it is in every prediction id it gives out."""
    hot_path: bool = True
    """Whether predictions are served by the protocol itself; false: by the web framework like everything else."""
    drain_seconds: float = Field(default=5.0, ge=0)
    last_call_ms: int = Field(default=1000, ge=0, le=60_000)
    """At SIGTERM idle connections are kept this long for one more answer, which says that it is the last. 0: closed at
    once, and a request that is just arriving on one is lost."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "text"] = "json"
    recorder: RecorderSettings = RecorderSettings()
    shadow: ShadowSettings = ShadowSettings()
    upstream: UpstreamSettings = UpstreamSettings()
    breaker: BreakerSettings = BreakerSettings()
    feedback: FeedbackSettings = FeedbackSettings()
    routes: RoutesSettings = RoutesSettings()
    limits: LimitSettings = LimitSettings()
    auth: AuthSettings = AuthSettings()
    tls: TlsSettings = TlsSettings()


def unknown_variables(names: Iterable[str]) -> list[str]:
    """Variables that carry our prefix and name no setting; nested ones are checked by pydantic itself."""
    known = {name.upper() for name in Settings.model_fields}
    ours = (name for name in names if name.upper().startswith(PREFIX))
    return sorted(name for name in ours if name.upper().removeprefix(PREFIX).split("__")[0] not in known)
