"""Tiny real models, packages on disk, and real server processes."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

PREFIX = "KINGMAKER_MODEL_SERVER_"
CARRIERS = ("UA", "AA", "DL")


def onnx_bytes(nodes: list[Any], inputs: list[Any], outputs: list[Any], initializers: tuple[Any, ...] = ()) -> bytes:
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(initializers))
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)], ir_version=8
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def value(name: str, kind: int, shape: list[Any]) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def sum_and_copy_model() -> bytes:
    """x FP32 [N,3] -> total FP32 [N], twice FP32 [N,3]."""
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    nodes = [
        helper.make_node("ReduceSum", ["x", "axes"], ["total"], keepdims=0),
        helper.make_node("Add", ["x", "x"], ["twice"]),
    ]
    outputs = [value("total", TensorProto.FLOAT, ["N"]), value("twice", TensorProto.FLOAT, ["N", 3])]
    return onnx_bytes(nodes, [value("x", TensorProto.FLOAT, ["N", 3])], outputs, (axes,))


def one_column_model(kind: int = TensorProto.FLOAT, shape: tuple[Any, ...] = ("N", 1)) -> bytes:
    """x -> y, the same."""
    return onnx_bytes(
        [helper.make_node("Identity", ["x"], ["y"])], [value("x", kind, list(shape))], [value("y", kind, list(shape))]
    )


def typed_model() -> bytes:
    """i INT64 [N,1], f FP32 [N,1], b BOOL [N,1], s BYTES [N,1], each given back as <name>_out."""
    kinds = {"i": TensorProto.INT64, "f": TensorProto.FLOAT, "b": TensorProto.BOOL, "s": TensorProto.STRING}
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in kinds]
    inputs = [value(name, kind, ["N", 1]) for name, kind in kinds.items()]
    return onnx_bytes(nodes, inputs, [value(f"{n}_out", k, ["N", 1]) for n, k in kinds.items()])


def text_to_number_model() -> bytes:
    """s BYTES [N,1] -> y FP32 [N,1]; fails on strings that are no numbers."""
    return onnx_bytes(
        [helper.make_node("Cast", ["s"], ["y"], to=TensorProto.FLOAT)],
        [value("s", TensorProto.STRING, ["N", 1])],
        [value("y", TensorProto.FLOAT, ["N", 1])],
    )


def flights_model(zipmap: bool = False) -> bytes:
    """distance, delay FP32 [N,1], carrier BYTES [N,1] -> label INT64 [N], probabilities FP32 [N,2]."""
    import pandas as pd

    rng = np.random.default_rng(7)
    frame = pd.DataFrame(
        {
            "distance": rng.uniform(100, 2500, 300).astype(np.float32),
            "delay": rng.normal(5, 20, 300).astype(np.float32),
            "carrier": rng.choice(CARRIERS, 300),
        }
    )
    columns = ColumnTransformer(
        [
            ("num", "passthrough", ["distance", "delay"]),
            ("cat", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["carrier"]),
        ]
    )
    pipe = Pipeline([("columns", columns), ("lr", LogisticRegression(max_iter=500))])
    pipe.fit(frame, (frame["delay"] + rng.normal(0, 5, 300) > 10).astype(int))
    types = [("distance", FloatTensorType([None, 1])), ("delay", FloatTensorType([None, 1]))]
    types += [("carrier", StringTensorType([None, 1]))]
    options = {id(pipe): {"zipmap": zipmap}}
    converted = to_onnx(pipe, initial_types=types, options=options, target_opset={"": 21, "ai.onnx.ml": 3})
    return bytes(converted.SerializeToString())


def flights_profile(model: bytes, **changes: Any) -> dict[str, Any]:
    """profile.json of flights_model, of which delay and carrier may be missing."""
    numbers = {"edges": [], "counts": [300], "missing": 0, "minimum": 0, "maximum": 1, "mean": 10.0, "std": 1}

    def feature(name: str, datatype: str, kind: str, nullable: bool) -> dict[str, Any]:
        return {"name": name, "datatype": datatype, "shape": [-1, 1], "kind": kind, "nullable": nullable}

    return {
        "name": "flights",
        "onnx_sha256": hashlib.sha256(model).hexdigest(),
        "inputs": [
            feature("distance", "FP32", "numeric", False),
            feature("delay", "FP32", "numeric", True),
            feature("carrier", "BYTES", "categorical", True),
        ],
        "outputs": [
            {"name": "label", "datatype": "INT64", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]},
        ],
        "score": None,
        "reference": {
            "rows": 300,
            "numeric": {"distance": numbers, "delay": numbers},
            "categorical": {"carrier": {"categories": ["UA"], "counts": [300], "other": 0, "missing": 0}},
        },
        "quality": None,
        "parity": None,
        "created_at": "2013-03-01T00:00:00Z",
        "v": 1,
    } | changes


def write_package(folder: Path, model: bytes, profile: dict[str, Any] | None = None, **changes: Any) -> Path:
    """A package as the fetch step leaves it; changes go into the manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(model)
    manifest = {
        "source": "models:/flights@champion",
        "name": "flights",
        "version": "3",
        "sha256": hashlib.sha256(model).hexdigest(),
        "alias": "champion",
        "profile_sha256": None,
        "v": 1,
    }
    if profile is not None:
        raw = json.dumps(profile).encode()
        (folder / "profile.json").write_bytes(raw)
        manifest["profile_sha256"] = hashlib.sha256(raw).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest | changes))
    return folder


