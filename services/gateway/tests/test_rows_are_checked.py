"""Bodies against a signature, without a server: what is accepted becomes these arrays, the rest is refused in words."""

import contextlib
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kingmaker_contracts.inference import TensorSpec
from kingmaker_contracts.problems import Code, Problem
from kingmaker_gateway import batch, codec, protocols, rows
from kingmaker_gateway.batch import Batch, Vocabulary
from kingmaker_gateway.signature import InputSpec, Signature

OUTPUTS = {"label": TensorSpec("label", "INT64", [-1])}
CHAMPION = Signature(
    {
        "x": InputSpec("x", "FP32", (1,), False),
        "y": InputSpec("y", "FP32", (1,), True),
        "name": InputSpec("name", "BYTES", (1,), False),
        "n": InputSpec("n", "INT32", (1,), False),
    },
    OUTPUTS,
)
CHALLENGER = Signature({**CHAMPION.inputs, "extra": InputSpec("extra", "FP32", (1,), False)}, OUTPUTS)
BLOCK = Signature({"b": InputSpec("b", "FP32", (3,), False)}, OUTPUTS)
ONE = Signature({"x": InputSpec("x", "FP32", (), False)}, OUTPUTS)
GOOD = {"x": 1.5, "y": None, "name": "a", "n": 3}
WORDS = batch.vocabulary(CHAMPION, CHAMPION, [CHALLENGER], "customer")


def v1(instances: object, words: Vocabulary = WORDS) -> Batch:
    return rows.decode(json.dumps({"instances": instances}).encode(), words)


def v2(inputs: list[dict[str, object]], words: Vocabulary = WORDS) -> Batch:
    return protocols.v2({}, words)(json.dumps({"inputs": inputs}).encode()).batch


def tensor(name: str, datatype: str, data: list[object], shape: list[int] | None = None) -> dict[str, object]:
    return {"name": name, "datatype": datatype, "shape": [len(data)] if shape is None else shape, "data": data}


GOOD_V2 = [
    tensor("x", "FP64", [1.5]),
    tensor("y", "FP32", [None]),
    tensor("name", "BYTES", ["a"]),
    tensor("n", "INT64", [3]),
]


def replaced(**changes: dict[str, object]) -> list[dict[str, object]]:
    return [changes.get(str(t["name"]), t) for t in GOOD_V2]


def same(one: Batch, other: Batch) -> bool:
    return one.rows == other.rows and all(
        np.array_equal(one.arrays[name], other.arrays[name], equal_nan=one.arrays[name].dtype.kind == "f")
        for name in CHAMPION.inputs
    )


def test_arrays_names_and_tensors_mean_the_same() -> None:
    named, listed, tensors = v1([GOOD]), v1([[1.5, None, "a", 3]]), v2(GOOD_V2)
    assert same(named, listed)
    assert same(named, tensors)
    assert {name: str(a.dtype) for name, a in named.arrays.items()} == {
        "x": "float32", "y": "float32", "name": "object", "n": "int32",
    }  # fmt: skip


def test_a_nullable_feature_may_be_left_out_of_named_rows() -> None:
    left_out = v1([{"x": 1, "name": "a", "n": 3}, {"x": 1, "name": "a", "n": 3, "y": 2}])
    assert np.isnan(left_out.arrays["y"][0, 0])
    assert left_out.arrays["y"][1, 0] == 2
    assert left_out.nulls == {"y"}


def test_a_challenger_s_input_is_welcome_and_makes_the_request_eligible() -> None:
    assert not v1([GOOD]).fits(CHALLENGER)
    assert v1([{**GOOD, "extra": 1}]).fits(CHALLENGER)


def test_a_null_the_challenger_cannot_take_makes_it_ineligible() -> None:
    strict = Signature({"x": CHAMPION.inputs["x"], "y": InputSpec("y", "FP32", (1,), False)}, OUTPUTS)
    words = batch.vocabulary(CHAMPION, CHAMPION, [strict], None)
    assert not v1([GOOD], words).fits(strict)
    assert v1([{**GOOD, "y": 1}], words).fits(strict)


def test_a_block_takes_lists() -> None:
    words = batch.vocabulary(BLOCK, BLOCK, [], None)
    assert v1([[1, 2, 3], [4, 5, 6]], words).arrays["b"].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert v1([{"b": [1, 2, 3]}], words).arrays["b"].tolist() == [[1, 2, 3]]


def test_a_single_input_takes_plain_values() -> None:
    words = batch.vocabulary(ONE, ONE, [], None)
    assert v1([1, 2.5], words).arrays["x"].tolist() == [1.0, 2.5]
    assert v1([[1], [2.5]], words).arrays["x"].tolist() == [1.0, 2.5]


