"""Real processes for the conformance tests: a model server for each model, and one gateway in front of them."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import redis

from kingmaker_contracts import keys, package, profile, wire
from kingmaker_contracts.profile import Profile
from kingmaker_contracts.routing import Limits, RoutedVariant, RoutingRecord, Sticky

VERSION = "3"
VARIANT = "lr"
GATEWAY_BODY_BYTES = 100_000
SERVER_BODY_BYTES = 200_000
BODY_READ_MS = 1000


class Process:
    """One service with its log in a file; the log names the port it took."""

    def __init__(self, module: str, log: Path, settings: dict[str, str]) -> None:
        self.name, self._log_path = module, log
        prefix = f"{module.upper()}_"
        env = {name: text for name, text in os.environ.items() if not name.startswith("KINGMAKER_")}
        env |= {prefix + name: text for name, text in settings.items()}
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module], env=env, stdout=output, stderr=subprocess.STDOUT
            )
        self._read_to = 0

    @property
    def log(self) -> str:
        return self._log_path.read_text()

    def address(self, listener: str) -> str:
        pattern = f'"event": "listening", "listener": "{listener}", "address": "([^"]+)"'
        return self._until(lambda: re.search(pattern, self.log))[1]

    def wait_ready(self, url: str) -> None:
        with httpx.Client(trust_env=False) as client:
            self._until(lambda: _status(client, url) == 200)

    def news(self) -> str:
        """What was logged since the last call."""
        log = self.log
        new, self._read_to = log[self._read_to :], len(log)
        return new

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def stop(self, number: int = signal.SIGKILL) -> None:
        if self.is_running:
            self._process.send_signal(number)
        self._process.wait(20)

    def _until(self, condition: Any) -> Any:
        deadline = time.monotonic() + 60
        while not (result := condition()):
            assert self.is_running, f"{self.name} ended: {self.log}"
            assert time.monotonic() < deadline, f"{self.name} is not ready: {self.log}"
            time.sleep(0.02)
        return result


@dataclass(frozen=True)
class Target:
    """One of the two services under test, the same models behind both.

    addresses: host:port by model; version: what its paths call the one version, a variant's name at the gateway.
    """

    name: str
    addresses: dict[str, str]
    version: str
    max_body_bytes: int
    processes: tuple[Process, ...]

    def client(self, model: str = "flights") -> httpx.Client:
        return httpx.Client(base_url=f"http://{self.addresses[model]}", timeout=30, trust_env=False)


def start_model_server(folder: Path, name: str, model: bytes, known: Profile | None) -> tuple[Process, str]:
    """A ready server of one model, and where it listens."""
    folder.mkdir()
    (folder / package.MODEL).write_bytes(model)
    sha = None
    if known is not None:
        raw = wire.write_json(known)
        (folder / package.PROFILE).write_bytes(raw)
        sha = profile.sha256_of(raw)
    digest = hashlib.sha256(model).hexdigest()
    manifest = package.Manifest(f"models:/{name}@champion", name, VERSION, digest, "champion", sha)
    (folder / package.MANIFEST).write_bytes(msgspec.json.encode(manifest))
    settings = {"MODEL_DIR": str(folder), "MODEL_NAME": name, "PORT": "0", "THREADS": "1"}
    settings["MAX_BODY_BYTES"] = str(SERVER_BODY_BYTES)
    process = Process("kingmaker_model_server", folder / "log", settings)
    address = process.address("http")
    process.wait_ready(f"http://{address}/v2/health/ready")
    return process, address


def publish(
    client: "redis.Redis", name: str, address: str, known: Profile | None, *more: str, revision: int = 1
) -> None:
    """Routing record and profile of one model, as the controller would write them. more: addresses of replicas."""
    sha = None
    if known is not None:
        raw = wire.write_json(known)
        sha = profile.sha256_of(raw)
        client.set(keys.profile("default", name, sha), raw)
    record = RoutingRecord(
        namespace="default",
        name=name,
        revision=revision,
        epoch=1,
        generation=1,
        rollout_id="r1",
        mode="Canary",
        variants=[RoutedVariant(VARIANT, "champion", VERSION, name, [address, *more], 0, 0, sha)],
        ranges="",
        sticky=Sticky("PredictionId", f"default/{name}"),
        overrides="Allowed",
        limits=Limits(deadline_ms=20_000, max_body_bytes=GATEWAY_BODY_BYTES),
        source="test",
        updated_at="2026-01-01T00:00:00Z",
    )
    client.set(keys.routing("default", name), wire.write_json(record))
    client.sadd(keys.MODELS, keys.model_id("default", name))
    client.publish(keys.ROUTING_CHANNEL, keys.model_id("default", name))


def start_gateway(
    folder: Path, redis_url: str, models: list[str], body_read_ms: int = BODY_READ_MS
) -> tuple[Process, str]:
    """A gateway that can answer for every model, and where it listens."""
    settings = {"PORT": "0", "ADMIN_PORT": "0", "REDIS_URL": redis_url, "GATEWAY_ID": "gw-conformance"}
    settings["LIMITS__BODY_READ_MS"] = str(body_read_ms)
    process = Process("kingmaker_gateway", folder / "gateway.log", settings)
    address = process.address("public")
    for model in models:
        process.wait_ready(f"http://{address}/v2/models/{model}/ready")
    return process, address


def _status(client: httpx.Client, url: str) -> int | None:
    try:
        return client.get(url).status_code
    except httpx.TransportError:
        return None
