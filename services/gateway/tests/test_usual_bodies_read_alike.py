"""The fast readers take what the general readers take, and make the same arrays of it, bit for bit."""

import json
import math
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kingmaker_contracts.inference import TensorSpec
from kingmaker_contracts.problems import Problem
from kingmaker_gateway import batch, codec, rows, usual
from kingmaker_gateway.batch import Batch, Vocabulary
from kingmaker_gateway.signature import InputSpec, Signature

OUTPUTS = {"p": TensorSpec("p", "FP32", [-1])}
CHAMPION = Signature(
    {
        "gain": InputSpec("gain", "FP32", (1,), True),
        "carrier code": InputSpec("carrier code", "BYTES", (1,), True),
        "month": InputSpec("month", "INT64", (), False),
        "ratio": InputSpec("ratio", "FP64", (1,), False),
    },
    OUTPUTS,
)
CHALLENGER = Signature({**CHAMPION.inputs, "extra": InputSpec("extra", "FP32", (1,), False)}, OUTPUTS)
WORDS = batch.vocabulary(CHAMPION, CHAMPION, [CHALLENGER], None)
BLOCK = Signature({"b": InputSpec("b", "FP32", (3,), False)}, OUTPUTS)
BLOCK_WORDS = batch.vocabulary(BLOCK, BLOCK, [BLOCK], None)
ODD_NAME = 'a "b" \\ \n'

NUMBERS = st.one_of(
    st.integers(-(2**65), 2**65),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([3.4028235e38, 3.4028236e38, -3.5e38, 16777217, 0.1, -0.0, 1e-46, 2**53 + 1]),
)
ODD = st.sampled_from([None, True, "x", [1], {"a": 1}, ""])
VALUES = st.one_of(NUMBERS, NUMBERS, NUMBERS, ODD)
ROWS = st.lists(
    st.fixed_dictionaries(
        {"gain": VALUES, "carrier code": st.one_of(st.text(max_size=3), ODD), "month": VALUES, "ratio": VALUES},
        optional={"extra": VALUES, "nobody's": VALUES},
    ),
    min_size=1,
    max_size=4,
)


def same(fast: Batch, general: Batch) -> None:
    assert fast.rows == general.rows
    assert fast.nulls == general.nulls
    assert fast.arrays.keys() == general.arrays.keys()
    for name, array in general.arrays.items():
        assert fast.arrays[name].dtype == array.dtype
        assert fast.arrays[name].shape == array.shape
        left, right = fast.arrays[name].tolist(), array.tolist()
        assert repr(left) == repr(right)  # tells -0.0 from 0.0, and one NaN is like another


def general_v1(body: bytes, words: batch.Vocabulary) -> Batch | None:
    try:
        return rows.decode(body, words)
    except Problem:
        return None


def general_v2(body: bytes, words: batch.Vocabulary) -> Batch | None:
    try:
        return batch.build(codec.decode(body, None).inputs, words)
    except Problem:
        return None


@given(ROWS, st.booleans())
@settings(max_examples=400)
def test_v1_rows(instances: list[dict[str, Any]], by_name: bool) -> None:
    listed: list[Any] = instances if by_name else [list(row.values())[:5] for row in instances]
    body = json.dumps({"instances": listed}).encode()
    fast = usual.decode_v1(body, WORDS)
    if fast is not None:
        general = general_v1(body, WORDS)
        assert general is not None
        same(fast, general)


@given(st.lists(st.lists(VALUES, min_size=2, max_size=4), min_size=1, max_size=3))
def test_v1_rows_of_one_wide_input(instances: list[list[Any]]) -> None:
    body = json.dumps({"instances": instances}).encode()
    fast = usual.decode_v1(body, BLOCK_WORDS)
    if fast is not None:
        general = general_v1(body, BLOCK_WORDS)
        assert general is not None
        same(fast, general)


def read_v2(body: bytes, words: Vocabulary) -> tuple[Batch, str | None] | None:
    """None: not taken."""
    return usual.v2_reader(words, lambda *found: found, lambda _: None)(body)


