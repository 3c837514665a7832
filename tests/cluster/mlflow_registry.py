"""The real MLflow: a server on SQLite as a process, and what tests do with one, wherever it runs.

Its client is imported when it is needed: that takes seconds, and most tests of this folder do without."""

import contextlib
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from conftest import take_free_port
from tests.cluster.registry import tiny_model

SHA_TAG = "kingmaker.onnx_sha256"
READY_S = 120.0
SERVER_ENVIRONMENT = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
NAME = "flights"


@contextlib.contextmanager
def _only_here(uri: str) -> Iterator[None]:
    """MLflow keeps its server in the environment, from where every later child of this process would take it."""
    import mlflow

    before = {name: os.environ.get(name) for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")}
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    try:
        yield
    finally:
        mlflow.set_registry_uri(before["MLFLOW_REGISTRY_URI"] or "")
        # its annotation forgets that None takes the address back
        mlflow.set_tracking_uri(before["MLFLOW_TRACKING_URI"])  # type: ignore[arg-type]
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


class MlflowRegistry:
    """A `Registry` by the calls any MLflow client makes. uri: where pods reach it; reached: where this process does."""

    fetch_command: tuple[str, ...] = ()
    """None: pods run the fetch step of their manifests."""

    def __init__(self, uri: str, reached: str) -> None:
        from mlflow import MlflowClient

        self.uri, self._reached = uri, reached
        self.client = MlflowClient(reached, reached)
        self._tags: dict[str, str] = {}

    def publish_tiny(self, versions: int = 4) -> None:
        """Version N of `flights` adds N to what it gets; the alias `champion` is on 1."""
        with _only_here(self._reached):
            self.client.create_registered_model(NAME)
            for number in range(1, versions + 1):
                self._publish(tiny_model(float(number)))
            self.client.set_registered_model_alias(NAME, "champion", "1")

    def _publish(self, raw: bytes) -> None:
        import mlflow
        import onnx

        with mlflow.start_run():
            model = onnx.load_from_string(raw)
            info = mlflow.onnx.log_model(model, name="model", save_as_external_data=False, pip_requirements=["onnx"])
        made = self.client.create_model_version(NAME, info.model_uri, model_id=info.model_id)
        [path] = Path(mlflow.artifacts.download_artifacts(info.model_uri)).glob("*.onnx")
        self._tags[made.version] = hashlib.sha256(path.read_bytes()).hexdigest()
        self.retag(made.version)

    def mistag(self, version: str) -> None:
        self.client.set_model_version_tag(NAME, version, SHA_TAG, "0" * 64)

    def retag(self, version: str) -> None:
        self.client.set_model_version_tag(NAME, version, SHA_TAG, self._tags[version])


class MlflowServer(MlflowRegistry):
    """The server as a child process of this one, to be taken away and brought back."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, take_free_port()
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)
        self.come_back()
        uri = f"http://127.0.0.1:{self._port}"
        super().__init__(uri, uri)

    def come_back(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self._port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self._folder}/mlflow.db"]
        command += ["--artifacts-destination", str(self._folder / "artifacts")]
        with (self._folder / "log").open("ab") as log:
            env = {**os.environ, **SERVER_ENVIRONMENT}
            self._process = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
        wait_ready(f"http://127.0.0.1:{self._port}")

    def go_away(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, 9)
            self._process.wait(30)
            self._process = None


def wait_ready(url: str) -> None:
    deadline = time.monotonic() + READY_S
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health", trust_env=False, timeout=5).status_code == 200:
                return
        assert time.monotonic() < deadline, f"MLflow at {url} is not ready after {READY_S:g} s"
        time.sleep(0.2)


@contextlib.contextmanager
def mlflow_server(folder: Path) -> Iterator[MlflowServer]:
    server = MlflowServer(folder)
    try:
        yield server
    finally:
        server.go_away()
