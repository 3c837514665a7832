"""OIP V2 bodies are read strictly: whatever is wrong names the tensor, what was found and what was expected."""

import contextlib
import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kingmaker_contracts import tensors
from kingmaker_contracts.inference import DTYPES, BadTensor, InferResponse, Tensor


def body(*inputs: dict[str, Any], **rest: Any) -> bytes:
    return json.dumps({"inputs": list(inputs), **rest}).encode()


def one(data: Any, shape: list[int] | None = None, datatype: str = "FP32", **more: Any) -> bytes:
    return body({"name": "x", "shape": shape if shape is not None else [len(data)], "datatype": datatype, "data": data})


BAD: list[tuple[bytes, str]] = [
    (b"", "the body is empty, expected JSON"),
    (b"hello", "the body is not JSON"),
    (b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[NaN]}]}', "send null for a missing value"),
    (b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[-Infinity]}]}', "send null for a missing value"),
    (b"[]", "Expected `object`, got `array`"),
    (b"{}", "missing required field `inputs`"),
    (body({"name": "x", "shape": [1], "datatype": "FP32"}), "input 'x' has neither data nor binary_data_size"),
    (one([1, "far"]), "'x': element 1 is the string \"far\", expected a number (FP32)"),
    (one([True]), "'x': element 0 is the boolean true, expected a number (FP32)"),
    (one([{}]), "'x': element 0 is an object, expected a number (FP32)"),
    (one([1.5], datatype="INT64"), "'x': 1.5 is no whole number, INT64 was expected"),
    (one([None], datatype="INT64"), "'x': element 0 is null, expected a number (INT64)"),
    (one([300], datatype="UINT8"), "'x': a value does not fit into UINT8"),
    (one([1e39]), "'x': a value does not fit into FP32"),
    (one([10**400]), "x"),
    (one([1], datatype="BOOL"), "'x': element 0 is 1, expected true or false (BOOL)"),
    (one([1], datatype="BYTES"), "'x': element 0 is 1, expected a string (BYTES)"),
    (one([1], datatype="FP16"), "input 'x': FP16 has no JSON form, send it as binary data"),
    (one([1], datatype="FLOAT"), "'x': unknown datatype 'FLOAT', expected one of BOOL"),
    (one([1, 2], [3]), "'x': shape [3] needs 3 values, data has 2"),
    (one([1], [-1]), "'x': shape [-1] has a negative dimension"),
    (one([], [0, 10**18]), "is beyond 8 dimensions or 2147483647 elements"),
    (one([], [0, 10**9, 10**9, 10**9]), "is beyond 8 dimensions or 2147483647 elements"),
    (one([1], [1] * 70), "is beyond 8 dimensions or 2147483647 elements"),
    (one([[1, 2], [3]], [2, 2]), "'x': data is not nested as shape [2, 2] says, found 1 values where 2 were expected"),
    (one([[1, 2], 3], [2, 2]), "'x': data is not nested as shape [2, 2] says, found 3 where 2 were expected"),
    (one([[1], [2], [3]], [2, 1]), "'x': data has 3 rows, shape [2, 1] says 2"),
    (one([[1]], []), "'x': data has 1 rows, shape [] says a scalar"),
    (body(*[{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}] * 2), "input 'x' stands twice"),
    (body(parameters={"binary_data_output": 1}), "binary_data_output of the request is 1, expected true or false"),
]


@pytest.mark.parametrize(("raw", "words"), BAD)
def test_a_bad_json_body_is_refused_in_words(raw: bytes, words: str) -> None:
    with pytest.raises(BadTensor) as caught:
        tensors.decode_request(raw)
    assert words in str(caught.value)


def binary(size: Any, tail: bytes, shape: list[int], datatype: str = "FP32") -> tuple[bytes, int]:
    head = body({"name": "x", "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": size}})
    return head + tail, len(head)


