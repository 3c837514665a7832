"""The conformance table of the Open Inference Protocol V2 and V1, over real HTTP."""

import hashlib
import json
import re
from typing import Any

import httpx
import pytest

BASE = {"distance": [1400, 733], "delay": [3, 40], "carrier": ["UA", "AA"]}
TYPES = {"distance": "FP32", "delay": "FP32", "carrier": "BYTES"}


def tensor(which: str, **changes: Any) -> dict[str, Any]:
    return {"name": which, "shape": [2, 1], "datatype": TYPES[which], "data": BASE[which]} | changes


def request(*others: dict[str, Any], **top: Any) -> dict[str, Any]:
    """A good request, with tensors of the same name replaced."""
    named = {t["name"]: t for t in map(tensor, BASE)} | {t["name"]: t for t in others}
    return {"inputs": list(named.values())} | top


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        ("/v2/models", {"models": ["flights"]}),
        ("/v2/models/flights/ready", {"name": "flights", "ready": True}),
        ("/v2/models/flights/versions/3/ready", {"name": "flights", "ready": True}),
        ("/v1/models", {"models": ["flights"]}),
        ("/v1/models/flights", {"name": "flights", "ready": True}),
        ("/health/ready", {"ready": True}),
    ],
)
def test_health_and_lists_answer_as_the_protocol_says(client: httpx.Client, path: str, body: Any) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()) == (200, body)
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
def test_server_metadata_names_the_binary_extension(client: httpx.Client, path: str) -> None:
    body = client.get(path).json()
    assert body["name"] == "kingmaker-model-server"
    assert body["extensions"] == ["binary_tensor_data"]
    assert re.fullmatch(r"\d+\.\d+.*", body["version"])


@pytest.mark.parametrize("path", ["/v2/models/flights", "/v2/models/flights/versions/3"])
def test_model_metadata_tells_the_sessions_tensors(client: httpx.Client, path: str, flights_bytes: bytes) -> None:
    body = client.get(path).json()
    properties = body.pop("properties")
    assert body == {
        "name": "flights",
        "versions": ["3"],
        "platform": "onnx_onnxv1",
        "inputs": [
            {"name": "distance", "datatype": "FP32", "shape": [-1, 1]},
            {"name": "delay", "datatype": "FP32", "shape": [-1, 1]},
            {"name": "carrier", "datatype": "BYTES", "shape": [-1, 1]},
        ],
        "outputs": [
            {"name": "label", "datatype": "INT64", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 2]},
        ],
    }
    assert properties["sha256"] == hashlib.sha256(flights_bytes).hexdigest()
    assert properties["source"] == "models:/flights@champion"


@pytest.mark.parametrize("path", ["/v2/models/flights/infer", "/v2/models/flights/versions/3/infer"])
def test_infer_answers_every_output_and_echoes_the_id(client: httpx.Client, path: str) -> None:
    body = client.post(path, json=request(id="42")).json()
    assert (body["model_name"], body["model_version"], body["id"]) == ("flights", "3", "42")
    label, probabilities = body["outputs"]
    assert label == {"name": "label", "shape": [2], "datatype": "INT64", "data": [0, 1]}
    assert (probabilities["name"], probabilities["shape"], probabilities["datatype"]) == (
        "probabilities",
        [2, 2],
        "FP32",
    )
    assert sum(probabilities["data"]) == pytest.approx(2, abs=1e-5)


def test_infer_makes_up_an_id_and_gives_only_the_outputs_asked_for(client: httpx.Client) -> None:
    body = client.post("/v2/models/flights/infer", json=request(outputs=[{"name": "probabilities"}])).json()
    assert [o["name"] for o in body["outputs"]] == ["probabilities"]
    assert re.fullmatch(r"[0-9a-f-]{36}", body["id"])


@pytest.mark.parametrize(
    "change",
    [
        tensor("distance", data=[[1400], [733]]),
        tensor("distance", datatype="INT64"),
        tensor("distance", datatype="FP64"),
        tensor("distance", datatype="UINT16"),
    ],
)
def test_nested_data_and_lossless_number_types_give_the_same_answer(client: httpx.Client, change: Any) -> None:
    expected = client.post("/v2/models/flights/infer", json=request(id="1")).json()
    assert client.post("/v2/models/flights/infer", json=request(change, id="1")).json() == expected


