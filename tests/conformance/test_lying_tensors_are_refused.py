"""Binary tensors whose lengths, shapes, datatypes or bytes lie: refused, or, where no lie is left, answered rightly."""

import copy
import json
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conformance import oip
from tests.conformance.answers import check_error, check_infer
from tests.conformance.models import KINDS, Oracle
from tests.conformance.neighbour import Neighbour
from tests.conformance.oip import HEADER, Given
from tests.conformance.stack import Target

FAST = settings(max_examples=400, suppress_health_check=list(HealthCheck))
LONG = settings(max_examples=4000, suppress_health_check=list(HealthCheck))

numbers = st.integers(-5, 60) | st.integers(-(2**65), 2**65)
anything: st.SearchStrategy[Any] = (
    numbers | st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=3) | st.just([]) | st.just({})
)
places = st.integers(0, 2)


@dataclass
class Sent:
    """A request on its way: head and tail may have been lied about; length: the header's text."""

    head: dict[str, Any]
    tail: bytes
    length: str | None = None
    lies: list[str] = field(default_factory=list)

    def message(self) -> tuple[bytes, dict[str, str]]:
        start = json.dumps(self.head).encode()
        length = str(len(start)) if self.length is None else self.length
        return start + self.tail, {"content-type": "application/octet-stream", HEADER: length}


@st.composite
def honest(draw: st.DrawFn) -> Sent:
    rows = draw(st.integers(1, 4))
    floats = st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-1e4, max_value=1e4)
    columns: list[tuple[str, str, Any]] = [
        ("distance", "FP32", floats),
        ("delay", "FP32", floats | st.just(float("nan"))),
        ("carrier", "BYTES", st.sampled_from(["UA", "AA", "DL", "", "Ä"])),
    ]
    inputs = []
    for name, datatype, values in columns:
        drawn = draw(st.lists(values, min_size=rows, max_size=rows))
        array = np.array(drawn, object if datatype == "BYTES" else "<f4").reshape(rows, 1)
        inputs.append(Given(name, datatype, array, draw(st.sampled_from(["raw", "raw", "flat", "nested"]))))
    call = oip.request(inputs, binary_output=draw(st.booleans()))
    length = int(call.headers.get(HEADER, len(call.body)))
    return Sent(json.loads(call.body[:length]), call.body[length:])


def _header(sent: Sent, draw: st.DrawFn) -> None:
    right = len(json.dumps(sent.head).encode())
    sent.length = draw(
        st.integers(-3, 3).map(lambda off: str(right + off))
        | numbers.map(str)
        | st.sampled_from([str(right + len(sent.tail) + 1), "1e2", "0x7", "\uff19", "+9", "9" * 40])
    )


def _size(sent: Sent, draw: st.DrawFn) -> None:
    tensor = sent.head["inputs"][draw(places)]
    tensor["parameters"] = {"binary_data_size": draw(anything)}


def _two_sizes(sent: Sent, draw: st.DrawFn) -> None:
    """Bytes moved from one raw tensor to another, so that the sum is right."""
    raw = [tensor for tensor in sent.head["inputs"] if "parameters" in tensor]
    if len(raw) > 1:
        moved = draw(st.integers(-8, 8))
        for tensor, more in zip(raw, (moved, -moved), strict=False):
            size = tensor["parameters"]["binary_data_size"]
            tensor["parameters"]["binary_data_size"] = size + more if type(size) is int else size


def _shape(sent: Sent, draw: st.DrawFn) -> None:
    sent.head["inputs"][draw(places)]["shape"] = draw(st.lists(numbers, max_size=4) | anything)


def _datatype(sent: Sent, draw: st.DrawFn) -> None:
    sent.head["inputs"][draw(places)]["datatype"] = draw(st.sampled_from([*KINDS, "BF16", ""]) | anything)


def _tail(sent: Sent, draw: st.DrawFn) -> None:
    at = draw(st.integers(0, len(sent.tail)))
    sent.tail = sent.tail[:at] + draw(st.binary(max_size=6)) + sent.tail[at + draw(st.integers(0, 6)) :]


def _data(sent: Sent, draw: st.DrawFn) -> None:
    data = sent.head["inputs"][draw(places)].get("data")
    if data:
        data[draw(st.integers(0, len(data) - 1))] = draw(anything | st.sampled_from([1e39, 2**70, -0.0, "x"]))


def _leave_out(sent: Sent, draw: st.DrawFn) -> None:
    tensor = sent.head["inputs"][draw(places)]
    tensor.pop(draw(st.sampled_from(sorted(tensor))), None)


LIES = {lie.__name__: lie for lie in (_header, _size, _two_sizes, _shape, _datatype, _tail, _data, _leave_out)}


@st.composite
def lied_about(draw: st.DrawFn) -> Sent:
    sent = copy.deepcopy(draw(honest()))
    sent.lies = draw(st.lists(st.sampled_from(sorted(LIES)), max_size=2))
    for lie in sent.lies:
        if len(sent.head["inputs"][0]) > 2:
            LIES[lie](sent, draw)
    return sent


def meant_by(body: bytes, length: str) -> dict[str, Any]:
    """The arrays a request holds when read by the letter. Raises NotOip, KeyError."""
    read = oip.read(body, length, "inputs").tensors
    return {
        name: read[name].reshape(-1, 1).astype(object if name == "carrier" else np.float32)
        for name in ("distance", "delay", "carrier")
    }


def judge(client: httpx.Client, sent: Sent, oracle: Oracle) -> None:
    body, headers = sent.message()
    try:
        raw_headers = [(name.encode(), text.encode()) for name, text in headers.items()]
        answer = client.post("/v2/models/flights/infer", content=body, headers=raw_headers)
    except httpx.RemoteProtocolError as error:
        raise AssertionError(f"no answer: {error}") from error
    if answer.status_code != 200 and sent.lies:
        check_error(answer, 400)
        return
    expected = oracle(meant_by(body, headers[HEADER]))  # a lie that is answered must be none
    wants_raw = sent.head["parameters"]["binary_data_output"]
    check_infer(answer, expected, frozenset(expected) if wants_raw else frozenset())


def fuzz(target: Target, oracle: Oracle, profile: settings) -> None:
    with target.client() as client, Neighbour(target, oracle) as neighbour:

        @profile
        @given(sent=lied_about())
        def send(sent: Sent) -> None:
            judge(client, sent, oracle)

        send()
    assert neighbour.answered > 10


def test_lies_are_refused_and_the_rest_is_answered(target: Target, oracles: dict[str, Oracle]) -> None:
    fuzz(target, oracles["flights"], FAST)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_lies_are_refused_and_the_rest_is_answered(target: Target, oracles: dict[str, Oracle]) -> None:
    fuzz(target, oracles["flights"], LONG)