BAD_BINARY: list[tuple[tuple[bytes, int], str]] = [
    (binary(4, b"\0" * 4, [2]), "'x': shape [2] of FP32 needs 8 bytes, binary_data_size is 4"),
    (binary(8, b"\0" * 4, [2]), "input 'x': binary_data_size is 8, but 4 bytes are left in the body"),
    (binary(4, b"\0" * 8, [1]), "the body has 4 bytes behind the last tensor"),
    (binary(-4, b"\0" * 4, [1]), "input 'x': binary_data_size is -4, expected a number of bytes"),
    (binary("4", b"\0" * 4, [1]), "input 'x': binary_data_size is '4', expected a number of bytes"),
    (binary(4, struct.pack("<f", float("inf")), [1]), "'x': holds an infinity"),
    (binary(1, b"\2", [1], "BOOL"), "'x': a BOOL byte is 2, expected 0 or 1"),
    (binary(3, b"\0" * 3, [1], "BYTES"), "'x': 3 bytes are left where a 4-byte length was expected"),
    (binary(5, struct.pack("<I", 9) + b"a", [1], "BYTES"), "'x': a string of 9 bytes reaches beyond"),
    (binary(5, struct.pack("<I", 1) + b"\xff", [1], "BYTES"), "'x': string 0 is not UTF-8"),
    (binary(8, b"\0" * 8, [1], "BYTES"), "'x': 1 strings expected, found more"),
    (binary(4, b"\0" * 4, [2], "BYTES"), "'x': 2 strings expected, found 1"),
    ((b"{}", 99), "Inference-Header-Content-Length is 99, but the body has 2 bytes"),
    ((b"{}", -1), "Inference-Header-Content-Length is -1"),
]


@pytest.mark.parametrize(("message", "words"), BAD_BINARY)
def test_a_bad_binary_body_is_refused_in_words(message: tuple[bytes, int], words: str) -> None:
    with pytest.raises(BadTensor) as caught:
        tensors.decode_request(*message)
    assert words in str(caught.value)


def test_null_is_a_missing_number_and_a_missing_string() -> None:
    request = tensors.decode_request(
        body(
            {"name": "a", "shape": [2, 1], "datatype": "FP32", "data": [[1], [None]]},
            {"name": "b", "shape": [2], "datatype": "BYTES", "data": ["x", None]},
        )
    )
    assert request.inputs[0].array.tolist()[0] == [1.0] and np.isnan(request.inputs[0].array[1, 0])
    assert request.inputs[1].array.tolist() == ["x", None]


def test_an_output_says_for_itself_whether_it_goes_out_raw() -> None:
    outputs = [{"name": "a", "parameters": {"binary_data": False}}, {"name": "b"}]
    request = tensors.decode_request(body(outputs=outputs, parameters={"binary_data_output": True}))
    assert [request.wants_binary(name) for name in "ab"] == [False, True]


def test_parameters_that_are_null_are_none() -> None:
    """As clients write them whose languages have no absent fields."""
    tensor = {"name": "a", "shape": [1], "datatype": "FP32", "data": [1], "parameters": None}
    said = {"outputs": [{"name": "a", "parameters": None}], "parameters": None, "id": None}
    request = tensors.decode_request(body(tensor, **said))
    assert request.parameters == {}
    assert not request.wants_binary("a")
    answer = json.dumps({"outputs": [tensor], "parameters": None}).encode()
    assert tensors.decode_response(answer).parameters == {}


@st.composite
def any_tensor(draw: st.DrawFn) -> Tensor:
    datatype = draw(st.sampled_from(sorted(DTYPES)))
    shape = draw(st.lists(st.integers(0, 4), min_size=1, max_size=3))
    count = int(np.prod(shape))
    if datatype == "BYTES":
        values = draw(st.lists(st.text(max_size=8), min_size=count, max_size=count))
        array = np.empty(count, object)
        array[:] = values
        return Tensor("t", datatype, array.reshape(shape))
    dtype = DTYPES[datatype]
    raw = draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize))
    array = np.frombuffer(raw, dtype)
    if datatype == "BOOL":
        array = np.frombuffer(bytes(b & 1 for b in raw), dtype)
    if dtype.kind == "f":
        array = np.where(np.isfinite(array), array, dtype.type(0))
    return Tensor("t", datatype, array.reshape(shape))


@given(any_tensor(), st.booleans())
def test_any_tensor_survives_the_wire_bit_for_bit(tensor: Tensor, raw: bool) -> None:
    if tensor.datatype == "FP16" and not raw:
        return
    message = tensors.encode_response(InferResponse("m", [tensor]), frozenset({"t"}) if raw else frozenset())
    back = tensors.decode_response(*message).outputs[0]
    assert back.shape == tensor.shape
    assert back.array.tolist() == tensor.array.tolist()


@given(st.binary(max_size=200), st.none() | st.integers(-5, 250))
def test_no_bytes_make_the_reader_fail_in_another_way(raw: bytes, header_length: int | None) -> None:
    with contextlib.suppress(BadTensor):
        tensors.decode_request(raw, header_length)
