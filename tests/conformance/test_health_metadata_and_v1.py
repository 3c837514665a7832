"""Everything of the protocols but V2 infer: health, metadata, lists, V1, and what is told of wrong addresses."""

from typing import Any

import httpx
import numpy as np
import pytest

from tests.conformance.answers import check_error
from tests.conformance.models import Oracle
from tests.conformance.stack import VERSION, Target

FLIGHTS_INPUTS = [
    {"name": "distance", "datatype": "FP32", "shape": [-1, 1]},
    {"name": "delay", "datatype": "FP32", "shape": [-1, 1]},
    {"name": "carrier", "datatype": "BYTES", "shape": [-1, 1]},
]
FLIGHTS_OUTPUTS = [
    {"name": "label", "datatype": "INT64", "shape": [-1]},
    {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]},
]
READS = {
    "/v2/health/live": {"live": True},
    "/v2/health/ready": {"ready": True},
    "/v2/models/flights/ready": {"name": "flights", "ready": True},
    "/v2/models/flights/versions/{version}/ready": {"name": "flights", "ready": True},
    "/v1/models/flights": {"name": "flights", "ready": True},
}


def get(target: Target, path: str, model: str = "flights") -> httpx.Response:
    with target.client(model) as client:
        return client.get(path.format(version=target.version))


@pytest.mark.parametrize("path", READS)
def test_health_says_so(target: Target, path: str) -> None:
    answer = get(target, path)
    assert (answer.status_code, answer.headers["content-type"], answer.json()) == (200, "application/json", READS[path])


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
def test_the_server_tells_of_the_binary_extension(target: Target, path: str) -> None:
    answer = get(target, path)
    assert answer.status_code == 200
    told = answer.json()
    assert set(told) == {"name", "version", "extensions"}
    assert told["name"]
    assert told["version"]
    assert "binary_tensor_data" in told["extensions"]


@pytest.mark.parametrize("path", ["/v1/models", "/v2/models"])
def test_models_are_listed(target: Target, path: str) -> None:
    assert "flights" in get(target, path).json()["models"]


@pytest.mark.parametrize("path", ["/v2/models/flights", "/v2/models/flights/versions/{version}"])
def test_metadata_names_inputs_and_outputs(target: Target, path: str) -> None:
    told = get(target, path).json()
    assert told["name"] == "flights"
    assert target.version in told["versions"]
    assert isinstance(told["platform"], str)
    assert told["inputs"] == FLIGHTS_INPUTS
    assert told["outputs"] == FLIGHTS_OUTPUTS
    assert all(isinstance(value, str) for value in told.get("properties", {}).values())


@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/nobody",
        "/v2/models/nobody/ready",
        "/v2/models/flights/versions/nine",
        "/v2/models/flights/versions/nine/ready",
        "/v1/models/nobody",
        "/v3",
        "/v2/models/%FF%00%2F..",
    ],
)
def test_what_is_not_there_is_404(target: Target, path: str) -> None:
    check_error(get(target, path), 404)


@pytest.mark.parametrize(
    "path",
    ["/v2/models/nobody/infer", "/v2/models/flights/versions/nine/infer", "/v1/models/nobody:predict"],
)
def test_predictions_of_nobody_are_404(target: Target, path: str) -> None:
    with target.client() as client:
        check_error(client.post(path, content=b"{}"), 404)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/models/flights/infer"),
        ("DELETE", "/v2/models/flights"),
        ("POST", "/v2/health/live"),
        ("PUT", "/v1/models/flights:predict"),
        ("GET", "/v1/models/flights:predict"),
    ],
)
def test_the_wrong_method_is_405(target: Target, method: str, path: str) -> None:
    with target.client() as client:
        check_error(client.request(method, path), 405)


@pytest.mark.parametrize("path", ["/v2/models/flights/infer", "/v1/models/flights:predict"])
def test_a_body_that_is_too_large_is_413(target: Target, path: str) -> None:
    with target.client() as client:
        answer = client.post(path, content=b" " * (target.max_body_bytes + 1))
    check_error(answer, 413, str(target.max_body_bytes))


def test_an_explanation_is_refused_in_so_many_words(target: Target) -> None:
    with target.client() as client:
        answer = client.post("/v1/models/flights:explain", json={"instances": [[1400, 3, "UA"]]})
    check_error(answer, 501, "not supported")


