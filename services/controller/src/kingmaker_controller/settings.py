"""Every knob of the controller, read once in `__main__` from KINGMAKER_CONTROLLER_*."""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator
from pydantic_settings import SettingsConfigDict

from kingmaker_servicekit.redis_settings import RedisSettings

PREFIX = "KINGMAKER_CONTROLLER_"


class RuntimeSettings(BaseModel, frozen=True, extra="forbid"):
    """Model servers as child processes: where they are, and how they are kept alive."""

    host: str = Field(default="127.0.0.1", min_length=1)
    """Where they listen, and what gateways call it: an address or name of this machine, for gateways on another."""
    fetch_timeout_s: float = Field(default=600.0, gt=0)
    """A fetch that takes longer is stopped and tried again."""
    stop_grace_s: float = Field(default=3.0, ge=0)
    """Between SIGTERM and SIGKILL of a model server."""
    backoff_first_s: float = Field(default=0.5, gt=0)
    """The wait before the first restart; doubles until backoff_last_s."""
    backoff_last_s: float = Field(default=30.0, gt=0)


class KubernetesSettings(BaseModel, frozen=True, extra="forbid"):
    """Where ServedModels and pods are, when they are in a cluster."""

    image: str = Field(min_length=1)
    """Of model-server pods; their fetch step runs in it too."""
    namespace: str = Field(default="default", pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63)
    """The one namespace whose ServedModels are served, and where their pods and the Lease are."""
    kubeconfig: Path | None = None
    """None: the cluster this pod runs in."""
    holder: str | None = None
    """What the Lease calls this controller, with a random part added. None: the host's name, which is the pod's."""
    lease: str = "kingmaker-controller"
    """Name of the Lease."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    registry_secret: str = ""
    """Name of a Secret whose entries become environment variables of the fetch step: MLflow's credentials."""
    listen_address: Literal["0.0.0.0", "::"] = "0.0.0.0"  # noqa: S104 - the pods' own network
    """Address model servers listen on; "::" for clusters with IPv6 alone."""
    service_monitor_labels: dict[str, str] = {}
    """Labels of the ServiceMonitors of models, for a Prometheus that selects them by label."""
    service_monitor_interval: str = Field(default="15s", pattern=r"^[0-9]+(s|m)$")
    """How often the model servers are scraped."""
    service_monitors: bool = True
    """Whether models get ServiceMonitors, where the cluster knows them."""
    sweep_s: float = Field(default=4.0, gt=0, le=60)
    """How often every model is looked at without a report; a foreign record in Redis lives no longer."""
    drain_s: float = Field(default=60.0, ge=2)
    """A variant that left the routing record waits this long for gateways that are live and have not taken notice."""
    watch_silence_s: float = Field(default=75.0, ge=0.5)
    """A watch that says nothing for so long is dead; API servers send a bookmark about once a minute."""


class Settings(RedisSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid")

    file: Path | None = None
    """The ServedModel YAML; several documents are several models. Not with kubernetes."""
    state_dir: Path | None = None
    """The .kingmaker folder: state.db, fetched models, logs. Made when it is missing. Only with file."""
    kubernetes: KubernetesSettings | None = None
    """Serve the ServedModels of a cluster instead of a file's."""
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

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.kubernetes is None and (self.file is None or self.state_dir is None):
            raise ValueError("FILE and STATE_DIR are needed, or KUBERNETES__IMAGE to serve a cluster")
        if self.kubernetes is not None and (self.file is not None or self.state_dir is not None):
            raise ValueError("FILE and STATE_DIR mean nothing with KUBERNETES__IMAGE; choose a file or a cluster")
        if self.kubernetes is not None and not (self.registry_uri or "").startswith(("http://", "https://")):
            raise ValueError("REGISTRY_URI must be http:// or https:// with KUBERNETES__IMAGE: pods fetch from there")
        return self
