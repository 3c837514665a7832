"""Requests of one row each who share a frame get, worded all at once, what each of them gets alone."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kingmaker_contracts.inference import Tensor, TensorSpec
from kingmaker_gateway import protocols
from kingmaker_gateway.batch import Batch
from kingmaker_gateway.frames import Frame, Slice
from kingmaker_gateway.protocols import PlainV2Call, V1Call
from kingmaker_gateway.signature import InputSpec, Signature

IDS = st.none() | st.sampled_from(["", "mine", '",', "%b%d", "\u00e9 \\"]) | st.text()
FLOATS = st.floats(-1e9, 1e9, width=32) | st.just(float("nan"))
VERSION = '4 %d "'


def frame_of(*found: Tensor) -> Frame:
    specs = {tensor.name: TensorSpec(tensor.name, tensor.datatype, [-1]) for tensor in found}
    signature = Signature({"x": InputSpec("x", "FP32", (), False)}, specs)
    return Frame(signature, found[0].shape[0], {}, list(found))


def usual(kind: str, id: str | None = None) -> Any:
    batch = Batch(1, {}, frozenset())
    return V1Call(batch) if kind == "v1" else PlainV2Call(batch, id)


def ids(count: int) -> list[bytes]:
    return [b"01a1ff2e-%d" % at for at in range(count)]


ROWS = st.lists(st.tuples(FLOATS, FLOATS, st.integers(-(2**63), 2**63 - 1), IDS), min_size=1, max_size=6)


@given(ROWS, st.booleans())
def test_what_is_said_together_is_what_is_said_alone(
    rows: list[tuple[float, float, int, str | None]], is_v1: bool
) -> None:
    found = np.array([row[:2] for row in rows], np.float32), np.array([row[2] for row in rows], np.int64)
    frame = frame_of(Tensor('odd "name" 100%d', "FP32", found[0]), Tensor("label", "INT64", found[1]))
    calls = [usual("v1" if is_v1 else "v2", id) for _, _, _, id in rows]
    together = protocols.encode_together(calls, "flights", VERSION, ids(len(rows)), frame)
    alone = [
        call.encode("flights", VERSION, id, Slice(frame_of(*frame.outputs), at, 1))
        for at, (call, id) in enumerate(zip(calls, ids(len(rows)), strict=True))
    ]
    assert together is not None
    assert [(body, None) for body in together] == alone


LABELS = Tensor("label", "INT64", np.arange(2))
TEXTS = Tensor("label", "BYTES", np.array(["a", "b"], object))


@pytest.mark.parametrize(
    ("calls", "found"),
    [
        ([usual("v2"), usual("v1")], LABELS),
        ([usual("v2")], LABELS),
        ([usual("v2")] * 2, TEXTS),
        ([usual("v1")] * 2, TEXTS),
    ],
    ids=["two ways to speak", "somebody waits no more", "texts", "texts in V1"],
)
def test_those_who_differ_are_left_to_be_answered_alone(calls: list[Any], found: Tensor) -> None:
    assert protocols.encode_together(calls, "flights", "4", ids(len(calls)), frame_of(found)) is None
