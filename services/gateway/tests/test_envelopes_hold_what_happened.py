"""Predictions into event columns, without a server: codes, missing values, labels, widths."""

from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kingmaker_contracts import events, rare_categories
from kingmaker_contracts.inference import Tensor
from kingmaker_contracts.labels import REASONS
from kingmaker_contracts.profile import CategoricalReference, Feature, Output, Profile, Reference, Score
from kingmaker_contracts.rare_categories import RareCategories
from kingmaker_gateway import answerers, envelope, runs
from kingmaker_gateway.answerers import Answerer
from kingmaker_gateway.runs import Run

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


def request(rows: int, number: int = 0, status: int = 200) -> Any:
    mark = (rows, 1, "weight", 1, status)
    return SimpleNamespace(id=bytes([number]) * 16, mark=mark, key_hash=0, latency_s=0.00025)


def prediction(
    carriers: list[Any],
    by: Answerer | None = None,
    answered_us: int = 5_000_000,
    requests: list[Any] | None = None,
    **changes: Any,
) -> Run:
    """Of one request, unless there are more."""
    rows = len(carriers)
    arrays: dict[str, Any] = {
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
    arrays |= {name: changes.pop(name) for name in ("inputs", "outputs") if name in changes}
    requests = requests or [request(rows, **changes)]
    latencies_s = [request.latency_s for request in requests]
    return runs.of(by or answerer(), requests, latencies_s, answered_us, rows, **arrays)


def build(*run: Run) -> events.EventBatch:
    return events.decode(events.encode(envelope.build(run, "me", 1, 0, 0)))


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
    assert PROFILE.reference is not None
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


def test_without_inputs_there_are_no_features() -> None:
    """None that are missing either: nobody knows whether they were."""
    batch = build(*[prediction(["AA"] * 2, answerer(), inputs={}, outputs=None) for _ in range(2)])
    assert batch.features.shape == (0, 4)
    assert batch.schema == "s"
    assert np.isnan(batch.columns["score"]).all()


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
    batch = build(*(prediction(["AA"] * size, number=i) for i, size in enumerate(sizes)))
    assert batch.count == sum(sizes)
    assert batch.columns["row"].tolist() == [row for size in sizes for row in range(size)]
    assert [bytes(i)[0] for i in batch.columns["id"]] == [i for i, size in enumerate(sizes) for _ in range(size)]


MARKS = st.tuples(
    st.integers(1, 3), st.integers(0, 1), st.sampled_from(REASONS), st.integers(0, 1), st.sampled_from([200, 500, 504])
)
SAME_FOR_ALL = st.tuples(st.just(1), st.just(0), st.just("weight"), st.just(1), st.just(200))
REQUESTS = st.builds(
    lambda mark, key, latency_us, number: SimpleNamespace(
        id=number.to_bytes(16, "big"), mark=mark, key_hash=key, latency_s=latency_us / 1e6 + 1e-7
    ),
    SAME_FOR_ALL | MARKS,
    st.just(0) | st.integers(0, 2**64 - 1),
    st.integers(0, 2**33),
    st.integers(0, 2**128 - 1),
)


@given(st.lists(st.tuples(st.integers(0, 2**33), st.lists(REQUESTS, min_size=1, max_size=4)), min_size=1, max_size=5))
def test_every_row_has_what_was_recorded_of_its_request(frames: list[tuple[int, list[Any]]]) -> None:
    """Whoever travelled together, and whether neighbours are alike or not."""
    together = [
        prediction(["AA"] * sum(one.mark[0] for one in requests), answered_us=5_000_000 + late_us, requests=requests)
        for late_us, requests in frames
    ]
    expected = [
        {
            "id": one.id,
            "row": row,
            "assigned": one.mark[1],
            "reason": REASONS.index(one.mark[2]),
            "eligible": one.mark[3],
            "key_hash": one.key_hash,
            "dt": min(max(late_us - frames[0][0] + (5_000_000 + frames[0][0]) % 1000, 0), 2**32 - 1),
            "latency": min(int(one.latency_s * 1e6), 2**32 - 1),
            "status": one.mark[4],
        }
        for late_us, requests in frames
        for one in requests
        for row in range(one.mark[0])
    ]
    columns = build(*together).columns
    found = [{name: columns[name][at] for name in expected[0]} for at in range(len(columns["id"]))]
    assert [row | {"id": bytes(row["id"])} for row in found] == expected


FORMS: list[dict[str, Any]] = [
    {},
    {"outputs": None},
    {"outputs": [Tensor("p", "FP32", np.full((2, 3), 0.5, "<f4")), Tensor("label", "BYTES", texts(["a", "?"])[:, 0])]},
    {"outputs": [Tensor("label", "BYTES", np.array(["c", "b"], object)), Tensor("p", "FP32", np.ones((2, 2), "<f4"))]},
    {"outputs": [Tensor("label", "BYTES", np.array(["c", "b"], object))]},
    {"outputs": [Tensor("something else", "FP32", np.ones((2, 1), "<f4"))]},
    {"inputs": {"block": np.ones((2, 5), "<f4"), "carrier": texts(["UA", "AA"]), "month": np.array([1, 700])}},
    {"inputs": {"block": np.ones((2, 2), "<f8"), "carrier": texts([None, "AA"]), "month": np.array([[-1], [2]])}},
]


@given(st.lists(st.sampled_from(FORMS), min_size=1, max_size=6))
def test_frames_of_any_form_share_an_entry_as_if_each_had_its_own(forms: list[dict[str, Any]]) -> None:
    by = answerer()
    each = [prediction(["UA", "AA"], by, **form) for form in forms]
    whole, alone = build(*each), [build(one) for one in each]
    for name in ("score", "label"):
        expected = np.concatenate([one.columns[name] for one in alone])
        assert np.array_equal(whole.columns[name], expected, equal_nan=name == "score")
    assert spelled(whole) == [row for one in alone for row in spelled(one)]


def spelled(batch: events.EventBatch) -> list[list[str]]:
    """Rows of features in words: codes of unseen categories depend on their neighbours."""
    rows = []
    for *block, carrier, month in batch.features.T.tolist():
        words = [*(str(value) for value in block)]
        for name, code in (("carrier", carrier), ("month", month)):
            names = ["first", "second", *batch.unseen.get(name, [])]
            words.append("missing" if code != code else names[int(code)])
        rows.append(words)
    return rows


def test_more_rows_than_are_turned_at_once_keep_their_values() -> None:
    rows = 3 * envelope.TURNED_AT_ONCE + 1
    block = np.random.default_rng(1).random((rows, 2)).astype(np.float32)
    one = prediction(["AA"] * rows)
    assert np.array_equal(
        build(msgspec.structs.replace(one, inputs={**one.inputs, "block": block})).features[:2], block.T
    )


@given(st.lists(st.lists(REQUESTS, min_size=1, max_size=3), min_size=1, max_size=4))
def test_copies_are_recorded_as_the_shadow_answered_them(frames: list[list[Any]]) -> None:
    """All in one frame, whatever they were for the champion; ids, keys and assignment stay theirs."""
    by = answerer()
    sizes = [sum(one.mark[0] for one in requests) for requests in frames]
    answered = [prediction(["AA"] * size, by, requests=requests) for size, requests in zip(sizes, frames, strict=True)]
    inputs = prediction(["AA"] * sum(sizes)).inputs
    columns = build(runs.of_copies(by, answered, 9_000_000, sum(sizes), inputs, None, 0.002, 504)).columns
    whole = build(*answered).columns
    for name in ("id", "row", "assigned", "eligible", "key_hash"):
        assert columns[name].tolist() == whole[name].tolist()
    assert {REASONS[code] for code in columns["reason"]} == {"shadow"}
    assert (set(columns["status"].tolist()), set(columns["latency"].tolist())) == ({504}, {2000})


@pytest.mark.parametrize("dtype", ["<i8", "<i4", "<u8", "|u1", "|i1"])
def test_integers_are_the_categories_their_texts_are(dtype: str) -> None:
    """Small ones, which are looked up together, and all others."""
    codes = answerers.Codes({"3": 0, "-1": 1, "127": 2, "128": 3, "-128": 4, "9000000000": 5, "255": 6})
    info = np.iinfo(dtype)
    values = [v for v in (3, -1, 0, 127, 128, -127, -128, -129, 255, 9_000_000_000) if info.min <= v <= info.max]
    for chosen in (values, [v for v in values if -128 <= v < 128]):
        expected = [codes[value] for value in chosen]
        assert codes.of(np.array(chosen, dtype)).tolist() == expected


def test_a_label_beyond_what_the_column_holds_is_none() -> None:
    names = [str(number) for number in range(300)]
    profile = msgspec.structs.replace(PROFILE, score=Score("multiclass", "p", 0, "0", names, "label"))
    label = Tensor("label", "INT64", np.array([0, 254, 255, 256, 299, 300, -1]))
    one = prediction(["AA"] * 7, answerer(profile), outputs=[label])
    assert build(one).columns["label"].tolist() == [0, 254] + [events.NO_LABEL] * 5
