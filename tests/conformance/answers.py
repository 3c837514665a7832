"""What every answer must be, whichever service gave it."""

from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from tests.conformance import oip

Arrays = dict[str, NDArray[Any]]


def same(found: NDArray[Any], expected: NDArray[Any]) -> bool:
    """Equal; floats within 1e-6, because batches of other sizes may differ in the last digits."""
    if found.shape != expected.shape:
        return False
    if expected.dtype.kind == "f":
        return bool(np.allclose(found.astype(float), expected.astype(float), rtol=1e-6, atol=1e-6, equal_nan=True))
    return bool((found == expected).all())


def check_infer(answer: httpx.Response, expected: Arrays, raw: frozenset[str] = frozenset()) -> oip.Read:
    """A 200 that holds exactly `expected`, in that order, with the outputs of `raw` as binary data."""
    assert answer.status_code == 200, answer.text
    assert int(answer.headers["content-length"]) == len(answer.content)
    length = answer.headers.get(oip.HEADER)
    assert (length is not None) == bool(raw)
    assert answer.headers["content-type"] == ("application/octet-stream" if raw else "application/json")
    read = oip.read(answer.content, length, "outputs")
    assert list(read.tensors) == list(expected)
    assert read.raw == raw
    for name, array in expected.items():
        assert same(read.tensors[name], array), f"{name}: {read.tensors[name]} is not {array}"
    return read


def check_error(answer: httpx.Response, status: int, *words: str) -> None:
    """An error in the one form errors have, whose text says what it is about."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"error", "code"}
    assert body["error"]
    assert body["code"]
    for word in words:
        assert word in body["error"], body["error"]
