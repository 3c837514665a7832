"""Each image is started as a pod would start it: its own user, a read-only root, no capabilities."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from conftest import Valkey, take_free_port
from tests.fakes.fake_apiserver import FakeApiserver, load_yaml
from tests.images.conftest import PREFIX, ROOT
from tests.images.engine import Container, Engine, until

pytestmark = pytest.mark.images
TMP = "--tmpfs=/tmp"
BODY = {"instances": [[1.0, 2.0]]}


def assert_healthy_until_stopped(container: Container) -> None:
    until(container.is_healthy, f"it did not become healthy:\n{container.log()}")
    assert container.stop() == 0, container.log()


def test_the_gateway_starts_and_drains(images: Engine, valkey: Valkey) -> None:
    port, admin = take_free_port(), take_free_port()
    container = images.start(
        f"{PREFIX}-gateway",
        KINGMAKER_GATEWAY_PORT=port,
        KINGMAKER_GATEWAY_ADMIN_PORT=admin,
        KINGMAKER_GATEWAY_REDIS_URL=valkey.url,
    )
    until(container.is_healthy, f"it did not become healthy:\n{container.log()}")
    assert httpx.get(f"http://127.0.0.1:{port}/v2", trust_env=False).json()["name"]
    assert b"swagger" in httpx.get(f"http://127.0.0.1:{port}/docs", trust_env=False).content
    assert container.stop() == 0, container.log()


def test_the_monitor_starts_on_a_volume_and_comes_back_to_it(images: Engine, valkey: Valkey) -> None:
    port = take_free_port()
    images.say("podman", "volume", "create", "monitor-state")
    for _ in range(2):
        container = images.start(
            f"{PREFIX}-monitor",
            "--volume=monitor-state:/data",
            TMP,
            KINGMAKER_MONITOR_PORT=port,
            KINGMAKER_MONITOR_REDIS_URL=valkey.url,
        )
        assert_healthy_until_stopped(container)


def test_the_controller_serves_a_cluster(images: Engine, valkey: Valkey, tmp_path: Path) -> None:
    folder = tmp_path / "config"
    folder.mkdir()
    with FakeApiserver(load_yaml(ROOT / "deploy/k8s/crd")) as server:
        server.kubeconfig(folder / "kubeconfig")
        (folder / "token").write_text("t0ken")
        port = take_free_port()
        container = images.start(
            f"{PREFIX}-controller",
            f"--volume={folder}:/config:ro",
            KINGMAKER_CONTROLLER_PORT=port,
            KINGMAKER_CONTROLLER_REDIS_URL=valkey.url,
            KINGMAKER_CONTROLLER_TOKEN_FILE="/config/token",
            KINGMAKER_CONTROLLER_REGISTRY_URI="http://127.0.0.1:9",
            KINGMAKER_CONTROLLER_KUBERNETES__KUBECONFIG="/config/kubeconfig",
            KINGMAKER_CONTROLLER_KUBERNETES__IMAGE=f"{PREFIX}-model-server",
        )
        assert_healthy_until_stopped(container)


def test_a_model_is_fetched_and_served_by_one_image(images: Engine, models: Path) -> None:
    """The command lines are those of a pod: the fetch step, then the server on what it linked."""
    image = f"{PREFIX}-model-server"
    images.say("podman", "volume", "create", "models")
    shared = f"--volume={models}:/source:ro", "--volume=models:/models:U", TMP
    fetch = ["python", "-m", "kingmaker_model_server.fetch", "lr.onnx", "--base", "/source", "--to", "/models"]
    told = json.loads(images.run(image, *shared, command=[*fetch, "--link", "/models/current"]))
    port = take_free_port()
    container = images.start(
        image,
        *shared,
        KINGMAKER_MODEL_SERVER_PORT=port,
        KINGMAKER_MODEL_SERVER_MODEL_DIR="/models/current",
        KINGMAKER_MODEL_SERVER_MODEL_NAME="flights",
        KINGMAKER_MODEL_SERVER_EXPECTED_SHA256=told["manifest"]["sha256"],
    )
    url = f"http://127.0.0.1:{port}"
    until(lambda: answers(f"{url}/v2/health/ready"), f"it did not become ready:\n{container.log()}")
    answer = httpx.post(f"{url}/v1/models/flights:predict", json=BODY, trust_env=False)
    assert answer.json() == {"predictions": [[2.0, 3.0]]}, answer.text
    assert_healthy_until_stopped(container)


def test_the_same_image_serves_as_sagemaker_starts_it(images: Engine, models: Path) -> None:
    port = take_free_port()
    model = f"--volume={models / 'gbm.onnx'}:/opt/ml/model/gbm.onnx:ro"
    container = images.start(f"{PREFIX}-model-server", model, arguments=["serve"], SAGEMAKER_BIND_TO_PORT=port)
    url = f"http://127.0.0.1:{port}"
    until(lambda: answers(f"{url}/ping"), f"it did not become ready:\n{container.log()}")
    answer = httpx.post(f"{url}/invocations", json=BODY, trust_env=False)
    assert answer.json() == {"predictions": [[3.0, 4.0]]}, answer.text
    assert container.stop() == 0, container.log()


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture
def mlflow_url(tmp_path: Path) -> Iterator[str]:
    """A real MLflow, which keeps the artifacts itself."""
    port = take_free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/mlflow.db",
        "--artifacts-destination",
        str(tmp_path / "a"),
    ]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(["env", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false", *command], **quiet)
    url = f"http://127.0.0.1:{port}"
    until(lambda: answers(f"{url}/health"), "MLflow did not start", 120)
    yield url
    process.terminate()
    process.wait(20)


def test_the_image_fetches_from_mlflow_without_pandas(
    images: Engine, models: Path, mlflow_url: str, tmp_path: Path
) -> None:
    import mlflow
    import onnx

    client = mlflow.MlflowClient(mlflow_url, mlflow_url)
    mlflow.onnx.save_model(onnx.load(models / "lr.onnx"), tmp_path / "saved", save_as_external_data=False)
    run = client.create_run(client.create_experiment("flights"))
    client.log_artifacts(run.info.run_id, str(tmp_path / "saved"), "model")
    client.create_registered_model("flights")
    client.create_model_version("flights", f"{run.info.artifact_uri}/model", run.info.run_id)
    images.say("podman", "volume", "create", "fetched")
    command = [
        "python",
        "-m",
        "kingmaker_model_server.fetch",
        "models:/flights/1",
        "--to",
        "/models",
        "--registry",
        mlflow_url,
    ]
    told = json.loads(images.run(f"{PREFIX}-model-server", "--volume=fetched:/models:U", TMP, command=command))
    assert (told["manifest"]["name"], told["manifest"]["version"]) == ("flights", "1")
