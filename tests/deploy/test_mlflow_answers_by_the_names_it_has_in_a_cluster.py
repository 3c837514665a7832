"""A real MLflow with the chart's arguments: it must answer to its Service's names, and to no name it was not given."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from conftest import take_free_port
from tests.deploy import chart

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address on loopback; the container's command, environment and folders, elsewhere."""
    folder = tmp_path_factory.mktemp("mlflow")
    objects = chart.render({"mlflow": {"allowedHosts": ["mlflow.example.com"]}})
    pod = chart.one(objects, "Deployment", "kingmaker-mlflow")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    port = take_free_port()
    here = {"0.0.0.0": "127.0.0.1", "--port=5000": f"--port={port}", "/data": str(folder)}
    arguments = container["args"]
    for there, place in here.items():
        arguments = [argument.replace(there, place) for argument in arguments]
    command = [Path(sys.executable).with_name(container["command"][0]), *container["command"][1:], *arguments]
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(folder)}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd="/", stdout=log, stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 120
    try:
        while True:
            try:
                if httpx.get(f"{url}/health", trust_env=False).status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            assert time.monotonic() < deadline and process.poll() is None, (folder / "log").read_text()
            time.sleep(0.2)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # its workers are processes of their own
        process.wait(30)


def asked_as(url: str, host: str) -> int:
    """What the controller and the fetch step ask."""
    path = "/api/2.0/mlflow/registered-models/search"
    return httpx.get(f"{url}{path}", headers={"host": host}, trust_env=False, timeout=30).status_code


@pytest.mark.parametrize(
    "host",
    [
        "km-kingmaker-mlflow:5000",
        "km-kingmaker-mlflow.shop:5000",
        "km-kingmaker-mlflow.shop.svc:5000",
        "km-kingmaker-mlflow.shop.svc.cluster.local:5000",
        "localhost:5000",
        "localhost:8080",
        "mlflow.example.com",
    ],
)
def test_it_answers_to_its_names(mlflow: str, host: str) -> None:
    assert asked_as(mlflow, host) == 200


def test_it_answers_to_no_other(mlflow: str) -> None:
    assert asked_as(mlflow, "evil.example.com") == 403


def test_the_controller_asks_by_one_of_its_names() -> None:
    deployment = chart.one(chart.render({}), "Deployment", "kingmaker-controller")
    environment = chart.environment(deployment["spec"]["template"]["spec"])
    assert environment["KINGMAKER_CONTROLLER_REGISTRY_URI"] == "http://km-kingmaker-mlflow.shop.svc:5000"
