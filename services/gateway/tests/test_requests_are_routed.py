"""Over real HTTP: who answers, what the answer says of it, and that the numbers are the model's own."""

import struct
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from kingmaker_contracts import buckets, tensors
from kingmaker_contracts.inference import Tensor
from kingmaker_contracts.routing import Sticky
from tests.fakes.fake_model_server import FakeModelServer, score_of

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Bench, Kit, Pair


def v2_body(rows: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "inputs": [
            {"name": "distance", "shape": [rows, 1], "datatype": "FP64", "data": [1400.0 + i for i in range(rows)]},
            {"name": "carrier", "shape": [rows], "datatype": "BYTES", "data": ["UA"] * rows},
        ],
        **more,
    }


async def test_an_answer_says_who_gave_it_and_why(bench: "Bench", pair: "Pair") -> None:
    await bench.publish(pair.record(), pair.profiles)
    answer = await bench.predict()
    assert answer.status_code == 200
    assert answer.headers["x-variant"] == "lr"
    assert answer.headers["x-model-version"] == "3"
    assert answer.headers["x-route-reason"] == "weight"
    assert uuid.UUID(answer.headers["x-prediction-id"]).version == 7
    score = score_of([1400.0, 2.0], bias=1.0)
    [row] = answer.json()["predictions"]
    assert row["label"] == int(score >= 0.5)
    assert row["probabilities"] == pytest.approx([1 - score, score])


async def test_v2_carries_the_served_model_s_name_and_echoes_the_id(bench: "Bench", pair: "Pair") -> None:
    await bench.publish(pair.record(), pair.profiles)
    answer = await bench.client.post("/v2/models/flights/infer", json=v2_body(2, id="mine"))
    body = answer.json()
    assert (body["model_name"], body["model_version"], body["id"]) == ("flights", "3", "mine")
    assert [(o["name"], o["shape"], o["datatype"]) for o in body["outputs"]] == [
        ("label", [2], "INT64"),
        ("probabilities", [2, 2], "FP32"),
    ]
    unnamed = await bench.client.post("/v2/models/flights/infer", json=v2_body())
    assert unnamed.json()["id"] == unnamed.headers["x-prediction-id"]


async def test_only_the_outputs_asked_for_come_back(bench: "Bench", pair: "Pair") -> None:
    await bench.publish(pair.record(), pair.profiles)
    asked = v2_body(outputs=[{"name": "label"}])
    answer = await bench.client.post("/v2/models/flights/infer", json=asked)
    assert [o["name"] for o in answer.json()["outputs"]] == ["label"]
    wrong = await bench.client.post("/v2/models/flights/infer", json=v2_body(outputs=[{"name": "nope"}]))
    assert wrong.status_code == 400
    assert "unknown output 'nope'; known outputs: 'label', 'probabilities'" in wrong.json()["error"]


async def test_binary_tensors_go_both_ways(bench: "Bench", pair: "Pair", kit: "Kit") -> None:
    await bench.publish(pair.record(), pair.profiles)
    named = await bench.predict([kit.row])
    import numpy as np

    carrier = np.array(["UA"], object)
    body, head = tensors.encode_request(
        [Tensor("distance", "FP32", np.array([[1400]], "<f4")), Tensor("carrier", "BYTES", carrier)]
    )
    headers = {"inference-header-content-length": str(head), "content-type": "application/octet-stream"}
    answer = await bench.client.post("/v2/models/flights/infer", content=body, headers=headers)
    assert answer.headers["content-type"] == "application/octet-stream"
    decoded = tensors.decode_response(answer.content, int(answer.headers["inference-header-content-length"]))
    by_name = {tensor.name: tensor.array.tolist() for tensor in decoded.outputs}
    assert by_name["probabilities"] == [named.json()["predictions"][0]["probabilities"]]
    assert struct.calcsize("<q") + struct.calcsize("<2f") == len(answer.content) - int(
        answer.headers["inference-header-content-length"]
    )


async def test_the_split_over_many_requests_is_the_ranges(bench: "Bench", pair: "Pair", kit: "Kit") -> None:
    await bench.publish(pair.record(ranges="gbm:0-4999"), pair.profiles)
    await bench.challenger_is_up("gbm")
    answers = [await bench.predict([kit.full_row]) for _ in range(200)]
    for answer in answers:
        bucket = buckets.bucket_of("default/flights", answer.headers["x-prediction-id"])
        assert answer.headers["x-variant"] == ("gbm" if bucket < 5000 else "lr")
    assert {answer.headers["x-variant"] for answer in answers} == {"gbm", "lr"}


