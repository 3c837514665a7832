"""A world in memory around the pure reconcile, and a real controller with stand-ins around real processes."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from kingmaker_contracts import buckets, keys, served_model, wire
from kingmaker_contracts.routing import RoutingRecord
from kingmaker_contracts.status import Condition, Status
from kingmaker_controller.rollout.facts import (
    Desired,
    GatewayView,
    Identity,
    Observed,
    Outcome,
    RedisView,
    stamp,
)
from kingmaker_controller.rollout.reconcile import reconcile
from tests import patience

HERE = Path(__file__).parent
TOKEN = "t0ken"


def resource(spec: dict[str, Any], name: str = "flights") -> dict[str, Any]:
    return {
        "apiVersion": "kingmaker.dev/v1alpha1",
        "kind": "ServedModel",
        "metadata": {"name": name},
        "spec": spec,
    }


class World:
    """What surrounds reconcile: a spec, processes, a Redis that takes whatever is wanted, a clock."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.status = Status()
        self.observed: dict[Identity, Observed] = {}
        self.versions: dict[str, str] = {}
        self.record: RoutingRecord | None = None
        self.known: RoutingRecord | None = None
        self.last: RoutingRecord | None = None
        self.reachable = True
        self.gateways: list[GatewayView] = []
        self.inputs: dict[str, dict[str, str]] = {}
        self.now = datetime(2026, 11, 21, tzinfo=UTC)
        self.epoch = 1
        self.generation = 0
        self.desired = Desired(None, (), 0)
        self.edit(spec)

    def edit(self, spec: dict[str, Any]) -> None:
        """An edit of the file; a faulty one leaves the accepted resource and the generation alone."""
        try:
            parsed = served_model.parse(resource(spec))
        except served_model.InvalidResource as error:
            self.desired = Desired(self.desired.resource, tuple(error.faults), self.generation)
            return
        if parsed != self.desired.resource:
            self.generation += 1
        self.desired = Desired(parsed, (), self.generation)

    def look(self) -> Outcome:
        view = RedisView(
            self.reachable,
            "" if self.reachable else "refused",
            self.record if self.reachable else None,
            self.known,
            "",
            tuple(self.gateways),
            self.inputs,
        )
        return reconcile(
            desired=self.desired,
            previous=self.status,
            observed=self.observed,
            redis=view,
            last=self.last,
            now=self.now,
            epoch=self.epoch,
        )

    def step(self) -> Outcome:
        """One reconcile, carried out: Redis takes the record, new variants become Pending, unwanted ones vanish."""
        outcome = self.look()
        self.status, self.last = outcome.status, outcome.routing
        if self.reachable and outcome.routing is not None:
            self.record = self.known = outcome.routing
        wanted = {v.identity for v in outcome.wanted}
        self.observed = {i: o for i, o in self.observed.items() if i in wanted}
        for variant in outcome.wanted:
            if not variant.draining:
                self.observed.setdefault(variant.identity, Observed("Pending"))
        return outcome

    def settle(self, seconds: float = 3.0) -> Outcome:
        """Everything that still starts becomes ready, and time passes until nothing is left to do."""
        self.step()
        for identity, seen in list(self.observed.items()):
            if not seen.is_ready:
                self.ready(*identity)
        self.step()
        self.now += timedelta(seconds=seconds)
        self.step()
        return self.step()

    def ready(self, name: str, model: str) -> None:
        version = self.versions.setdefault(model, str(len(self.versions) + 1))
        endpoint = f"127.0.0.1:{9000 + abs(hash((name, model))) % 1000}"
        self.observed[Identity(name, model)] = Observed("Ready", version, version * 8, None, (endpoint,))

    def crash(self, name: str, model: str) -> None:
        seen = self.observed[Identity(name, model)]
        self.observed[Identity(name, model)] = Observed(
            "Failed",
            seen.version,
            seen.sha256,
            seen.profile,
            (),
            "killed by signal -9",
            "ServerEnded",
            seen.restarts + 1,
        )

    def restart_controller(self) -> None:
        """Only the status survives; its children died with it."""
        self.last = self.known = None
        self.epoch += 1
        self.observed = {}

    def gateway(self, epoch: int, revision: int, age_s: float = 0.0, id: str = "km:gateways:a") -> None:
        at = stamp(self.now - timedelta(seconds=age_s))
        self.gateways = [g for g in self.gateways if g.id != id] + [GatewayView(id, at, epoch, revision)]

    def condition(self, kind: str) -> Condition:
        return next(c for c in self.status.conditions if c.type == kind)

    @property
    def shares(self) -> dict[str, int]:
        """Live buckets by challenger."""
        assert self.status.routing is not None
        return {n: buckets.size(s) for n, s in buckets.parse(self.status.routing.ranges).items()}