@pytest.mark.parametrize(
    ("instances", "parts"),
    [
        ([], ["empty"]),
        ("text", ["the string 'text'", "list of rows"]),
        ({"x": [1]}, ["an object", "list of rows"]),
        ([{**GOOD, "typo": 1}], ["unknown input 'typo'", "'x', 'y', 'name', 'n', 'extra'"]),
        ([{"x": 1, "n": 3}], ["missing input 'name'"]),
        ([{"y": 1}], ["missing inputs 'x', 'name', 'n'"]),
        ([GOOD, {**GOOD, "x": "abc"}], ["'x', row 1", "the string 'abc'", "a number (FP32)"]),
        ([{**GOOD, "x": True}], ["'x', row 0", "true", "a number (FP32)"]),
        ([{**GOOD, "x": None}], ["'x', row 0", "null", "not nullable"]),
        ([{**GOOD, "x": {"a": 1}}], ["'x', row 0", "an object"]),
        ([{**GOOD, "x": [1, 2]}], ["'x', row 0", "a list"]),
        ([{**GOOD, "x": 1e39}], ["'x'", "does not fit into FP32"]),
        ([{**GOOD, "name": 7}], ["'name', row 0", "7", "a string (BYTES)"]),
        ([{**GOOD, "name": None}], ["'name', row 0", "null", "not nullable"]),
        ([{**GOOD, "n": 1.5}], ["'n'", "1.5", "whole number"]),
        ([{**GOOD, "n": 2**40}], ["'n'", "does not fit into INT32"]),
        ([{**GOOD, "n": None}], ["'n', row 0", "null"]),
        ([GOOD, {"x": 1, "y": 1, "n": 1}], ["row 1 lacks the feature 'name'"]),
        ([GOOD, {**GOOD, "extra": 1}], ["row 0 lacks the feature 'extra'"]),
        ([GOOD, {**GOOD, "customer": 1}], ["row 0 lacks the feature 'customer'"]),
        ([GOOD, [1, 2, "a", 3]], ["row 1 is a list", "object"]),
        ([[1, 2, "a"]], ["row 0 has 3 values", "expected 4 values (x, y, name, n)"]),
        ([[1, 2, "a", 3], GOOD], ["row 1 is an object"]),
        ([7], ["row 0 is 7", "expected 4 values"]),
        ([None], ["row 0 is null"]),
    ],
)
def test_a_wrong_row_is_named(instances: object, parts: list[str]) -> None:
    with pytest.raises(Problem) as caught:
        v1(instances)
    assert caught.value.code is Code.BAD_INPUT
    for part in parts:
        assert part in caught.value.message


@pytest.mark.parametrize(
    ("inputs", "parts"),
    [
        ([], ["empty"]),
        (GOOD_V2[:2], ["missing inputs 'name', 'n'", "found 'x', 'y'"]),
        ([*GOOD_V2, tensor("typo", "FP32", [1])], ["unknown input 'typo'", "'extra'"]),
        ([*GOOD_V2, tensor("extra", "FP32", [1, 2])], ["'extra' has 2 rows", "'x' has 1"]),
        (replaced(x=tensor("x", "BYTES", ["1"])), ["'x' has datatype BYTES, expected FP32"]),
        (replaced(x=tensor("x", "BOOL", [True])), ["'x' has datatype BOOL, expected FP32"]),
        (replaced(name=tensor("name", "FP32", [1])), ["'name' has datatype FP32, expected BYTES"]),
        (replaced(x=tensor("x", "FP32", ["1"])), ["'x'", 'the string "1"', "a number"]),
        (replaced(x=tensor("x", "FP32", [None])), ["'x', row 0", "missing value", "not nullable"]),
        (replaced(x=tensor("x", "FP64", [1e39])), ["'x', row 0", "fits into FP32"]),
        (replaced(x=tensor("x", "FP32", [1, 2], [1, 2])), ["shape [1, 2], expected [-1, 1]"]),
        (replaced(x=tensor("x", "FP32", [1], [])), ["shape"]),
        (replaced(x=tensor("x", "FP32", [1, 2], [1])), ["'x'", "needs 1 values, data has 2"]),
        (replaced(x=tensor("x", "FP32", [], [0])), ["rows"]),
        (replaced(n=tensor("n", "FP32", [1.5])), ["'n', row 0", "1.5", "whole number"]),
        (replaced(n=tensor("n", "INT64", [2**40])), ["'n', row 0", "fits into INT32"]),
        (replaced(n=tensor("n", "UINT64", [2**63])), ["'n', row 0", "fits into INT32"]),
        ([tensor(str(t["name"]), str(t["datatype"]), [], [0]) for t in GOOD_V2], ["empty"]),
        ([tensor("x", "COMPLEX", [1])], ["unknown datatype"]),
    ],
)
def test_a_wrong_tensor_is_named(inputs: list[dict[str, object]], parts: list[str]) -> None:
    with pytest.raises(Problem) as caught:
        v2(inputs)
    assert caught.value.code is Code.BAD_INPUT
    for part in parts:
        assert part in caught.value.message