async def test_a_header_keeps_a_caller_with_one_variant(bench: "Bench", pair: "Pair", kit: "Kit") -> None:
    sticky = Sticky("Header", "default/flights", "X-User")
    await bench.publish(pair.record(ranges="gbm:0-4999", sticky=sticky), pair.profiles)
    await bench.challenger_is_up("gbm")
    for user in range(30):
        answers = [await bench.predict([kit.full_row], headers={"x-user": f"u{user}"}) for _ in range(3)]
        expected = "gbm" if buckets.bucket_of("default/flights", f"u{user}") < 5000 else "lr"
        assert {(a.headers["x-variant"], a.headers["x-route-reason"]) for a in answers} == {(expected, "sticky")}
    keyless = await bench.predict([kit.full_row])
    assert keyless.headers["x-route-reason"] == "weight"


async def test_a_feature_keeps_a_caller_with_one_variant(bench: "Bench", pair: "Pair", kit: "Kit") -> None:
    sticky = Sticky("Feature", "s", "carrier")
    await bench.publish(pair.record(ranges="gbm:0-4999", sticky=sticky), pair.profiles)
    await bench.challenger_is_up("gbm")
    for carrier in ("AA", "UA", "B6", "DL", "WN"):
        answer = await bench.predict([{**kit.full_row, "carrier": carrier}] * 2)
        expected = "gbm" if buckets.bucket_of("s", carrier) < 5000 else "lr"
        assert (answer.headers["x-variant"], answer.headers["x-route-reason"]) == (expected, "sticky")
    mixed = await bench.predict([kit.full_row, {**kit.full_row, "carrier": "AA"}])
    assert (mixed.status_code, mixed.json()["code"]) == (400, "mixed_keys")


async def test_a_request_without_the_challenger_s_inputs_never_reaches_it(
    bench: "Bench", pair: "Pair", kit: "Kit"
) -> None:
    await bench.publish(pair.record(ranges="gbm:0-9999"), pair.profiles)
    await bench.challenger_is_up("gbm")
    answer = await bench.predict([kit.row])
    assert (answer.headers["x-variant"], answer.headers["x-route-reason"]) == ("lr", "ineligible")
    full = await bench.predict([kit.full_row])
    assert (full.headers["x-variant"], full.headers["x-model-version"]) == ("gbm", "4")
    assert full.json()["predictions"][0]["probabilities"][1] == pytest.approx(score_of([1400, 2, 2.5], bias=7.0))
    assert pair.challenger.calls == 1
    assert pair.champion.seen_inputs == [["distance", "carrier"]]  # a variant gets only what it declares
    assert pair.challenger.seen_inputs == [["distance", "carrier", "gain"]]


@pytest.mark.parametrize("way", ["path", "header"])
async def test_a_client_may_choose_a_variant_where_that_is_allowed(
    bench: "Bench", pair: "Pair", kit: "Kit", way: str
) -> None:
    await bench.publish(pair.record(), pair.profiles)
    await bench.challenger_is_up("gbm")
    inputs = [*v2_body()["inputs"], {"name": "gain", "shape": [1], "datatype": "FP32", "data": [2.5]}]
    path = "/v2/models/flights/versions/gbm/infer" if way == "path" else "/v2/models/flights/infer"
    headers = {} if way == "path" else {"x-kingmaker-variant": "gbm"}
    answer = await bench.client.post(path, json={"inputs": inputs}, headers=headers)
    assert (answer.headers["x-variant"], answer.headers["x-route-reason"]) == ("gbm", "override")
    lacking = await bench.client.post(path, json=v2_body(), headers=headers)
    assert lacking.status_code == 400
    assert "missing input 'gain'" in lacking.json()["error"]