NAMED = [
    {"distance": 1400, "delay": 3, "carrier": "UA"},
    {"distance": 187.5, "delay": None, "carrier": "AA"},
    {"distance": 733, "carrier": "??"},
]
NAN = float("nan")
ROWS: dict[str, tuple[list[Any], list[tuple[float, float, str]]]] = {
    "named": (NAMED, [(1400, 3, "UA"), (187.5, NAN, "AA"), (733, NAN, "??")]),
    "arrays": ([[1400, 3, "UA"], [187.5, None, "AA"]], [(1400, 3, "UA"), (187.5, NAN, "AA")]),
    "one row": ([[1400, 3, "UA"]], [(1400, 3, "UA")]),
}


@pytest.mark.parametrize("key", ["instances", "inputs"])
@pytest.mark.parametrize("form", ROWS)
def test_v1_rows_get_the_models_answer(target: Target, oracles: dict[str, Oracle], form: str, key: str) -> None:
    rows, meant = ROWS[form]
    arrays = {
        "distance": np.array([[row[0]] for row in meant], "<f4"),
        "delay": np.array([[row[1]] for row in meant], "<f4"),
        "carrier": np.array([[row[2]] for row in meant], object),
    }
    expected = oracles["flights"](arrays)
    with target.client() as client:
        answer = client.post("/v1/models/flights:predict", json={key: rows})
    assert answer.status_code == 200, answer.text
    predictions = answer.json()["predictions"]
    assert [p["label"] for p in predictions] == expected["label"].tolist()
    found = np.array([p["probabilities"] for p in predictions])
    np.testing.assert_allclose(found, expected["probabilities"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("rows", [[[1, 2, 3, 4], [0, 0, 0, -1]], [{"x": [1, 2, 3, 4]}]])
def test_v1_rows_of_a_single_tensor_get_plain_values(target: Target, rows: list[Any]) -> None:
    with target.client("block") as client:
        answer = client.post("/v1/models/block:predict", json={"instances": rows})
    assert answer.status_code == 200, answer.text
    doubled = [[2 * value for value in (row["x"] if isinstance(row, dict) else row)] for row in rows]
    assert answer.json() == {"predictions": doubled}


FAULTY_ROWS: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "empty body": (b"", ("empty",)),
    "not JSON": (b"{", ("JSON",)),
    "no rows": (b'{"instances": []}', ()),
    "no instances": (b"{}", ("instances",)),
    "instances of another kind": (b'{"instances": 5}', ()),
    "a row too short": (b'{"instances": [[1, 2]]}', ("row 0", "3")),
    "an unknown feature": (b'{"instances": [{"distance": 1, "dealy": 2, "carrier": "UA"}]}', ("dealy",)),
    "a feature left out": (b'{"instances": [{"distance": 1, "delay": 2}]}', ("carrier",)),
    "a feature that may not be missing": (b'{"instances": [[null, 2, "UA"]]}', ("distance",)),
    "a string for a number": (b'{"instances": [[1, 2, "UA"], [1, "x", "UA"]]}', ("delay", "row 1")),
    "a number for a string": (b'{"instances": [[1, 2, 3]]}', ("carrier",)),
    "a number that does not fit": (b'{"instances": [[1e39, 2, "UA"]]}', ("distance",)),
    "a literal Infinity": (b'{"instances": [[Infinity, 2, "UA"]]}', ("Infinity",)),
    "a row of another kind": (b'{"instances": ["UA"]}', ("row 0",)),
}


@pytest.mark.parametrize("fault", FAULTY_ROWS)
def test_faulty_rows_are_told_what_is_wrong_with_them(target: Target, fault: str) -> None:
    content, words = FAULTY_ROWS[fault]
    with target.client() as client:
        check_error(client.post("/v1/models/flights:predict", content=content), 400, *words)


def test_the_answers_version_is_the_registrys(target: Target) -> None:
    body = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
    with target.client("block") as client:
        told = client.post("/v2/models/block/infer", json=body).json()
    assert (told["model_name"], told["model_version"]) == ("block", VERSION)


@pytest.mark.parametrize("protocol", ["v1"])
def test_the_root_says_it_is_alive(target: Target, protocol: str) -> None:
    """KServe's clients ask the root for liveness when they speak V1."""
    answer = get(target, "/")
    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})
