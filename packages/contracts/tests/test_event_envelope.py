"""An event entry is small, and anything unreadable is refused with a reason."""

from typing import Any

import msgspec
import numpy as np
import pytest

from kingmaker_contracts import events, prediction_ids


def batch(count: int, width: int = 9, **changes: Any) -> events.EventBatch:
    columns = {name: np.zeros(count, dtype) for name, dtype in events.COLUMNS.items()}
    columns["id"] = np.array([np.void(prediction_ids.new(i, bytes(9), 0)) for i in range(count)])
    columns["score"] = np.linspace(0, 1, count, dtype="<f4")
    for name in ("dt", "latency"):
        columns[name] = np.arange(count, dtype="<u4")
    columns |= changes
    return events.EventBatch(
        producer="g/1", seq=1, sent=0, dropped=0, t0=0, revision=1, rollout="r", variant="lr", version="1",
        role="champion", schema="s", variants=["lr", "gbm"], columns=columns,
        features=np.ones((width, count), "<f4"),
    )  # fmt: skip


def test_a_column_that_never_changes_costs_one_element() -> None:
    small = len(events.encode(batch(1000)))
    varied = len(events.encode(batch(1000, key_hash=np.arange(1000, dtype="<u8"))))
    assert varied - small == 8 * 999 + 1  # 1: the longer block needs a longer length prefix


def test_a_prediction_with_25_features_costs_less_than_150_bytes() -> None:
    assert len(events.encode(batch(256, width=25))) / 256 < 150


def test_constant_columns_come_back_whole() -> None:
    back = events.decode(events.encode(batch(5, status=np.full(5, 200, "<u2"))))
    assert back.columns["status"].tolist() == [200] * 5
    assert back.count == 5


def test_one_element_may_stand_for_all_rows() -> None:
    short, whole = batch(5, status=np.full(1, 200, "<u2")), batch(5, status=np.full(5, 200, "<u2"))
    assert events.encode(short) == events.encode(whole)


def test_one_row_and_no_features_work() -> None:
    back = events.decode(events.encode(batch(1, width=0)))
    assert back.count == 1 and back.features.shape == (0, 1)


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="column status has 4 rows, the batch 5"):
        events.encode(batch(5, status=np.zeros(4, "<u2")))


def changed(**fields: Any) -> bytes:
    return msgspec.msgpack.encode(msgspec.msgpack.decode(events.encode(batch(5))) | fields)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "not an event envelope"),
        (b"\xff\xff", "not an event envelope"),
        (msgspec.msgpack.encode({"v": 1}), "missing required field"),
        (changed(v=2), "envelope version 2, expected 1"),
        (changed(count=0), "count 0"),
        (changed(count=6), "features have 180 bytes, expected 9 x 6 x 4"),
        (changed(columns={}), "column id is missing"),
        (changed(role="king"), "Invalid enum value 'king'"),
    ],
)
def test_an_unreadable_entry_is_refused_with_a_reason(raw: bytes, words: str) -> None:
    with pytest.raises(events.BadEnvelope, match=words):
        events.decode(raw)
