"""A call that is put together from what is remembered is the one that would be written anew."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kingmaker_contracts.inference import DTYPES, TensorSpec
from kingmaker_gateway import frames
from kingmaker_gateway.batch import Batch
from kingmaker_gateway.calls import Calls
from kingmaker_gateway.frames import Body, Part
from kingmaker_gateway.signature import InputSpec, Signature

PATH = b"/v2/models/flights/infer"
OUTPUTS = {"p": TensorSpec("p", "FP32", [-1])}
NUMBERS = Signature({"x": InputSpec("x", "FP32", (2,), False), "n": InputSpec("n", "INT64", (), False)}, OUTPUTS)
TEXTS = Signature({"t": InputSpec("t", "BYTES", (), False)}, OUTPUTS)


def numbers(rows: int, value: float) -> Body:
    batch = Batch(rows, {"x": np.full((rows, 2), value, np.float32), "n": np.arange(rows)}, frozenset())
    return frames.join([Part(batch, 0, rows)], NUMBERS).encoded()


def text(value: str) -> Body:
    return frames.join([Part(Batch(1, {"t": np.array([value], object)}, frozenset()), 0, 1)], TEXTS).encoded()


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"10.0.0.1:80", b"[::1]:8080"]),
            st.floats(-1, 20_000),
            st.builds(numbers, st.integers(1, 4), st.floats(0, 9)) | st.builds(text, st.text(max_size=9)),
        ),
        min_size=2,
    )
)
def test_calls_are_the_same_whatever_was_sent_before(made: list[tuple[bytes, float, Body]]) -> None:
    calls = Calls(PATH)
    for host, left_s, body in made:
        call = calls.infer(host, left_s, body)
        assert call == Calls(PATH).infer(host, left_s, body)
        head, _, data = call.partition(b"\r\n\r\n")
        lines = dict(line.split(b": ") for line in head.split(b"\r\n")[1:])
        assert data == body.data == body.head + body.raw
        assert (int(lines[b"content-length"]), int(lines[b"inference-header-content-length"])) == (
            len(body.data),
            body.head_length,
        )
        assert lines[b"host"] == host
        assert int(lines[b"x-kingmaker-timeout-ms"]) >= int(left_s * 1000)


@pytest.mark.parametrize(
    ("left_s", "told"), [(-1, 1), (0, 1), (0.0004, 1), (0.001, 2), (0.9, 1024), (1.1, 2048), (9000, 9_000_000)]
)
def test_the_time_left_is_told_in_powers_of_two(left_s: float, told: int) -> None:
    assert b"x-kingmaker-timeout-ms: %d\r\n" % told in Calls(PATH).infer(b"h:1", left_s, numbers(1, 0))


def test_what_is_remembered_of_calls_is_bounded_and_comes_again() -> None:
    calls = Calls(PATH)
    for number in range(3000):
        calls.infer(b"h:%d" % number, 0.9, numbers(1, number))
        calls.infer(b"h:1", 0.9, text("x" * number))  # every text of another length is a head of its own
    assert 0 < len(calls._starts) <= 1024
    assert all(head == numbers(1, 0).head for _, _, head in calls._starts)
    calls = Calls(PATH)
    calls.infer(b"h:1", 0.9, Body(b"x" * 10_000, b"", True))
    assert not calls._starts


@given(st.sampled_from(["FP32", "FP64", "INT64", "INT32"]), st.integers(0, 3), st.integers(0, 3), st.data())
def test_lists_become_the_arrays_numpy_would_make(datatype: str, rows: int, width: int, data: st.DataObject) -> None:
    elements = st.integers(-(2**31), 2**31 - 1) if datatype.startswith("INT") else st.floats(width=32)
    values = data.draw(st.lists(elements, min_size=rows * width, max_size=rows * width))
    array = InputSpec("x", datatype, (width,), False).array(values, rows)
    wanted = np.array(values, DTYPES[datatype]).reshape((rows, width))
    assert array.dtype == wanted.dtype and array.shape == wanted.shape and array.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("off", [-1, 1])
def test_lists_of_another_length_make_no_array(rows: int, off: int) -> None:
    with pytest.raises(ValueError, match="reshape"):
        InputSpec("x", "FP32", (3,), False).array([0.5] * (rows * 3 + off), rows)