BAD_INFER = [
    ("no JSON", b"{", "not JSON"),
    ("an empty body", b"", "empty"),
    ("a JSON list", b"[]", "not an inference message"),
    ("literal NaN", b'{"inputs": [{"name": "distance", "data": [NaN]}]}', "null for a missing value"),
    ("no inputs", {"id": "1"}, "inputs"),
    ("an unknown output", request(outputs=[{"name": "margin"}]), "unknown output 'margin'.*'probabilities'"),
    ("an output twice", request(outputs=[{"name": "label"}, {"name": "label"}]), "'label' is asked for twice"),
    ("an unknown input", request(tensor("distance", name="speed")), "unknown input 'speed'.*'distance'"),
    ("a missing input", {"inputs": [tensor("distance"), tensor("delay")]}, "'carrier'.*missing"),
    ("an input twice", {"inputs": [tensor("distance")] * 2}, "'distance' stands twice"),
    ("a string for a number", request(tensor("distance", data=["far", 1])), 'distance.*"far".*number'),
    ("a number for a string", request(tensor("carrier", data=[1, "UA"])), "carrier.*1.*string"),
    ("strings where numbers are", request(tensor("distance", datatype="BYTES", data=["a", "b"])), "BYTES.*FP32"),
    ("booleans where numbers are", request(tensor("distance", datatype="BOOL", data=[True, False])), "BOOL.*FP32"),
    ("an unknown datatype", request(tensor("distance", datatype="FLOAT")), "distance.*FLOAT.*FP32"),
    (
        "a whole number FP32 cannot hold",
        request(tensor("distance", datatype="INT64", data=[2**24 + 1, 1])),
        "distance.*exactly",
    ),
    ("a float FP32 cannot hold", request(tensor("distance", datatype="FP64", data=[1e300, 1])), "distance.*fit"),
    ("the wrong rank", request(tensor("distance", shape=[2])), r"distance.*\[2\].*\[-1, 1\]"),
    ("the wrong width", request(tensor("distance", shape=[1, 2])), r"distance.*\[1, 2\].*\[-1, 1\]"),
    ("too few values", request(tensor("distance", data=[1])), "distance.*needs 2 values"),
    ("a dimension beyond all memory", request(tensor("distance", shape=[0, 10**30], data=[])), "dimension|shape"),
    ("seventy dimensions", request(tensor("distance", shape=[1] * 70, data=[1])), "dimension|shape"),
    (
        "rows that do not match",
        request(tensor("delay", shape=[1, 1], data=[1])),
        "'delay' has 1 rows.*'distance' has 2",
    ),
    ("an empty batch", {"inputs": [tensor(n, shape=[0, 1], data=[]) for n in BASE]}, "distance.*no rows"),
    ("a missing value", request(tensor("distance", data=[1, None])), "'distance': row 1.*carrier, delay"),
]


@pytest.mark.parametrize(("body", "text"), [case[1:] for case in BAD_INFER], ids=[case[0] for case in BAD_INFER])
def test_bad_infer_is_400_and_says_what_was_found_and_expected(client: httpx.Client, body: Any, text: str) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post("/v2/models/flights/infer", content=content)
    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] == "bad_input"
    assert re.search(text, answer.json()["error"]), answer.text


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v2/models/other", 404, "model_not_found"),
        ("GET", "/v2/models/other/ready", 404, "model_not_found"),
        ("GET", "/v2/models/flights/versions/9", 404, "model_not_found"),
        ("GET", "/v2/models/flights/versions/9/ready", 404, "model_not_found"),
        ("POST", "/v2/models/other/infer", 404, "model_not_found"),
        ("POST", "/v2/models/flights/versions/9/infer", 404, "model_not_found"),
        ("GET", "/v1/models/other", 404, "model_not_found"),
        ("POST", "/v1/models/other:predict", 404, "model_not_found"),
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/v2/models/flights/infer", 405, "method_not_allowed"),
        ("GET", "/v1/models/flights:predict", 405, "method_not_allowed"),
        ("POST", "/v2/health/live", 405, "method_not_allowed"),
        ("POST", "/v1/models/flights:explain", 501, "not_supported"),
    ],
)
def test_unknown_names_and_methods_get_their_codes(
    client: httpx.Client, method: str, path: str, status: int, code: str
) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    if status == 405:
        assert answer.headers["allow"] == ("GET" if path.endswith("live") else "POST")


@pytest.mark.parametrize("path", ["/v2/models/flights/infer", "/v1/models/flights:predict"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_413_and_the_connection_goes_on(
    client: httpx.Client, path: str, chunked: bool
) -> None:
    body = b"x" * 100_001
    answer = client.post(path, content=iter([body[:60_000], body[60_000:]]) if chunked else body)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert client.get("/v2/health/live").status_code == 200


def test_a_chunked_body_is_read_whole(client: httpx.Client) -> None:
    body = json.dumps(request(id="c")).encode()
    answer = client.post("/v2/models/flights/infer", content=iter([body[:30], body[30:]]))
    assert answer.json()["id"] == "c"


def test_openapi_documents_bodies_and_examples_of_both_calls(client: httpx.Client) -> None:
    assert client.get("/docs").status_code == 200
    paths = client.get("/openapi.json").json()["paths"]
    for path in ("/v2/models/{model}/infer", "/v2/models/{model}/versions/{version}/infer"):
        content = paths[path]["post"]["requestBody"]["content"]
        assert content["application/json"]["example"]["inputs"][0]["name"] == "distance"
        assert "application/octet-stream" in content
    predict = paths["/v1/models/{model}:predict"]["post"]
    assert "named features" in predict["requestBody"]["content"]["application/json"]["examples"]
    assert {"400", "404", "408", "413", "503", "504"} <= predict["responses"].keys()


def test_the_controller_gets_the_profile_as_it_was_fetched(client: httpx.Client) -> None:
    about = client.get("/v2/models/flights").json()["properties"]
    answer = client.get("/kingmaker/profile")
    assert answer.status_code == 200
    assert hashlib.sha256(answer.content).hexdigest() == about["profile_sha256"]


@pytest.mark.parametrize(
    "path", ["/v2/models/flights/infer", "/v2/models/%66lights/infer", "/v1/models/flights:predict"]
)
def test_the_time_a_caller_has_left_is_understood_or_refused(client: httpx.Client, path: str) -> None:
    body = request() if "infer" in path else {"instances": [{"distance": 1, "delay": 2, "carrier": "UA"}]}
    for _ in range(3):  # a head that came before is not parsed again
        assert client.post(path, json=body, headers={"x-kingmaker-timeout-ms": "1024"}).status_code == 200
        refused = client.post(path, json=body, headers={"x-kingmaker-timeout-ms": "soon"})
        assert refused.status_code == 400
        assert "x-kingmaker-timeout-ms is 'soon'" in refused.json()["error"]
