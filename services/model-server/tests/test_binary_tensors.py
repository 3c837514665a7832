"""The binary tensor extension, both ways: the same answers as JSON, and clear refusals."""

import json
import re
import struct
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from onnx import TensorProto

from kingmaker_contracts import raw_tensors, tensors
from kingmaker_contracts.inference import Tensor

if TYPE_CHECKING:
    from tests.conftest import Start

INFER = "/v2/models/flights/infer"
HEADER = "Inference-Header-Content-Length"


def feed(rows: int = 3) -> list[Tensor]:
    rng = np.random.default_rng(rows)
    carriers = np.array(["UA", "AA", "ünknown"], dtype=object)[rng.integers(0, 3, rows)]
    return [
        Tensor("distance", "FP32", rng.uniform(100, 2000, (rows, 1)).astype("<f4")),
        Tensor("delay", "FP32", rng.normal(10, 20, (rows, 1)).astype("<f4")),
        Tensor("carrier", "BYTES", carriers.reshape(rows, 1)),
    ]


def as_json(inputs: list[Tensor], **top: Any) -> dict[str, Any]:
    wire = [
        {"name": t.name, "shape": list(t.shape), "datatype": t.datatype, "data": t.array.ravel().tolist()}
        for t in inputs
    ]
    return {"inputs": wire} | top


def decode(answer: httpx.Response) -> dict[str, list[Any]]:
    assert answer.status_code == 200, answer.text
    length = answer.headers.get(HEADER)
    response = tensors.decode_response(answer.content, int(length) if length else None)
    return {t.name: t.array.tolist() for t in response.outputs}


@pytest.mark.parametrize("rows", [1, 64, 200])
def test_binary_and_json_give_the_same_answer(client: httpx.Client, rows: int) -> None:
    body, length = tensors.encode_request(feed(rows))
    binary = client.post(INFER, content=body, headers={HEADER: str(length)})
    assert binary.headers["content-type"] == "application/octet-stream"
    assert HEADER in binary.headers
    assert decode(binary) == decode(client.post(INFER, json=as_json(feed(rows))))


def test_raw_outputs_are_chosen_one_by_one_over_the_requests_default(client: httpx.Client) -> None:
    outputs = [{"name": "label", "parameters": {"binary_data": False}}, {"name": "probabilities"}]
    mixed = as_json(feed(), outputs=outputs, parameters={"binary_data_output": True})
    answer = client.post(INFER, json=mixed)
    head = json.loads(answer.content[: int(answer.headers[HEADER])])
    label, probabilities = head["outputs"]
    assert "data" in label
    assert probabilities["parameters"] == {"binary_data_size": 3 * 2 * 4}
    assert decode(answer) == decode(client.post(INFER, json=as_json(feed())))


def test_raw_and_json_inputs_stand_in_one_request(client: httpx.Client) -> None:
    inputs = feed()
    wire = as_json(inputs)
    raw = raw_tensors.to_raw(inputs[1])
    del wire["inputs"][1]["data"]
    wire["inputs"][1]["parameters"] = {"binary_data_size": len(raw)}
    head = json.dumps(wire).encode()
    answer = client.post(INFER, content=head + raw, headers={HEADER: str(len(head))})
    assert HEADER not in answer.headers
    assert decode(answer) == decode(client.post(INFER, json=as_json(inputs)))


def test_nan_is_a_missing_value_for_nullable_inputs_only(client: httpx.Client) -> None:
    for at, status in ((0, 400), (1, 200)):
        inputs = feed()
        inputs[at].array[1] = np.nan
        body, length = tensors.encode_request(inputs)
        answer = client.post(INFER, content=body, headers={HEADER: str(length)})
        assert answer.status_code == status
        if status == 400:
            assert "'distance': row 1 has no value" in answer.json()["error"]


@pytest.mark.parametrize(
    ("change", "headers", "text"),
    [
        (lambda b: b, {"content-type": "application/octet-stream"}, f"{HEADER} is missing"),
        (lambda b: b, {HEADER: "x"}, f"{HEADER} is 'x'"),
        (lambda b: b, {HEADER: "-1"}, f"{HEADER} is '-1'"),
        (lambda b: b, {HEADER: "99999999"}, "99999999.*but the body has"),
        (lambda b: b, {HEADER: "0"}, "a model with one input, this one has 3"),
        (lambda b: b, {HEADER: "10"}, "not JSON"),
        (lambda b: b[:-1], {}, "'carrier'.*bytes are left"),
        (lambda b: b + b"x", {}, "1 bytes behind the last tensor"),
        (lambda b: b.replace(struct.pack("<I", 2) + b"UA", struct.pack("<I", 9) + b"UA"), {}, "'carrier'.*beyond"),
    ],
)
def test_bad_binary_bodies_are_400(client: httpx.Client, change: Any, headers: dict[str, str], text: str) -> None:
    inputs = feed(2)
    inputs[2].array[:] = "UA"
    body, length = tensors.encode_request(inputs)
    answer = client.post(INFER, content=change(body), headers=headers or {HEADER: str(length)})
    assert answer.status_code == 400, answer.text
    assert re.search(text, answer.json()["error"]), answer.text


@pytest.mark.parametrize("hot_path", ["true", "false"])
def test_a_body_without_a_json_part_is_the_one_tensor(make: Any, start: "Start", tmp_path: Any, hot_path: str) -> None:
    (tmp_path / "m.onnx").write_bytes(make.sum_and_copy_model())
    server = start(tmp_path / "m.onnx", HOT_PATH=hot_path)
    server.wait_ready()
    rows = np.array([[1, 2, 3], [4, 5, 6]], "<f4")
    with server.client() as client:
        answer = client.post(INFER, content=rows.tobytes(), headers={HEADER: "0"})
        assert decode(answer) == {"total": [6.0, 15.0], "twice": (rows * 2).tolist()}
        assert answer.content.endswith((rows * 2).tobytes())
        refused = client.post(INFER, content=rows.tobytes()[:-1], headers={HEADER: "0"})
        assert refused.status_code == 400
        assert "'x': a body of 23 bytes" in refused.json()["error"]


def test_an_output_without_a_json_form_must_be_asked_for_as_binary(make: Any) -> None:
    core = make.Core(make.one_column_model(TensorProto.FLOAT16))
    given = [Tensor("x", "FP16", np.array([[1.5]], "<f2"))]
    body, length = tensors.encode_request(given)
    answer = core.infer(body, {b"inference-header-content-length": b"%d" % length})
    assert answer.status == 200
    assert answer.body.endswith(given[0].array.tobytes())
    refused = body.replace(b'"binary_data_output":true', b'"binary_data_output":false')
    answer = core.infer(refused, {b"inference-header-content-length": b"%d" % (length + 1)})
    assert answer.status == 400
    assert b"FP16 has no JSON form" in answer.body
