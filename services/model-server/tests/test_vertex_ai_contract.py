"""Vertex AI: the port, routes and body of "Custom container requirements for prediction"."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from conftest import take_free_port

if TYPE_CHECKING:
    from tests.conftest import Start

HEALTH = "/v1/endpoints/1/deployedModels/2"
"""What Vertex AI names when the model's resource names nothing."""
PREDICT = f"{HEALTH}:predict"
ROWS = [{"distance": 1400, "delay": 40, "carrier": "UA"}, {"distance": 1400, "delay": 0, "carrier": "AA"}]


@pytest.fixture(scope="module", params=["true", "false"], ids=["hot path", "plain ASGI"])
def vertex(
    request: Any, make: Any, tmp_path_factory: pytest.TempPathFactory, flights_bytes: bytes
) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("vertex")
    package = make.write_package(folder / "package", flights_bytes, make.flights_profile(flights_bytes))
    port = take_free_port()
    environ = {"AIP_MODE": "PREDICTION", "AIP_HTTP_PORT": str(port), "AIP_STORAGE_URI": str(package)}
    environ |= {"AIP_HEALTH_ROUTE": HEALTH, "AIP_PREDICT_ROUTE": PREDICT}
    server = make.Server(folder / "log", {"HOT_PATH": request.param, "PORT": "1"}, environ=environ)
    server.wait_ready()
    assert server.address() == f"0.0.0.0:{port}"
    with server.client() as client:
        yield client
    server.stop()


def test_it_answers_on_the_port_and_routes_vertex_ai_names(vertex: httpx.Client) -> None:
    assert vertex.get(HEALTH).status_code == 200
    answer = vertex.post(PREDICT, json={"instances": ROWS, "parameters": {}})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    predictions = answer.json()["predictions"]
    assert [row["label"] for row in predictions] == [1, 0]
    assert answer.json() == vertex.post("/invocations", json={"instances": ROWS}).json()
    assert vertex.post("/v1/models/model:predict", json={"instances": ROWS}).json() == answer.json()
    assert vertex.post(PREDICT, json={"instances": ROWS, "parameters": None}).json() == answer.json()


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, 'the body has nothing, expected an object with exactly one of "instances"'),
        ({"instances": []}, '"instances" is empty, expected at least one row'),
        ({"instances": {}}, '"instances" is an object, expected an array'),
        ({"instances": ROWS, "parameters": {"confidenceThreshold": 0.5}}, '"parameters" is not empty'),
        ({"instances": ROWS, "signature_name": "x"}, 'unknown field "signature_name" beside "instances"'),
        ({"instances": [ROWS[0], {"distance": 1, "speed": 2}]}, "row 1: unknown feature 'speed'"),
        ({"instances": [{"b64": "YWJj"}]}, "row 0: unknown feature 'b64'"),
        ([], "the body is an array"),
    ],
)
def test_a_bad_body_is_400_and_names_the_field(vertex: httpx.Client, body: Any, text: str) -> None:
    answer = vertex.post(PREDICT, json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_input")
    assert text in answer.json()["error"]


def test_its_route_may_be_one_of_ours(make: Any, start: "Start", tmp_path: Path, free_port: int) -> None:
    package = make.write_package(tmp_path / "package", make.one_column_model())
    environ = {"AIP_HTTP_PORT": str(free_port), "AIP_HEALTH_ROUTE": "/", "AIP_PREDICT_ROUTE": "/predict"}
    server = start(package, environ=environ)
    server.wait_ready()
    with server.client() as client:
        assert (client.get("/").status_code, client.get("/").content) == (200, b"")
        assert client.post("/predict", json={"instances": [1]}).json() == {"predictions": [[1.0]]}
        assert client.post("/predict", content=b"1\n", headers={"content-type": "text/csv"}).status_code == 200
