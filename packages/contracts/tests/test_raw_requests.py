"""A body without a JSON part is the one tensor the model's own signature describes."""

import numpy as np
import pytest

from kingmaker_contracts import tensors
from kingmaker_contracts.inference import BadTensor, TensorSpec

SIX = np.arange(6, dtype="<f4").tobytes()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ([-1, 3], (2, 3)),
        ([2, 3], (2, 3)),
        ([-1], (6,)),
        ([3, -1], (3, 2)),
        ([-1, -1], (1, 6)),
        ([-1, 2, -1], (1, 2, 3)),
    ],
)
def test_the_shape_follows_from_the_models_and_the_size(shape: list[int], expected: tuple[int, ...]) -> None:
    request = tensors.decode_raw_request(SIX, [TensorSpec("x", "FP32", shape)])
    [tensor] = request.inputs
    assert (tensor.name, tensor.datatype, tensor.shape) == ("x", "FP32", expected)
    assert tensor.array.ravel().tolist() == [0, 1, 2, 3, 4, 5]
    assert request.outputs is None
    assert request.wants_binary("anything")


def test_a_string_is_the_whole_body() -> None:
    [tensor] = tensors.decode_raw_request("grün".encode(), [TensorSpec("s", "BYTES", [-1, 1])]).inputs
    assert tensor.array.tolist() == [["grün"]]


@pytest.mark.parametrize(
    ("body", "specs", "words"),
    [
        (SIX, [TensorSpec("x", "FP32", [-1]), TensorSpec("y", "FP32", [-1])], "a model with one input, this one has 2"),
        (SIX[:-1], [TensorSpec("x", "FP32", [-1, 3])], "'x': a body of 23 bytes"),
        (SIX[:-4], [TensorSpec("x", "FP32", [-1, 3])], "'x': a body of 20 bytes"),
        (SIX, [TensorSpec("x", "FP32", [2, 2])], "'x': shape [2, 2] of FP32 needs 16 bytes"),
        (SIX, [TensorSpec("x", "FP32", [-1, -1, -1])], "does not tell the shape"),
        (SIX, [TensorSpec("x", "FP32", [2, -1, -1])], "does not tell the shape"),
        (SIX, [TensorSpec("x", "FP32", [0, -1])], "does not tell the shape"),
        (np.array([np.inf], "<f4").tobytes(), [TensorSpec("x", "FP32", [-1])], "infinity"),
        (b"\xff", [TensorSpec("s", "BYTES", [-1])], "not UTF-8"),
    ],
)
def test_a_body_that_does_not_fit_is_refused_in_words(body: bytes, specs: list[TensorSpec], words: str) -> None:
    with pytest.raises(BadTensor) as caught:
        tensors.decode_raw_request(body, specs)
    assert words in str(caught.value)
