"""Ids, buckets, ranges and keys mean the same on every gateway and after every restart."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kingmaker_contracts import buckets, feedback, keys, prediction_ids
from kingmaker_contracts.prediction_ids import SPAN_MS


@given(st.integers(0, 2**48 - 1), st.binary(min_size=9, max_size=9), st.integers(0, 255))
def test_a_prediction_id_is_a_uuid_of_version_7_that_names_its_partition(ms: int, noise: bytes, k: int) -> None:
    raw = prediction_ids.new(ms, noise, k)
    assert (UUID(bytes=raw).version, UUID(bytes=raw).variant) == (7, "specified in RFC 4122")
    assert (prediction_ids.partition_of(raw), prediction_ids.unix_ms_of(raw)) == (k, ms)
    assert prediction_ids.parse(prediction_ids.text(raw) + ".12") == (raw, 12)
    assert prediction_ids.parse(prediction_ids.text(raw)) == (raw, None)


@given(
    st.integers(0, 2**48 - 1),
    st.integers(0, SPAN_MS - 1),
    st.lists(st.binary(min_size=9, max_size=9), max_size=12),
    st.integers(0, 255),
)
def test_ids_made_ahead_are_the_same_ids(made_ms: int, later: int, noises: list[bytes], k: int) -> None:
    taken_ms = made_ms // SPAN_MS * SPAN_MS + later
    blanks = prediction_ids.blanks(made_ms, b"".join(noises), k)
    assert len(blanks) == len(noises) * prediction_ids.BLANK
    raws, texts = prediction_ids.stamped(blanks, taken_ms)
    alone = [prediction_ids.new(taken_ms, noise, k) for noise in noises]
    assert [*raws] == alone
    assert [text.decode() for text in texts] == [prediction_ids.text(raw) for raw in alone]
    assert {type(found) for found in (*raws, *texts)} <= {bytes}


@pytest.mark.parametrize("text", ["", "7", "c56a4180-65aa-42ec-a945-5fd21dec0538", "x" * 36, "0190-.1"])
def test_what_is_no_prediction_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a prediction id"):
        prediction_ids.parse(text)


def test_a_row_beyond_the_last_possible_is_refused() -> None:
    raw = prediction_ids.text(prediction_ids.new(1, bytes(9), 0))
    with pytest.raises(ValueError, match="names row 70000"):
        prediction_ids.parse(f"{raw}.70000")


def test_buckets_are_what_they_were() -> None:
    # A changed value here moves every caller of every model to another variant.
    assert [buckets.bucket_of("default/flights", key) for key in ("anna", "ben", "ü")] == [
        250,
        9910,
        3204,
    ]  # b2sum -l 64 agrees


def test_buckets_are_even() -> None:
    hits = [0] * 10
    for i in range(20_000):
        hits[buckets.bucket_of("s", str(i)) // 1000] += 1
    assert all(abs(n - 2000) < 5 * 2000**0.5 for n in hits)


@given(st.text(max_size=5), st.lists(st.text(max_size=200), max_size=12))
def test_keys_taken_together_fall_into_the_same_buckets(salt: str, names: list[str]) -> None:
    for place in (0, 6, 12):  # a table holds bytes, so three of them say which bucket it is
        owner = bytes(bucket >> place & 63 for bucket in range(buckets.COUNT))
        expected = [owner[buckets.bucket_of(salt, name)] for name in names]
        assert buckets.owners(salt, owner)([name.encode() for name in names]) == expected


def test_ranges_are_read_and_written_in_one_form() -> None:
    ranges = buckets.parse("nn:500-999,gbm:0-499,gbm:2000-2000")
    assert ranges == {"nn": [(500, 999)], "gbm": [(0, 499), (2000, 2000)]}
    assert buckets.format(ranges) == "gbm:0-499,nn:500-999,gbm:2000-2000"
    assert buckets.size(ranges["gbm"]) == 501
    assert buckets.parse("") == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gbm", "not name:first-last"),
        ("gbm:5-3", "falls"),
        ("a:0-5,b:5-9", "bucket 5 is given twice"),
        ("a:0-10000", "is not"),
    ],
)
def test_bad_ranges_are_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        buckets.parse(text)


def test_the_keys_of_one_model_share_a_slot() -> None:
    made = [
        keys.routing("ns", "m"),
        keys.plan("ns", "m"),
        keys.profile("ns", "m", "ab"),
        keys.evidence("ns", "m"),
        keys.events("ns", "m", 255),
        keys.feedback("ns", "m", 0),
    ]
    assert made[0] == "km:{ns/m}:routing" and made[4] == "km:{ns/m}:events:255"
    assert {key[key.index("{") : key.index("}")] for key in made} == {"{ns/m"}
    with pytest.raises(ValueError, match="partition 256"):
        keys.events("ns", "m", 256)
    with pytest.raises(ValueError, match="expected namespace/name"):
        keys.split_model_id("flights")


@pytest.mark.parametrize(("label", "text"), [(1, "1"), (1.0, "1"), (True, "1"), ("1", "1"), (0.5, "0.5"), (False, "0")])
def test_one_class_has_one_spelling(label: feedback.Label, text: str) -> None:
    assert feedback.label_text(label) == text