@pytest.mark.parametrize(
    "body", [b"", b"  ", b"{", b"[1]", b"\xff\xfe", b'{"instances": [NaN]}', b'{"instances": [1e999]}', b"[" * 100_000]
)
@pytest.mark.parametrize("language", [protocols.v1, protocols.v2])
def test_what_is_not_json_is_refused(language: protocols.Language, body: bytes) -> None:
    with pytest.raises(Problem) as caught:
        language({}, WORDS)(body)
    assert caught.value.code is Code.BAD_INPUT
    if b"NaN" in body:
        assert "send null" in caught.value.message


def test_too_many_rows_are_refused() -> None:
    words = batch.vocabulary(ONE, ONE, [], None)
    with pytest.raises(Problem, match="65537 rows, expected at most 65536"):
        v1([1] * 65_537, words)


def test_rows_of_images_are_not_supported_in_v1() -> None:
    image = Signature({"i": InputSpec("i", "FP32", (2, 2), False)}, OUTPUTS)
    with pytest.raises(Problem, match="not supported yet") as caught:
        v1([[[1, 2], [3, 4]]], batch.vocabulary(image, image, [], None))
    assert caught.value.code is Code.NOT_SUPPORTED


@pytest.mark.parametrize("header", ["x", "-1", "1e3", "٣", "9" * 20, ""])
def test_a_wrong_binary_header_is_refused(header: str) -> None:
    with pytest.raises(Problem, match="inference-header-content-length"):
        codec.decode(b"{}", header)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y", "name", "n", "q"]), inner),
    max_leaves=8,
)


@given(json_values)
def test_no_v1_body_breaks_the_reader(value: object) -> None:
    # anything but a Problem would be somebody's 500
    with contextlib.suppress(Problem):
        assert v1(value).rows > 0


any_tensor = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["x", "y", "name", "n", "customer", "q"]),
        "datatype": st.sampled_from(["FP32", "FP64", "INT32", "INT64", "UINT64", "BYTES", "BOOL", "FP16", "Q"]),
        "shape": st.lists(st.integers(-1, 3), max_size=3),
    },
    optional={
        "data": st.lists(json_values, max_size=3),
        "parameters": st.dictionaries(st.just("binary_data_size"), json_values),
    },
)


@given(st.lists(any_tensor, max_size=4), json_values, json_values)
def test_no_v2_body_breaks_the_reader(inputs: list[object], outputs: object, parameters: object) -> None:
    body = json.dumps({"inputs": inputs, "outputs": outputs, "parameters": parameters}).encode()
    with contextlib.suppress(Problem):
        assert protocols.v2({}, WORDS)(body).batch.rows > 0


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_numbers_arrive_as_they_were_sent(values: list[float]) -> None:
    words = batch.vocabulary(ONE, ONE, [], None)
    assert v1(values, words).arrays["x"].tolist() == values


@pytest.mark.parametrize(
    ("values", "key"),
    [([5, 5], "5"), ([5.0, 5], "5"), (["u", "u"], "u"), ([None, None], None), ([True], "1"), ([1.5], "1.5")],
)
def test_the_sticky_value_of_a_feature_no_model_takes(values: list[object], key: str | None) -> None:
    assert batch.sticky_value(v1([{**GOOD, "customer": v} for v in values]), "customer") == key


def test_the_sticky_value_of_an_input() -> None:
    assert batch.sticky_value(v1([GOOD, GOOD]), "n") == "3"
    assert batch.sticky_value(v1([GOOD, GOOD]), "y") is None
    assert batch.sticky_value(v1([GOOD]), "customer") is None


@pytest.mark.parametrize("values", [["a", "b"], ["a", None], [1, 2]])
def test_rows_of_two_callers_are_refused(values: list[object]) -> None:
    with pytest.raises(Problem) as caught:
        batch.sticky_value(v1([{**GOOD, "customer": v} for v in values]), "customer")
    assert caught.value.code is Code.MIXED_KEYS


def test_signatures_conflict_where_a_shared_input_differs() -> None:
    other = Signature({"x": InputSpec("x", "FP64", (1,), False), "z": InputSpec("z", "FP32", (1,), False)}, OUTPUTS)
    assert other.conflicts(CHAMPION) == ["x: FP64[-1, 1] against FP32[-1, 1]"]
    assert CHALLENGER.conflicts(CHAMPION) == []
    assert math.prod(BLOCK.inputs["b"].tail) == BLOCK.inputs["b"].width
