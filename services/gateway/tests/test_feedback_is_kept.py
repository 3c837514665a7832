"""Labels: 202 only once Redis has them, 400 with item and field, 503 when Redis is away."""

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kingmaker_contracts import feedback as contract
from kingmaker_contracts import keys, prediction_ids
from kingmaker_contracts.feedback import LabelEvent
from kingmaker_contracts.problems import Code, Problem
from kingmaker_gateway import feedback

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Bench, Kit, Pair

PATH = "/v1/models/flights/feedback"
ID = prediction_ids.new(1_700_000_000_000, b"123456789", 0)
OTHER = prediction_ids.new(1_700_000_000_000, b"987654321", 3)
TEXT = prediction_ids.text(ID)
GOOD = {"prediction_id": f"{TEXT}.1", "label": 1, "observed_at": "2026-01-31T12:00:00Z", "source": "crm"}


def stored(client: Any, partition: int) -> list[LabelEvent]:
    entries = client.xrange(keys.feedback("default", "flights", partition))
    return [label for _, fields in entries for label in contract.decode(fields[keys.ENTRY_FIELD]).labels]


async def test_labels_go_to_the_partition_their_ids_name(bench: "Bench", pair: "Pair") -> None:
    await bench.publish(pair.record(), pair.profiles)
    labels = [
        GOOD,
        {"prediction_id": TEXT, "label": "late"},
        {"prediction_id": prediction_ids.text(OTHER), "label": True},
    ]
    answer = await bench.client.post(PATH, json=labels)
    assert (answer.status_code, answer.json()) == (202, {"accepted": 3})
    assert stored(bench.redis, 0) == [
        LabelEvent(ID, 1, 1, "2026-01-31T12:00:00Z", "crm"),
        LabelEvent(ID, None, "late"),
    ]
    assert stored(bench.redis, 3) == [LabelEvent(OTHER, None, True)]
    assert bench.redis.xlen(keys.feedback("default", "flights", 0)) == 1


async def test_ndjson_is_one_label_a_line(bench: "Bench", pair: "Pair") -> None:
    await bench.publish(pair.record(), pair.profiles)
    body = "\n".join(json.dumps({"prediction_id": f"{TEXT}.{i}", "label": i}) for i in range(3)) + "\n"
    answer = await bench.client.post(PATH, content=body, headers={"content-type": "application/x-ndjson"})
    assert answer.json() == {"accepted": 3}
    assert [label.row for label in stored(bench.redis, 0)] == [0, 1, 2]


async def test_an_answer_s_own_id_can_be_labelled(bench: "Bench", pair: "Pair") -> None:
    await bench.publish(pair.record(), pair.profiles)
    id = (await bench.predict()).headers["x-prediction-id"]
    assert (await bench.client.post(PATH, json=[{"prediction_id": f"{id}.0", "label": 0}])).status_code == 202


async def test_bad_labels_are_400_and_none_is_kept(bench: "Bench", pair: "Pair") -> None:
    await bench.publish(pair.record(), pair.profiles)
    answer = await bench.client.post(PATH, json=[GOOD, {**GOOD, "prediction_id": "7"}])
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_input")
    assert "item 1: prediction_id" in answer.json()["error"]
    assert stored(bench.redis, 0) == []


async def test_an_unknown_model_is_404(bench: "Bench") -> None:
    assert (await bench.client.post("/v1/models/nope/feedback", json=[GOOD])).status_code == 404


async def test_without_redis_labels_are_refused_and_later_accepted(own_valkey: Any, pair: "Pair", kit: "Kit") -> None:
    async with kit.running(kit.settings(own_valkey.url), own_valkey.client) as bench:
        await bench.publish(pair.record(), pair.profiles)
        own_valkey.stop()
        answer = await bench.client.post(PATH, json=[GOOD])
        assert (answer.status_code, answer.json()["code"]) == (503, "feedback_unavailable")
        assert answer.headers["retry-after"] == "1"
        own_valkey.start()
        assert (await bench.client.post(PATH, json=[GOOD])).status_code == 202
        assert len(stored(own_valkey.client, 0)) == 1


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([], "no labels"),
        ({"feedback": [GOOD]}, "the body is an object, expected a list"),
        ([7], "item 0 is 7, expected an object"),
        ([{"label": 1}], "item 0: prediction_id is missing"),
        ([{**GOOD, "prediction_id": 5}], "item 0: prediction_id is 5"),
        ([{**GOOD, "prediction_id": "00000000-0000-4000-8000-000000000000"}], "is not a prediction id"),
        ([{**GOOD, "prediction_id": f"{TEXT}.70000"}], "the last possible row is 65535"),
        ([{"prediction_id": TEXT}], "item 0: label is missing"),
        ([{**GOOD, "label": None}], "item 0: label is null"),
        ([{**GOOD, "label": [1]}], "item 0: label is a list"),
        ([{**GOOD, "label": ""}], "item 0: label has 0 characters"),
        ([{**GOOD, "label": 2**70}], "item 0: label is"),
        ([GOOD, {**GOOD, "observed_at": "yesterday"}], "item 1: observed_at is 'yesterday'"),
        ([{**GOOD, "observed_at": "2026-01-31T12:00:00"}], "item 0: observed_at"),
        ([{**GOOD, "source": 3}], "item 0: source is 3"),
        ([{**GOOD, "observedAt": "x"}], "item 0: unknown field 'observedAt'"),
        ([GOOD] * (contract.MAX_LABELS + 1), "10001 labels in one call, expected at most 10000"),
    ],
)
def test_a_wrong_label_is_named(labels: Any, text: str) -> None:
    with pytest.raises(Problem) as caught:
        feedback.parse(json.dumps(labels).encode(), "application/json")
    assert caught.value.code is Code.BAD_INPUT
    assert text in caught.value.message


def test_a_wrong_line_is_named() -> None:
    with pytest.raises(Problem, match=r"line 3: the body is not JSON"):
        feedback.parse(json.dumps(GOOD).encode() + b"\n\n{oops\n", "application/x-ndjson; charset=utf-8")


@given(st.recursive(st.none() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)))
def test_no_body_breaks_the_parser(value: Any) -> None:
    with pytest.raises(Problem):
        feedback.parse(json.dumps(value).encode(), "application/json")
