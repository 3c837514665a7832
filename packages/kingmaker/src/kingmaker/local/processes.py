"""The processes of a local stack: which command, which environment. Pure.

Every service is configured by environment variables alone, as its pod would be.
"""

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from kingmaker.local.layout import Layout
from kingmaker.local.ports import HOST, Ports


@dataclass(slots=True, frozen=True)
class Process:
    """One child. ready: path answering 200 on `port`, "" for a bare TCP port; needed: the stack waits for it."""

    name: str
    command: list[str]
    env: Mapping[str, str]
    port: int
    ready: str
    needed: bool = True
    death_signal: int = signal.SIGKILL


def of_stack(layout: Layout, ports: Ports, redis_binary: str, namespace: str) -> list[Process]:
    """Every child in the order they start; they stop in the opposite order, the gateway first of all."""
    redis_url = f"redis://{HOST}:{ports.redis}/0"
    return [
        _redis(layout, ports, redis_binary),
        *([] if layout.registry_server else [_mlflow(layout, ports)]),
        _service(
            "controller",
            ports.controller,
            FILE=str(layout.file),
            STATE_DIR=str(layout.state),
            REDIS_URL=redis_url,
            REGISTRY_URI=layout.registry_uri,
            TOKEN_FILE=str(layout.token),
        ),
        _service(
            "monitor",
            ports.monitor,
            NAMESPACE=namespace,
            REDIS_URL=redis_url,
            STATE_FILE=str(layout.state / "monitor.db"),
        ),
        _service(
            "gateway",
            ports.gateway,
            NAMESPACE=namespace,
            ADMIN_PORT=str(ports.gateway_admin),
            REDIS_URL=redis_url,
            SNAPSHOT_FILE=str(layout.state / "gateway-snapshot.json"),
            GATEWAY_ID="local",
        ),
    ]


def _redis(layout: Layout, ports: Ports, binary: str) -> Process:
    command = [binary, "--port", str(ports.redis), "--bind", HOST, "--dir", str(layout.redis)]
    command += ["--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction"]
    return Process("redis", command, _environment(), ports.redis, "")


def _mlflow(layout: Layout, ports: Ports) -> Process:
    command = [sys.executable, "-m", "kingmaker.local.mlflow_server", layout.registry_uri]
    command += ["server", "--host", HOST, "--port", str(ports.mlflow), "--workers", "1"]
    command += ["--backend-store-uri", layout.registry_uri]
    command += ["--artifacts-destination", str(layout.mlflow / "artifacts")]
    # With its job runner MLflow starts 15 processes and 1.5 GB; without it two, and it stops cleanly.
    env = _environment() | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    # SIGTERM, because it has a worker of its own to take along.
    return Process("mlflow", command, env, ports.mlflow, "/health", needed=False, death_signal=signal.SIGTERM)


def _service(name: str, port: int, **settings: str) -> Process:
    prefix = f"KINGMAKER_{name.upper()}_"
    env = _environment() | {f"{prefix}{key}": value for key, value in settings.items()}
    env |= {f"{prefix}HOST": HOST, f"{prefix}PORT": str(port), f"{prefix}LOG_FORMAT": "text"}
    ready = "/v2/health/live" if name == "gateway" else "/health/live"
    return Process(name, [sys.executable, "-m", f"kingmaker_{name}"], env, port, ready)


def _environment() -> dict[str, str]:
    """This process's environment without settings of services that were meant for another stack."""
    return {key: value for key, value in os.environ.items() if not key.startswith("KINGMAKER_")}