@st.composite
def tensors_v2(draw: Any) -> list[dict[str, Any]]:
    count = draw(st.integers(1, 3))
    found = []
    for name in draw(st.permutations(["gain", "carrier code", "month", "ratio", "extra"]))[: draw(st.integers(3, 5))]:
        datatype = draw(st.sampled_from(["FP32", "FP64", "INT64", "INT32", "BYTES", CHALLENGER.inputs[name].datatype]))
        shape = draw(st.sampled_from([[count], [count, 1], [count, 1, 1], [count + 1]]))
        texts = CHALLENGER.inputs[name].datatype == "BYTES"
        values = st.text(max_size=2) if texts else NUMBERS
        data = draw(st.lists(st.one_of(values, values, values, VALUES), min_size=count, max_size=math.prod(shape)))
        found.append({"name": name, "shape": shape, "datatype": datatype, "data": data})
    return found


@given(tensors_v2())
@settings(max_examples=400)
def test_v2_tensors(inputs: list[dict[str, Any]]) -> None:
    body = json.dumps({"inputs": inputs, "id": "mine"}).encode()
    fast = read_v2(body, WORDS)
    if fast is not None:
        assert fast[1] == "mine"
        general = general_v2(body, WORDS)
        assert general is not None
        same(fast[0], general)


PLAIN = st.one_of(st.floats(-1e30, 1e30), st.integers(-(2**30), 2**30))
ROW_DATA = st.one_of(*[st.lists(PLAIN, min_size=3, max_size=3)] * 3, st.lists(VALUES, min_size=2, max_size=6))
ODD_SHAPES = st.sampled_from([[2, 3], [3], [1, 3, 1], [1], [], [-1, -3], [True, 3], [1.0, 3.0], None])
OFTEN = [True] * 9 + [False]


@st.composite
def one_input(draw: Any) -> dict[str, Any]:
    def often(usual: Any, odd: Any) -> Any:
        return usual if draw(st.sampled_from(OFTEN)) else draw(odd)

    tensor = {
        "name": often("b", st.sampled_from(["B", "", None, 1])),
        "shape": often([1, 3], ODD_SHAPES),
        "datatype": often("FP32", st.sampled_from(["FP64", "INT64", "fp32", None])),
        "data": draw(ROW_DATA),
    }
    if draw(st.integers(0, 4)) == 0:
        tensor |= {"shape": [2, 3], "data": draw(st.lists(PLAIN, min_size=6, max_size=6))}
    for key, odd in (("parameters", [None, None, {}, {"binary_data_size": 12}]), ("unknown", [1, None])):
        if not draw(st.sampled_from(OFTEN)):
            tensor[key] = draw(st.sampled_from(odd))
    return tensor


@st.composite
def bodies_v2(draw: Any) -> bytes:
    tensors = draw(
        st.lists(one_input(), min_size=1, max_size=1)
        if draw(st.sampled_from(OFTEN))
        else st.lists(one_input(), max_size=2)
    )
    whole: dict[str, Any] = {"inputs": tensors}
    if draw(st.booleans()):
        whole["id"] = draw(st.sampled_from([None, "mine", "é", "", 7]))
    for key in ("parameters", "outputs", "strange"):
        if draw(st.integers(0, 9)) == 0:
            whole[key] = draw(st.sampled_from([None, {}, []]))
    for tensor in tensors:
        for key in draw(st.permutations(list(tensor)))[: draw(st.integers(0, 5))]:
            tensor[key] = tensor.pop(key)  # in another order
    text = json.dumps(whole)
    if draw(st.integers(0, 9)) == 0:  # a key said twice: the last counts
        text = text.replace('"name":', '"name": "other", "name":').replace('"shape":', '"shape": [9], "shape":')
    return text.encode()


