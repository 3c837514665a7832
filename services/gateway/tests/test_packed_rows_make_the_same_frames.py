"""A row that came as the bytes it is sent as makes the frame that its values make."""

import struct
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kingmaker_contracts.inference import TensorSpec
from kingmaker_gateway import frames
from kingmaker_gateway.batch import Batch
from kingmaker_gateway.frames import Frame, Part
from kingmaker_gateway.signature import InputSpec, Signature

WIDTH = 3
OUTPUTS = {"p": TensorSpec("p", "FP32", [-1])}
ROW = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=WIDTH, max_size=WIDTH)


def of(*specs: InputSpec) -> Signature:
    return Signature({spec.name: spec for spec in specs}, OUTPUTS)


BLOCK = of(InputSpec("b", "FP32", (WIDTH,), False))


def member(rows: list[list[float]], is_packed: bool) -> Part:
    values = [value for row in rows for value in row]
    if is_packed:
        packed = struct.pack(f"<{WIDTH}f", *values)
        return Part(Batch(1, {}, frozenset(), specs=BLOCK.inputs, is_whole=True, packed=packed), 0, 1)
    return Part(Batch(len(rows), {}, frozenset(), None, {"b": values}, BLOCK.inputs, True), 0, len(rows))


def told(frame: Frame) -> Any:
    arrays = {name: (array.dtype, array.shape, array.tobytes()) for name, array in frame.arrays.items()}
    return frame.rows, arrays, frame.encoded().data


def encoded(rows: list[list[float]]) -> bytes:
    return frames.join([member(rows, False)], BLOCK).encoded().data


@given(st.lists(ROW, min_size=1, max_size=5))
def test_rows_that_are_packed_are_joined_as_their_values(rows: list[list[float]]) -> None:
    packed = frames.join([member([row], True) for row in rows], BLOCK)
    plain = frames.join([member([row], False) for row in rows], BLOCK)
    assert told(packed) == told(plain)
    assert packed.arrays["b"].tolist() == rows


@given(st.lists(st.lists(ROW, min_size=1, max_size=3), min_size=1, max_size=4), st.data())
def test_packed_rows_and_others_travel_together(requests: list[list[list[float]]], data: Any) -> None:
    """The others with all their rows or some."""
    members, expected = [], []
    for rows in requests:
        one = member(rows, len(rows) == 1 and data.draw(st.booleans()))
        one.first = data.draw(st.integers(0, len(rows) - 1))
        one.rows = data.draw(st.integers(1, len(rows) - one.first))
        members.append(one)
        expected += rows[one.first : one.first + one.rows]
    frame = frames.join(members, BLOCK)
    assert frame.rows == len(expected)
    assert frame.arrays["b"].tolist() == expected
    assert frame.encoded().data == encoded(expected)


def test_a_packed_row_has_the_names_and_arrays_of_its_values() -> None:
    packed, plain = member([[1.5, 2.5, -3.0]], True).batch, member([[1.5, 2.5, -3.0]], False).batch
    assert [*packed.names] == [*plain.names] == ["b"]
    assert packed.fits(BLOCK)
    assert not packed.fits(of(*BLOCK.inputs.values(), InputSpec("c", "FP32", (1,), True)))
    assert packed.arrays["b"].dtype == plain.arrays["b"].dtype == np.float32
    assert packed.arrays["b"].tolist() == plain.arrays["b"].tolist() == [[1.5, 2.5, -3.0]]
