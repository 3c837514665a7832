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
    packed = struct.pack(f"<{WIDTH}f", *values) if is_packed else None
    batch = Batch(len(rows), {}, frozenset(), None, {"b": values}, BLOCK.inputs, True, packed)
    return Part(batch, 0, len(rows))


def told(frame: Frame) -> Any:
    arrays = {name: (array.dtype, array.shape, array.tobytes()) for name, array in frame.arrays.items()}
    return frame.rows, arrays, frame.encoded().data


@given(st.lists(ROW, min_size=1, max_size=5))
def test_rows_that_are_packed_are_joined_as_their_values(rows: list[list[float]]) -> None:
    packed = frames.join([member([row], True) for row in rows], BLOCK)
    plain = frames.join([member([row], False) for row in rows], BLOCK)
    assert told(packed) == told(plain)
    assert packed.arrays["b"].tolist() == rows


@given(st.lists(st.lists(ROW, min_size=1, max_size=3), min_size=1, max_size=4), st.data())
def test_packed_rows_and_others_travel_together(requests: list[list[list[float]]], data: Any) -> None:
    members = [member(rows, len(rows) == 1 and data.draw(st.booleans())) for rows in requests]
    frame = frames.join(members, BLOCK)
    assert frame.arrays["b"].tolist() == [row for rows in requests for row in rows]


def test_bytes_that_are_not_what_a_variant_takes_are_made_anew_from_the_values() -> None:
    rows = [member([[1.5, 2.5, -3.0]], True), member([[4.0, 5.0, 6.0]], True)]
    doubles = frames.join(rows, of(InputSpec("b", "FP64", (WIDTH,), False)))
    assert doubles.arrays["b"].dtype == np.float64
    assert doubles.arrays["b"].tolist() == [[1.5, 2.5, -3.0], [4.0, 5.0, 6.0]]
