"""What is done once for a frame gives, for each of its requests, what the general writers and readers give."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from kingmaker_contracts import tensors
from kingmaker_contracts.inference import DTYPES, InferRequest, InferResponse, Tensor, TensorSpec
from kingmaker_gateway import codec, plain, replies, rows
from kingmaker_gateway.connection import Reply
from kingmaker_gateway.errors import UpstreamGarbage
from kingmaker_gateway.frames import Frame, Slice
from kingmaker_gateway.signature import InputSpec, Signature

BOUNDS = {"INT64": (-(2**63), 2**63 - 1), "UINT8": (0, 255)}
NAMES = st.sampled_from(["label", 'odd "name" 100%d', "ü", "probabilities"])


@st.composite
def outputs(draw: Any) -> tuple[int, list[Tensor]]:
    count = draw(st.integers(1, 5))
    found = []
    for name in draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)):
        datatype = draw(st.sampled_from(["FP32", "FP64", "INT64", "BOOL", "UINT8", "BYTES"]))
        shape = (count, *draw(st.lists(st.integers(0, 3), max_size=2)))
        if datatype == "BYTES":
            array = np.full(shape, "],[", object)
        else:
            bounds = BOUNDS.get(datatype)
            elements = None
            if datatype in ("FP32", "FP64"):
                bits: Literal[32, 64] = 32 if datatype == "FP32" else 64
                elements = st.floats(-(2.0**100), 2.0**100, width=bits) | st.just(float("nan"))
            elif bounds is not None:
                elements = st.integers(*bounds)
            array = draw(arrays.arrays(DTYPES[datatype], shape, elements=elements))
        found.append(Tensor(name, datatype, array))
    return count, found


def frame_of(count: int, found: list[Tensor]) -> Frame:
    signature = Signature(
        {"x": InputSpec("x", "FP32", (), False)}, {t.name: TensorSpec(t.name, t.datatype, [-1]) for t in found}
    )
    return Frame(signature, count, {}, found)


@given(outputs(), st.data())
def test_each_request_of_a_frame_gets_the_words_it_would_get_alone(made: tuple[int, list[Tensor]], data: Any) -> None:
    count, found = made
    frame = frame_of(count, found)
    for _ in range(3):
        first = data.draw(st.integers(0, count - 1))
        answer = Slice(frame, first, data.draw(st.integers(1, count - first)))
        body = plain.v2("flights", '4 %d "', b'"an id"', answer)
        if body is not None:
            general, head = codec.encode(InferRequest([], None, "an id"), "flights", '4 %d "', "unused", answer)
            assert (body, head) == (general, None)
        lone = plain.v1(answer)
        if lone is not None:
            assert lone == rows.encode(answer)


def test_numbers_are_worded_here_and_texts_are_not() -> None:
    numbers = [
        Tensor("p", "FP32", np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)),
        Tensor("n", "INT64", np.arange(2)),
    ]
    texts = [Tensor("t", "BYTES", np.array(["a", "],["], object))]
    assert plain.v1(Slice(frame_of(2, numbers), 1, 1)) == b'{"predictions":[{"p":[0.5,0.5],"n":1}]}'
    assert plain.v1(Slice(frame_of(2, numbers[1:]), 0, 2)) == b'{"predictions":[0,1]}'
    assert plain.v1(Slice(frame_of(2, texts), 0, 2)) is None
    assert plain.v2("m", "1", b'"i"', Slice(frame_of(2, texts), 0, 2)) is None


def reply_of(found: list[Tensor], binary: bool) -> Reply:
    names = frozenset(t.name for t in found) if binary else frozenset()
    body, head = tensors.encode_response(InferResponse("m", found, "1", "i"), names)
    return Reply(200, body, head)


def values(found: Sequence[Tensor]) -> list[tuple[str, str, Any]]:
    return [
        (t.name, t.datatype, np.nan_to_num(t.array, nan=-7).tolist() if t.array.dtype.kind == "f" else t.array.tolist())
        for t in found
    ]


@given(outputs(), st.booleans(), st.randoms())
def test_an_answer_is_read_alike_when_its_like_has_been_read_before(
    made: tuple[int, list[Tensor]], binary: bool, dice: Any
) -> None:
    count, found = made
    frame = frame_of(count, found)
    shuffled = dice.sample(found, len(found))  # a server need not keep the signature's order
    reply = reply_of(shuffled, binary)
    first, again = replies.read(reply, frame), replies.read(reply, frame)
    assert [t.name for t in first] == [t.name for t in found]
    assert values(first) == values(again) == values(found)


def test_values_are_looked_at_every_time() -> None:
    def found(value: float) -> list[Tensor]:
        return [Tensor("p", "FP32", np.array([value, 1], np.float32))]

    frame = frame_of(2, found(0.5))
    replies.read(reply_of(found(0.5), True), frame)
    for _ in range(2):
        with pytest.raises(UpstreamGarbage, match="infinity"):
            replies.read(reply_of(found(np.inf), True), frame)


def test_a_shorter_body_under_the_same_head_is_refused() -> None:
    found = [Tensor("p", "FP32", np.arange(4, dtype=np.float32))]
    frame = frame_of(4, found)
    reply = reply_of(found, True)
    replies.read(reply, frame)
    for body in (reply.body[:-4], reply.body + b"1234", reply.body[: reply.head_length]):
        with pytest.raises(UpstreamGarbage):
            replies.read(Reply(reply.status, body, reply.head_length), frame)
    with pytest.raises(UpstreamGarbage, match="expected 3 rows"):
        replies.read(reply, Frame(frame.signature, 3, {}))


def test_what_is_remembered_of_answers_is_bounded() -> None:
    found = [Tensor("p", "FP32", np.arange(1, dtype=np.float32))]
    frame = frame_of(1, found)
    for number in range(3000):
        body, head = tensors.encode_response(InferResponse("m", found, "1", f"unique {number}"), frozenset({"p"}))
        replies.read(Reply(200, body, head), frame)
    assert len(frame.signature.layouts) <= 1024


NUMBERS = st.floats(-(2.0**100), 2.0**100, width=32) | st.just(float("nan"))


def row_of(label: int, scores: list[float], datatype: str = "FP32") -> list[Tensor]:
    return [
        Tensor("label", "INT64", np.array([label])),
        Tensor("100% sure", datatype, np.array([scores], DTYPES[datatype])),
    ]


def told(found: list[Tensor], frame: Frame, version: str = "1") -> tuple[bytes | None, bytes | None]:
    """What the clients of a frame are told after its reply."""
    frame.v1_form = frame.v2_form = None
    frame.outputs = replies.read(reply_of(found, True), frame)
    answer = Slice(frame, 0, frame.rows)
    return plain.v2("flights", version, b'"an id"', answer), plain.v1(answer)


def expected(found: list[Tensor], frame: Frame, version: str = "1") -> tuple[bytes, bytes]:
    answer = Slice(Frame(frame.signature, frame.rows, {}, found), 0, frame.rows)
    body, _ = codec.encode(InferRequest([], None, "an id"), "flights", version, "unused", answer)
    return body, rows.encode(answer)


@given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), NUMBERS, NUMBERS), min_size=3, max_size=6))
def test_a_lone_row_is_worded_alike_however_often_its_like_was_read(answers: list[tuple[int, float, float]]) -> None:
    signature = frame_of(1, row_of(0, [0.0, 0.0])).signature
    for number, (label, *scores) in enumerate(answers):
        frame = Frame(signature, 1, {})
        found = row_of(label, scores)
        assert told(found, frame) == expected(found, frame)
        assert (frame.values is not None) == (number > 0)  # the first of its kind is read the long way
        assert told(found, frame, "2") == expected(found, frame, "2")


def test_a_server_that_changes_its_answers_is_worded_as_it_is() -> None:
    signature = frame_of(1, row_of(0, [0.5])).signature
    changing = [
        row_of(1, [0.25]),
        row_of(1, [0.25, 0.75]),
        row_of(-1, [float("nan"), 1e-7]),
        list(reversed(row_of(7, [0.5, 0.5]))),
        row_of(2, [0.1] * 65),
        [Tensor("label", "INT64", np.array([[[4], [5]]])), row_of(0, [0.1])[1]],
        [Tensor("label", "INT64", np.zeros((1, 0), np.int64)), row_of(0, [0.1])[1]],
        [*row_of(3, [0.5]), Tensor("more", "FP32", np.array([1.5], np.float32))],
    ]
    for _ in range(3):
        for found in changing:
            frame = Frame(signature, 1, {})
            by_name = {tensor.name: tensor for tensor in found}
            theirs = [by_name[name] for name in signature.outputs]
            for got, general in zip(told(found, frame), expected(theirs, frame), strict=True):
                assert got in (None, general)
            assert frame.values is None or told(found, frame)[0] == expected(theirs, frame)[0]


def test_a_frame_read_anew_forgets_the_values_it_had() -> None:
    frame = frame_of(1, row_of(0, [0.5]))
    for _ in range(2):
        told(row_of(1, [0.5]), frame)
    assert told(row_of(2, [0.25, 0.75]), frame)[0] == expected(row_of(2, [0.25, 0.75]), frame)[0]


@pytest.mark.parametrize("scores", [[np.inf, 1.0], [-np.inf, 1.0], [np.inf, -np.inf], [np.nan, np.inf]])
def test_a_lone_row_with_an_infinity_is_refused_every_time(scores: list[float]) -> None:
    frame = frame_of(1, row_of(0, [0.5, 0.5]))
    for _ in range(2):
        told(row_of(1, [0.5, 0.5]), frame)
        with pytest.raises(UpstreamGarbage, match="'100% sure' holds an infinity"):
            replies.read(reply_of(row_of(1, scores), True), frame)


def test_finite_values_whose_sum_is_not_are_answered() -> None:
    found = row_of(1, [1e308, 1e308], "FP64")
    frame = frame_of(1, found)
    for _ in range(3):
        assert told(found, frame) == expected(found, frame)


def test_a_server_that_changes_a_datatype_is_refused() -> None:
    frame = frame_of(1, row_of(0, [0.5]))
    for _ in range(3):
        told(row_of(1, [0.5]), frame)
    with pytest.raises(UpstreamGarbage, match="has datatype FP64, expected FP32"):
        replies.read(reply_of(row_of(1, [0.5], "FP64"), True), frame)