@given(bodies_v2())
@settings(max_examples=500)
def test_a_body_is_taken_or_left_alike_whatever_is_expected(body: bytes) -> None:
    as_row = read_one(body, expecting_row=True)
    as_any = read_one(body, expecting_row=False)
    assert (as_row is None) == (as_any is None)
    if as_row is None or as_any is None:
        return
    assert as_row[1] == as_any[1] == json.loads(body).get("id")
    assert as_row[0].is_whole and as_any[0].is_whole
    general = general_v2(body, BLOCK_WORDS)
    assert general is not None
    same(as_row[0], general)
    same(as_any[0], general)


def read_one(body: bytes, *, expecting_row: bool) -> tuple[Batch, str | None] | None:
    words = batch.vocabulary(BLOCK, BLOCK, [BLOCK], None)
    read_v2(b"", words)
    words.usual.row.is_expected = expecting_row
    return read_v2(body, words)


def row_of(rows: int, name: str = "b") -> bytes:
    return json.dumps(
        {"inputs": [{"name": name, "shape": [rows, 3], "datatype": "FP32", "data": [0.5] * 3 * rows}]}
    ).encode()


def test_the_next_body_is_read_first_as_what_the_last_one_was() -> None:
    words = batch.vocabulary(BLOCK, BLOCK, [BLOCK], None)
    expected = []
    for body in (row_of(1), row_of(2), row_of(2), row_of(1), row_of(1), b"{", row_of(1)):
        assert (read_v2(body, words) is None) == (body == b"{")
        expected.append(words.usual.row.is_expected)
    assert expected == [True, False, False, True, True, False, True]


def test_values_of_the_one_row_are_held_to_fp32() -> None:
    for value, fits in [
        ("3.4028234e38", True),
        ("-3.4028235e38", True),
        ("3.4028235677973362e38", True),
        ("3.4028235677973366e38", False),
        ("-3.5e38", False),
        ("1e999", False),
    ]:
        body = row_of(1).replace(b"0.5]", value.encode() + b"]")
        assert (general_v2(body, BLOCK_WORDS) is not None) == fits
        for expecting_row in (True, False):
            read = read_one(body, expecting_row=expecting_row)
            assert (read is not None) == fits
            if read is not None:
                assert read[0].packed in (None, read[0].arrays["b"].tobytes())


def test_shapes_of_no_size_are_left_to_the_general_reader() -> None:
    open_ended = Signature({"b": InputSpec("b", "FP32", (-1, -1), False)}, OUTPUTS)
    words = batch.vocabulary(open_ended, open_ended, [open_ended], None)
    body = b'{"inputs": [{"name": "b", "shape": [1, -1, -1], "datatype": "FP32", "data": [1]}]}'
    assert read_v2(body, words) is None
    assert general_v2(body, words) is None


def test_names_no_struct_can_have_are_read_by_the_general_reader() -> None:
    odd = Signature({ODD_NAME: InputSpec(ODD_NAME, "FP32", (1,), False)}, OUTPUTS)
    words = batch.vocabulary(odd, odd, [odd], None)
    assert usual.decode_v1(json.dumps({"instances": [{ODD_NAME: 1}]}).encode(), words) is None
    body = json.dumps({"inputs": [{"name": ODD_NAME, "shape": [1, 1], "datatype": "FP32", "data": [1]}]}).encode()
    found, general = read_v2(body, words), general_v2(body, words)
    assert found is not None and general is not None
    same(found[0], general)


def test_the_usual_bodies_are_taken() -> None:
    row = {"gain": None, "carrier code": "UA", "month": 3, "ratio": 0.5}
    named = usual.decode_v1(json.dumps({"instances": [row, {**row, "gain": 1}]}).encode(), WORDS)
    assert named is not None
    assert named.nulls == {"gain"}
    assert np.isnan(named.arrays["gain"][0, 0])
    assert usual.decode_v1(b'{"instances": [[1, "UA", 3, 0.5]]}', WORDS) is not None
    assert usual.decode_v1(b'{"instances": [[1, 2, 3], [4, 5, 6]]}', BLOCK_WORDS) is not None
    one = b'{"inputs": [{"name": "b", "shape": [2, 3], "datatype": "FP32", "data": [1, 2.5, 3, 4, 5, 6]}]}'
    assert read_v2(one, BLOCK_WORDS) is not None
