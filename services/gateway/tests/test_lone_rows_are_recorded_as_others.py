"""A row that kept its bytes has the arrays it would have had, alone and with many."""

import math
from collections.abc import Sequence
from itertools import product
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kingmaker_contracts import events
from kingmaker_contracts.inference import DTYPES, Tensor
from kingmaker_gateway import envelope, runs
from kingmaker_gateway.answerers import Answerer
from kingmaker_gateway.lone import LoneInputs, LoneOutputs, inputs_together, outputs_together
from kingmaker_gateway.runs import Mark, Run
from kingmaker_gateway.signature import InputSpec

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Kit

SPECS = [InputSpec("x", "FP32", (3,), False), InputSpec("y", "FP32", (2, 2), False)]
LAYOUTS: list[list[tuple[str, str, tuple[int, ...]]]] = [
    [("p", "FP32", (1, 2)), ("label", "INT64", (1,))],
    [("p", "FP32", (1, 2))],
    [("q", "FP64", (1, 2, 2))],
]


def layout(number: int) -> SimpleNamespace:
    places, start = [], 3 + number  # behind a head, so that no value begins where numpy would like it
    for name, datatype, shape in LAYOUTS[number]:
        places.append((name, datatype, DTYPES[datatype], shape, start))
        start += DTYPES[datatype].itemsize * math.prod(shape)
    return SimpleNamespace(places=places, end=start)


KNOWN = [layout(number) for number in range(len(LAYOUTS))]


def told(arrays: Sequence[Any]) -> Any:
    return [(array.dtype, array.shape[1:], array.tolist()) for array in arrays]


@given(st.lists(st.tuples(st.sampled_from([0, 1, None]), st.integers(0, 9)), max_size=12))
def test_inputs_of_lone_rows_are_those_of_their_bytes(drawn: list[tuple[int | None, int]]) -> None:
    given_inputs: list[Any] = []
    for which, seed in drawn:
        values = np.random.default_rng(seed).normal(size=4).astype(np.float32)
        if which is None:
            given_inputs.append({"x": values[:3].reshape(1, 3).repeat(2, axis=0)})
        else:
            spec = SPECS[which]
            given_inputs.append(LoneInputs(spec, values[: spec.width].tobytes()))
            assert told([*given_inputs[-1].values()]) == told([values[: spec.width].reshape(1, *spec.tail)])
    together = inputs_together(given_inputs)
    assert len(together) <= len(given_inputs)
    for name in ("x", "y"):
        before, after = ([np.asarray(i[name]) for i in inputs if name in i] for inputs in (given_inputs, together))
        assert [row.tolist() for array in after for row in array] == [row.tolist() for array in before for row in array]


def rows_by_name(outputs: Sequence[Sequence[Tensor]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for tensors in outputs:
        for t in tensors:
            found.setdefault(t.name, []).extend(
                (t.datatype, t.array.dtype, row.shape, row.tobytes()) for row in t.array
            )
    return found


@given(st.lists(st.tuples(st.sampled_from([0, 1, 2, None]), st.binary(min_size=64, max_size=64)), max_size=12))
def test_outputs_of_lone_rows_are_those_of_their_bytes(drawn: list[tuple[int | None, bytes]]) -> None:
    given_outputs: list[Any] = []
    expected: list[list[Tensor]] = []
    for which, noise in drawn:
        if which is None:
            expected.append([Tensor("p", "FP32", np.zeros((3, 2), np.float32))])
            given_outputs.append(expected[-1])
            continue
        laid = KNOWN[which]
        body = noise[: laid.end]
        arrays = [(n, d, np.ndarray(shape, dtype, body, start)) for n, d, dtype, shape, start in laid.places]
        expected.append([Tensor(*one) for one in arrays])
        given_outputs.append(LoneOutputs(body, laid))
    together = outputs_together(given_outputs)
    assert len(together) <= len(given_outputs)
    assert rows_by_name(given_outputs) == rows_by_name(together) == rows_by_name(expected)


@pytest.mark.parametrize("are_lone", list(product([False, True], repeat=4)))
def test_an_entry_of_lone_rows_is_that_of_their_arrays(kit: "Kit", are_lone: tuple[bool, ...]) -> None:
    profile = kit.profile([("x", "FP32")])
    assert profile.score is not None
    score = profile.score.output
    profile = msgspec.structs.replace(profile, inputs=[msgspec.structs.replace(profile.inputs[0], shape=[-1, 3])])
    by = Answerer("default/m", 1, 1, "r", "lr", "3", "champion", ("lr",), kit.sha(profile), profile)
    laid = SimpleNamespace(places=[(score, "FP32", DTYPES["FP32"], (1, 2), 5)], end=13)
    lone: list[Run] = []
    whole: list[Run] = []
    for number, is_lone in enumerate(are_lone):
        row, answer = (np.arange(n, dtype=np.float32) + number for n in (3, 2))
        one: Any = SimpleNamespace(id=bytes([number]) * 16, mark=Mark(1, 0, "weight", 0, 200), key_hash=0)
        arrays = {"x": row.reshape(1, 3)}, [Tensor(score, "FP32", answer.reshape(1, 2))]
        in_bytes = LoneInputs(SPECS[0], row.tobytes()), LoneOutputs(bytes(5) + answer.tobytes(), laid)
        for kept, (inputs, outputs) in ((whole, arrays), (lone, in_bytes if is_lone else arrays)):
            kept.append(runs.of(by, [one], [0.001 * number], 1_700_000_000_000_000 + number, 1, inputs, outputs))
    entries = [events.encode(envelope.build(kept, "gw", 1, sent=0, dropped=0)) for kept in (lone, whole)]
    assert entries[0] == entries[1]
    assert events.decode(entries[0]).features.T.tolist() == [[n, n + 1, n + 2] for n in range(len(are_lone))]


def test_they_are_a_mapping_and_a_sequence_like_any() -> None:
    inputs = LoneInputs(SPECS[0], np.arange(3, dtype=np.float32).tobytes())
    assert [*inputs] == ["x"] and len(inputs) == 1 and inputs
    with pytest.raises(KeyError):
        inputs["y"]
    laid = KNOWN[0]
    outputs = LoneOutputs(bytes(laid.end), laid)
    assert [t.name for t in outputs] == [t.name for t in outputs[:]] == ["p", "label"]
    assert len(outputs) == 2 and outputs[1].datatype == "INT64"