@pytest.mark.parametrize("way", ["path", "header"])
async def test_choosing_is_denied_unless_allowed(bench: "Bench", pair: "Pair", way: str) -> None:
    await bench.publish(pair.record(overrides="Denied"), pair.profiles)
    path = "/v2/models/flights/versions/lr/infer" if way == "path" else "/v2/models/flights/infer"
    headers = {} if way == "path" else {"x-kingmaker-variant": "lr"}
    answer = await bench.client.post(path, json=v2_body(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "override_denied")


async def test_unknown_names_are_not_found(bench: "Bench", pair: "Pair") -> None:
    await bench.publish(pair.record(), pair.profiles)
    model = await bench.client.post("/v1/models/nope:predict", json={"instances": [[1]]})
    assert (model.status_code, model.json()["code"]) == (404, "model_not_found")
    variant = await bench.predict(headers={"x-kingmaker-variant": "nope"})
    assert (variant.status_code, variant.json()["code"]) == (404, "variant_not_found")
    assert "'lr', 'gbm'" in variant.json()["error"]
    path = await bench.client.get("/v3")
    assert (path.status_code, path.json()["code"]) == (404, "not_found")
    method = await bench.client.get("/v2/models/flights/infer")
    assert (method.status_code, method.json()["code"]) == (405, "method_not_allowed")


async def test_a_variant_that_is_not_ready_cannot_be_chosen(bench: "Bench", pair: "Pair", kit: "Kit") -> None:
    await pair.challenger.stop()
    await bench.publish(pair.record(), pair.profiles)
    answer = await bench.predict([kit.full_row], headers={"x-kingmaker-variant": "gbm"})
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "not_ready", "1")


async def test_a_challenger_that_contradicts_the_champion_gets_no_traffic(bench: "Bench", kit: "Kit") -> None:
    async with (
        FakeModelServer([("x", "FP32")], name="a") as champion,
        FakeModelServer([("x", "INT64")], name="b") as challenger,
    ):
        variants = [kit.variant(champion, "lr", "champion"), kit.variant(challenger, "gbm")]
        await bench.publish(kit.record(variants, ranges="gbm:0-9999"))
        await kit.until(lambda: bench.metric("signature_mismatch", model="flights", variant="gbm") == 1)
        answer = await bench.predict([[1]])
        assert (answer.headers["x-variant"], answer.headers["x-route-reason"]) == ("lr", "fallback")
        assert challenger.calls == 0


async def test_without_profiles_the_model_server_tells_its_signature(bench: "Bench", kit: "Kit") -> None:
    async with FakeModelServer([("x", "FP32")], name="a") as champion:
        await bench.publish(kit.record([kit.variant(champion, "lr", "champion")]))
        answer = await bench.predict([[1], [2]])
        assert [p["label"] for p in answer.json()["predictions"]] == [0, 0]


async def test_metadata_and_health_follow_the_protocol(bench: "Bench", pair: "Pair") -> None:
    get = bench.client.get
    assert (await get("/v2/health/live")).json() == {"live": True}
    assert (await get("/v2/health/ready")).status_code == 503
    await bench.publish(pair.record(), pair.profiles)
    await bench.challenger_is_up("gbm")
    assert (await get("/v2/health/ready")).json() == {"ready": True}
    for path in ("/v2", "/v2/"):
        server = (await get(path)).json()
        assert (server["name"], server["extensions"]) == ("kingmaker-gateway", ["binary_tensor_data"])
    assert (await get("/v2/models")).json() == {"models": ["flights"]} == (await get("/v1/models")).json()
    assert (await get("/v2/models/flights/ready")).json() == {"name": "flights", "ready": True}
    assert (await get("/v1/models/flights")).json() == {"name": "flights", "ready": True}
    meta = (await get("/v2/models/flights")).json()
    assert (meta["name"], meta["versions"]) == ("flights", ["lr", "gbm"])
    assert meta["inputs"] == [
        {"name": "distance", "datatype": "FP32", "shape": [-1, 1]},
        {"name": "carrier", "datatype": "BYTES", "shape": [-1, 1]},
    ]
    one = (await get("/v2/models/flights/versions/gbm")).json()
    assert one["properties"]["model_version"] == "4"
    assert len(one["inputs"]) == 3
    for missing in ("/v2/models/nope", "/v2/models/flights/versions/nope", "/v1/models/nope", "/v2/models/nope/ready"):
        assert (await get(missing)).status_code == 404


async def test_the_api_documents_itself(bench: "Bench") -> None:
    assert (await bench.client.get("/docs")).status_code == 200
    document = (await bench.client.get("/openapi.json")).json()
    for path, method in (
        ("/v2/models/{model}/infer", "post"),
        ("/v2/models/{model}/versions/{variant}/infer", "post"),
        ("/v1/models/{model}:predict", "post"),
        ("/v1/models/{model}/feedback", "post"),
        ("/v2/health/ready", "get"),
        ("/v1/models", "get"),
    ):
        operation = document["paths"][path][method]
        assert operation["responses"]
        if method == "post":
            [content, *_] = operation["requestBody"]["content"].values()
            assert "example" in content
            assert {p["name"] for p in operation["parameters"]} >= {"model"}
