"""Predictions into event columns, without a server: codes, missing values, labels, widths."""

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kingmaker_contracts import events, rare_categories
from kingmaker_contracts.inference import Tensor
from kingmaker_contracts.profile import CategoricalReference, Feature, Output, Profile, Reference, Score
from kingmaker_contracts.rare_categories import RareCategories
from kingmaker_gateway import answerers, envelope
from kingmaker_gateway.answerers import Answerer
from kingmaker_gateway.envelope import Run

PROFILE = Profile(
    name="m",
    onnx_sha256="0" * 64,
    inputs=[
        Feature("block", "FP32", [-1, 2], "numeric"),
        Feature("carrier", "BYTES", [-1, 1], "categorical", True),
        Feature("month", "INT64", [-1, 1], "categorical"),
    ],
    outputs=[Output("label", "BYTES", [-1]), Output("p", "FP32", [-1, 3])],
    score=Score("multiclass", "p", 2, "c", ["a", "b", "c"], "label"),
    reference=Reference(
        rows=3,
        categorical={
            "carrier": CategoricalReference(["AA", "UA"], [1, 2], 0, 0),
            "month": CategoricalReference(["1", "2"], [1, 2], 0, 0),
        },
    ),
    quality=None,
    parity=None,
    created_at="",
)


ENTRY = ("id", "rows", "assigned", "reason", "eligible", "key_hash", "answered_us", "latency_us", "status")


def answerer(profile: Profile | None = PROFILE) -> Answerer:
    known, labels = answerers.codes_of(profile)
    return Answerer(
        *(
            "default/m",
            3,
            1,
            "r",
            "gbm",
            "4",
            "challenger",
            ("lr", "gbm"),
            "s" if profile else "",
            profile,
            known,
            labels,
        )
    )


def texts(values: list[Any]) -> np.ndarray[Any, Any]:
    array = np.empty((len(values), 1), object)
    array[:, 0] = values
    return array


def prediction(carriers: list[Any], by: Answerer | None = None, answered_us: int = 5_000_000, **changes: Any) -> Run:
    rows = len(carriers)
    fields: dict[str, Any] = {
        "by": by or answerer(),
        "id": bytes(range(16)),
        "rows": rows,
        "assigned": 1,
        "reason": "weight",
        "eligible": 1,
        "key_hash": 0,
        "answered_us": answered_us,
        "latency_us": 250,
        "status": 200,
        "inputs": {
            "block": np.arange(2 * rows, dtype="<f4").reshape(rows, 2),
            "carrier": texts(carriers),
            "month": np.full((rows, 1), 2, "<i8"),
            "left over": np.zeros((rows, 1), "<f4"),
        },
        "outputs": [
            Tensor("label", "BYTES", np.array(["b"] * rows, object)),
            Tensor("p", "FP32", np.full((rows, 3), [0.1, 0.2, 0.7], "<f4")),
        ],
    }
    fields |= changes
    entry = tuple(fields[name] for name in ENTRY)
    return Run(fields["by"], [entry], rows, fields["inputs"], fields["outputs"])


def build(*runs: Run) -> events.EventBatch:
    return events.decode(events.encode(envelope.build(runs, "me", 1, 0, 0)))


def test_categories_become_codes_and_unseen_ones_follow() -> None:
    batch = build(prediction(["UA", "ZZ", None]), prediction(["XX", "ZZ", "AA"]))
    assert batch.features.shape == (4, 6)
    assert np.array_equal(batch.features[2], np.array([1, 2, np.nan, 3, 2, 0], "<f4"), equal_nan=True)
    assert batch.features[3].tolist() == [1.0] * 6
    assert batch.unseen == {"carrier": ["ZZ", "XX"]}
    assert batch.features[:2].T.tolist() == [[0, 1], [2, 3], [4, 5]] * 2


def test_a_flood_of_new_categories_is_bounded() -> None:
    batch = build(prediction([f"{'x' * 500}{i}" for i in range(3)] + [str(i) for i in range(1000)]))
    [names] = batch.unseen.values()
    assert len(names) == envelope.MAX_UNSEEN
    assert names[-1] == envelope.OVERFLOW
    assert max(map(len, names)) == envelope.MAX_CATEGORY_CHARS
    assert int(batch.features[2].max()) == 2 + envelope.MAX_UNSEEN - 1


def knowing(rare: RareCategories | None) -> Answerer:
    carrier = CategoricalReference(["AA", "UA"], [9, 8], 3, 0, rare)
    reference = msgspec.structs.replace(
        PROFILE.reference, categorical=PROFILE.reference.categorical | {"carrier": carrier}
    )
    return answerer(msgspec.structs.replace(PROFILE, reference=reference))


def test_rare_categories_of_training_share_a_code_before_the_new_ones() -> None:
    by = knowing(rare_categories.of(["HA", "B6", "x" * 500]))
    batch = build(prediction(["UA", "ZZ", "HA", None, "B6"], by), prediction(["x" * 500, "YY", "ZZ", "HA", ""], by))
    expected = np.array([1, 3, 2, np.nan, 2, 2, 4, 3, 2, np.nan], "<f4")
    assert np.array_equal(batch.features[2], expected, equal_nan=True)
    assert (batch.rare, batch.unseen) == (["carrier"], {"carrier": ["ZZ", "YY"]})


def test_a_flood_of_rare_categories_is_no_flood_of_new_ones() -> None:
    names = [f"c{i}" for i in range(2000)]
    batch = build(prediction([*names, "ZZ"], knowing(rare_categories.of(names))))
    assert batch.features[2].tolist() == [2.0] * 2000 + [3.0]
    assert batch.unseen == {"carrier": ["ZZ"]}


def test_rare_categories_that_nobody_kept_are_spelled_out() -> None:
    for rare in (None, RareCategories(b"", "a later method")):
        batch = build(prediction(["HA"], knowing(rare)))
        assert (batch.rare, batch.unseen) == ([], {"carrier": ["HA"]})


def test_score_and_label_are_the_profile_s() -> None:
    batch = build(prediction(["AA"]), prediction(["AA"], outputs=None, status=504))
    assert batch.columns["score"][0] == np.float32(0.7)
    assert np.isnan(batch.columns["score"][1])
    assert batch.columns["label"].tolist() == [1, events.NO_LABEL]
    assert batch.columns["status"].tolist() == [200, 504]


def test_without_a_profile_there_are_no_features_and_no_score() -> None:
    batch = build(prediction(["AA", "UA"], answerer(None)))
    assert batch.features.shape == (0, 2)
    assert batch.schema == ""
    assert np.isnan(batch.columns["score"]).all()
    assert set(batch.columns["label"].tolist()) == {events.NO_LABEL}


@pytest.mark.parametrize(("second_us", "dt"), [(5_000_999, 999), (4_000_000, 0), (5_000_000 + 2**33, 2**32 - 1)])
def test_times_are_microseconds_after_the_first_and_never_wrap(second_us: int, dt: int) -> None:
    batch = build(prediction(["AA"]), prediction(["AA"], answered_us=second_us))
    assert batch.t0 == 5000
    assert batch.columns["dt"].tolist() == [0, dt]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=8))
def test_rows_count_up_within_each_request(sizes: list[int]) -> None:
    batch = build(*(prediction(["AA"] * size, id=bytes([i]) * 16) for i, size in enumerate(sizes)))
    assert batch.count == sum(sizes)
    assert batch.columns["row"].tolist() == [row for size in sizes for row in range(size)]
    assert [bytes(i)[0] for i in batch.columns["id"]] == [i for i, size in enumerate(sizes) for _ in range(size)]