@pytest.fixture
def world_of() -> type[World]:
    return World


class Stack:
    """A controller process, its file and its folder; `registry` is what the stand-in fetch reads."""

    def __init__(self, folder: Path, redis_url: str, port: int) -> None:
        self.folder, self.redis_url, self.port = folder, redis_url, port
        self.file = folder / "served-model.yaml"
        self.registry = folder / "registry" / "flights"
        self.registry.mkdir(parents=True)
        (folder / "token").write_text(TOKEN)
        for version in ("1", "2", "3"):
            (self.registry / version).write_text(f"model {version}")
        self.program: list[str] = [str(HERE / "stand_in_controller.py")]
        self.registry_uri = str(folder / "registry")
        self.processes: list[subprocess.Popen[bytes]] = []

    @property
    def log(self) -> Path:
        return self.folder / "controller.log"

    def write(self, spec: dict[str, Any], **more: dict[str, Any]) -> None:
        """Replace the file by rename, as editors do. more: other models by name."""
        documents = [resource(spec), *(resource(other, name) for name, other in more.items())]
        fresh = self.file.with_suffix(".new")
        fresh.write_text("\n---\n".join(json.dumps(document) for document in documents))
        fresh.rename(self.file)

    def start(self, port: int | None = None, **more: str) -> subprocess.Popen[bytes]:
        settings = {
            "FILE": str(self.file),
            "STATE_DIR": str(self.folder / ".kingmaker"),
            "REDIS_URL": self.redis_url,
            "REGISTRY_URI": self.registry_uri,
            "PORT": str(self.port if port is None else port),
            "TOKEN_FILE": str(self.folder / "token"),
            "POLL_MS": "50",
            **more,
        }
        env = {**os.environ, **{f"KINGMAKER_CONTROLLER_{k}": v for k, v in settings.items()}}
        with self.log.open("ab") as log:
            process = subprocess.Popen([sys.executable, *self.program], env=env, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def get(self, path: str) -> httpx.Response:
        url = f"http://127.0.0.1:{self.port}{path}"
        return httpx.get(url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=20, trust_env=False)

    def model(self, name: str = "flights") -> dict[str, Any]:
        answer = self.get(f"/api/models/{name}")
        answer.raise_for_status()
        return dict(answer.json())

    def status(self) -> dict[str, Any]:
        return dict(self.model()["status"])

    def condition(self, kind: str) -> dict[str, Any]:
        return next(c for c in self.status()["conditions"] if c["type"] == kind)

    def servers(self) -> list[int]:
        """Pids of the model servers of this stack that live, whoever their parent is."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                with contextlib.suppress(OSError):
                    env = (entry / "environ").read_bytes()
                    if f"MODEL_DIR={self.folder}".encode() in env and (entry / "cmdline").read_bytes():
                        found.append(int(entry.name))
        return found

    def until(self, holds: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
        """Poll until something holds; its value. Connection errors and missing keys count as not yet."""
        return patience.until(holds, what, seconds, lambda: self.log.read_text()[-4000:])

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(8)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def routing_of(client: Any, name: str = "flights") -> RoutingRecord | None:
    raw = client.get(keys.routing("default", name))
    return None if raw is None else wire.read_json(raw, RoutingRecord)


@pytest.fixture
def routing() -> Callable[..., RoutingRecord | None]:
    """The stored routing record, read through a client."""
    return routing_of


@pytest.fixture
def stack(tmp_path: Path, valkey: Any, free_port: int) -> Iterator[Stack]:
    """A stack on the shared Valkey, not started."""
    built = Stack(tmp_path, valkey.url, free_port)
    yield built
    built.close()


@pytest.fixture
def own_stack(tmp_path: Path, own_valkey: Any, free_port: int) -> Iterator[Stack]:
    """A stack on a Valkey of its own, not started."""
    built = Stack(tmp_path, own_valkey.url, free_port)
    yield built
    built.close()