class Server:
    """One `python -m kingmaker_model_server` with its log in memory of a file."""

    def __init__(
        self,
        log: Path,
        settings: dict[str, str],
        arguments: tuple[str, ...] = (),
        environ: dict[str, str] | None = None,
    ) -> None:
        self.log_path = log
        env = {k: v for k, v in os.environ.items() if not k.startswith(PREFIX)}
        env |= {PREFIX + name: text for name, text in settings.items()} | (environ or {})
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kingmaker_model_server", *arguments],
                env=env,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def address(self) -> str:
        return until(lambda: re.search(r'"address": "([^"]+)"', self.log), self)[1]

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=f"http://{self.address()}", timeout=30, trust_env=False)

    def wait_ready(self) -> None:
        with self.client() as client:
            until(lambda: answers(client, "/v2/health/ready") == 200, self)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)


def answers(client: httpx.Client, path: str) -> int | None:
    try:
        return client.get(path).status_code
    except httpx.TransportError:
        return None


def until(condition: Callable[[], Any], server: Server | None = None, seconds: float = 30) -> Any:
    """What the condition returns once it is true."""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if server is not None and server.process.poll() is not None:
            raise AssertionError(f"the server ended with {server.process.returncode}: {server.log}")
        if time.monotonic() > deadline:
            raise AssertionError("the condition did not come true")
        time.sleep(0.02)


Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start servers: start(model_dir, NAME="value"...)."""
    servers: list[Server] = []

    def begin(
        model_dir: Path, arguments: tuple[str, ...] = (), environ: dict[str, str] | None = None, **settings: str
    ) -> Server:
        settings = {"MODEL_DIR": str(model_dir), "MODEL_NAME": "flights", "PORT": "0"} | settings
        servers.append(Server(tmp_path / f"server-{len(servers)}.log", settings, arguments, environ))
        return servers[-1]

    yield begin
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def flights_bytes() -> bytes:
    return flights_model()


@pytest.fixture(scope="session", params=["true", "false"], ids=["hot path", "plain ASGI"])
def shared(request: Any, tmp_path_factory: pytest.TempPathFactory, flights_bytes: bytes) -> Iterator[Server]:
    """A ready server of the flights model with its profile, version 3, in both ways in. Do not stop it."""
    folder = tmp_path_factory.mktemp("shared")
    package = write_package(folder / "package", flights_bytes, flights_profile(flights_bytes))
    settings = {"MODEL_DIR": str(package), "MODEL_NAME": "flights", "PORT": "0", "MAX_BODY_BYTES": "100000"}
    settings["HOT_PATH"] = request.param
    server = Server(folder / "log", settings)
    server.wait_ready()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def client(shared: Server) -> Iterator[httpx.Client]:
    with shared.client() as client:
        yield client


@pytest.fixture(scope="session")
def make() -> Any:
    """The model and package makers of this file, for tests."""
    return sys.modules[__name__]


class Core:
    """The prediction core around a model in memory, without a server."""

    def __init__(self, model: bytes, profile: dict[str, Any] | None = None) -> None:
        import msgspec
        from prometheus_client import CollectorRegistry

        from kingmaker_contracts.inference import ModelMetadata
        from kingmaker_contracts.profile import Profile
        from kingmaker_model_server.metrics import Metrics
        from kingmaker_model_server.predict import Loaded, Predictor
        from kingmaker_model_server.run import Runner
        from kingmaker_model_server.session import OnnxModel
        from kingmaker_model_server.signature import Signature
        from kingmaker_model_server.warmup import warm_up

        parsed = None if profile is None else msgspec.convert(profile, Profile)
        self.model = OnnxModel(model, "m.onnx", 1)
        warm_up(self.model, parsed, "m.onnx")
        self.registry = CollectorRegistry()
        metrics = Metrics(self.registry)
        self.predictor = Predictor("m", 2**24, metrics)
        signature = Signature(self.model.inputs, parsed, self.model.row_wise)
        metadata = ModelMetadata("m", "onnx_onnxv1", self.model.inputs, self.model.outputs)
        runner = Runner(self.model, signature, metrics)
        self.is_sound, self.joined = runner.is_sound, runner.joined
        self.predictor.load(Loaded(self.model, signature, "1", metadata))

    def invoke(self, body: Any, content_type: str = "application/json", accept: str | None = None) -> tuple[int, Any]:
        """Status, and the predictions, the text of another form, or the error's text. body: bytes, or sent as JSON."""
        headers = {b"content-type": content_type.encode()} | ({b"accept": accept.encode()} if accept else {})
        answer = self.predictor.invoke(headers, body if isinstance(body, bytes) else json.dumps(body).encode())
        if answer.status != 200:
            return answer.status, json.loads(answer.body)["error"]
        if dict(answer.headers)[b"content-type"] != b"application/json":
            return answer.status, answer.body.decode()
        return answer.status, json.loads(answer.body)["predictions"]

    def predict(self, instances: Any) -> tuple[int, Any]:
        """Status, and the predictions or the error's text."""
        answer = self.predictor.predict("m", json.dumps({"instances": instances}).encode())
        body = json.loads(answer.body)
        return answer.status, body["predictions"] if answer.status == 200 else body["error"]

    def infer(self, body: bytes, headers: dict[bytes, bytes] | None = None) -> Any:
        return self.predictor.infer("m", None, headers or {}, body)


@pytest.fixture(scope="session")
def core(flights_bytes: bytes) -> Core:
    """The flights model with its profile."""
    return Core(flights_bytes, flights_profile(flights_bytes))
