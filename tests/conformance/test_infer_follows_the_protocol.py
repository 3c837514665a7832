"""`POST .../infer`, V2: one table of well-formed requests and one of faulty ones, the same for both services."""

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conformance import oip
from tests.conformance.answers import check_error, check_infer
from tests.conformance.models import KINDS, Oracle
from tests.conformance.oip import HEADER, Given, Message
from tests.conformance.stack import VERSION, Target

NAN = float("nan")
ROWS: dict[str, tuple[str, list[Any]]] = {
    "distance": ("FP32", [1400.0, 187.0, 733.5]),
    "delay": ("FP32", [3.0, NAN, 40.0]),
    "carrier": ("BYTES", ["UA", "AA", "Ünbekannt"]),
}
OCTETS = {"content-type": "application/octet-stream"}


def column(name: str, form: str = "flat", rows: int = 3) -> Given:
    datatype, values = ROWS[name]
    dtype: Any = object if datatype == "BYTES" else oip.SIZES[datatype]
    return Given(name, datatype, np.array(values[:rows], dtype).reshape(-1, 1), form)


def flights(*forms: str, rows: int = 3) -> list[Given]:
    return [column(name, form, rows) for name, form in zip(ROWS, forms or ("flat",) * 3, strict=True)]


@dataclass(frozen=True)
class Good:
    """outputs: names and what is said of binary data for each; raw: outputs that must come as binary data."""

    forms: tuple[str, ...] = ("flat", "flat", "flat")
    outputs: tuple[tuple[str, bool | None], ...] | None = None
    binary_output: bool | None = None
    raw: tuple[str, ...] = ()
    rows: int = 3


GOOD = {
    "flat JSON": Good(),
    "nested JSON": Good(("nested",) * 3),
    "one row": Good(rows=1),
    "all inputs raw": Good(("raw",) * 3),
    "a raw input among JSON": Good(("nested", "raw", "flat")),
    "raw strings among JSON": Good(("flat", "flat", "raw")),
    "one output": Good(outputs=(("probabilities", None),)),
    "outputs in another order": Good(outputs=(("probabilities", None), ("label", None))),
    "all outputs raw": Good(binary_output=True, raw=("label", "probabilities")),
    "raw in, raw out": Good(("raw",) * 3, binary_output=True, raw=("label", "probabilities")),
    "raw in, JSON out": Good(("raw",) * 3, binary_output=False),
    "one output raw": Good(outputs=(("label", None), ("probabilities", True)), raw=("probabilities",)),
    "an output's own wish wins": Good(
        outputs=(("label", False), ("probabilities", None)), binary_output=True, raw=("probabilities",)
    ),
    "an output's own wish wins the other way": Good(
        outputs=(("label", True), ("probabilities", None)), binary_output=False, raw=("label",)
    ),
    "mixed both ways": Good(
        ("raw", "nested", "raw"), outputs=(("probabilities", True), ("label", False)), raw=("probabilities",)
    ),
}


@pytest.mark.parametrize("good", GOOD.values(), ids=GOOD)
def test_a_well_formed_request_gets_the_models_answer(target: Target, oracles: dict[str, Oracle], good: Good) -> None:
    inputs = flights(*good.forms, rows=good.rows)
    call = oip.request(inputs, outputs=good.outputs, binary_output=good.binary_output, id="42")
    expected = oracles["flights"]({given.name: given.array for given in inputs})
    if good.outputs is not None:
        expected = {name: expected[name] for name, _ in good.outputs}
    with target.client() as client:
        answer = client.post("/v2/models/flights/infer", content=call.body, headers=call.headers)
    read = check_infer(answer, expected, frozenset(good.raw))
    assert (read.head["model_name"], read.head["model_version"], read.head["id"]) == ("flights", VERSION, "42")


SAMPLES: dict[str, list[Any]] = {
    "BOOL": [True, False],
    "UINT8": [0, 255],
    "UINT16": [0, 2**16 - 1],
    "UINT32": [0, 2**32 - 1],
    "UINT64": [0, 2**64 - 1],
    "INT8": [-128, 127],
    "INT16": [-(2**15), 2**15 - 1],
    "INT32": [-(2**31), 2**31 - 1],
    "INT64": [-(2**63), 2**63 - 1],
    "FP16": [0.5, -65504.0],
    "FP32": [1e-38, 3.4e38],
    "FP64": [1e-300, 1.7e308],
    "BYTES": ["", "Ä\n\x00\U0001f600"],
}


def every_type(*raw: str) -> list[Given]:
    """The echo model's inputs at the ends of their ranges; those in raw, and FP16, as binary data."""
    given = []
    for datatype, values in SAMPLES.items():
        array: NDArray[Any] = np.array(values, object if datatype == "BYTES" else oip.SIZES[datatype]).reshape(2, 1)
        given.append(Given(datatype.lower(), datatype, array, "raw" if datatype in (*raw, "FP16") else "nested"))
    return given


@pytest.mark.parametrize("raw", [(), tuple(KINDS)], ids=["JSON", "binary"])
def test_every_datatype_survives_both_ways_at_the_ends_of_its_range(target: Target, raw: tuple[str, ...]) -> None:
    inputs = every_type(*raw)
    outputs = [(f"{given.name}_out", bool(raw) or given.datatype == "FP16") for given in inputs]
    call = oip.request(inputs, outputs=outputs)
    with target.client("echo") as client:
        answer = client.post("/v2/models/echo/infer", content=call.body, headers=call.headers)
    asked_raw = frozenset(name for name, binary in outputs if binary)
    check_infer(answer, {f"{given.name}_out": given.array for given in inputs}, asked_raw)


@pytest.mark.parametrize("binary_output", [None, False, True])
def test_half_floats_are_never_written_as_json(target: Target, binary_output: bool | None) -> None:
    call = oip.request(every_type(*KINDS), outputs=[("fp16_out", None)], binary_output=binary_output)
    with target.client("echo") as client:
        answer = client.post("/v2/models/echo/infer", content=call.body, headers=call.headers)
    if answer.status_code == 200:  # raw all the same, or a refusal that says why
        check_infer(answer, {"fp16_out": every_type()[9].array}, frozenset({"fp16_out"}))
    else:
        assert binary_output is not True
        check_error(answer, 400, "fp16_out")


@pytest.mark.parametrize("path", ["/v2/models/flights/infer", "/v2/models/flights/versions/{version}/infer"])
@pytest.mark.parametrize("id", ["42", "", "ä\U0001f600", "x" * 500])
def test_the_id_is_echoed(target: Target, path: str, id: str) -> None:
    call = oip.request(flights(), id=id)
    with target.client() as client:
        answer = client.post(path.format(version=target.version), content=call.body, headers=call.headers)
    assert answer.status_code == 200
    assert answer.json()["id"] == id


def test_without_an_id_the_answer_has_one_of_its_own(target: Target) -> None:
    call = oip.request(flights())
    with target.client() as client:
        ids = [client.post("/v2/models/flights/infer", content=call.body).json()["id"] for _ in range(3)]
    assert all(ids)
    assert len(set(ids)) == 3


@pytest.mark.parametrize(
    "parameters", [{"priority": 1, "timeout": 15_000_000, "sequence_id": "a", "x": True, "y": 1.5}, {}, None]
)
def test_parameters_nobody_knows_are_no_fault(target: Target, parameters: dict[str, Any] | None) -> None:
    said = json.loads(oip.request(flights()).body) | {"parameters": parameters}
    with target.client() as client:
        assert client.post("/v2/models/flights/infer", json=said).status_code == 200


def test_a_pure_raw_body_is_one_row_of_the_only_input(target: Target) -> None:
    row = np.array([[1.0, -2.0, 0.5, 1e6]], "<f4")
    with target.client("block") as client:
        answer = client.post("/v2/models/block/infer", content=row.tobytes(), headers=OCTETS | {HEADER: "0"})
    check_infer(answer, {"twice": row * 2}, frozenset({"twice"}))


Change = Callable[[dict[str, Any]], object]


def bad(change: Change) -> Callable[[], Message]:
    """A request of JSON tensors with something wrong in it."""

    def build() -> Message:
        head = json.loads(oip.request(flights()).body)
        change(head)
        return oip.message(head)

    return build


def bad_raw(change: Change, tail: Callable[[bytes], bytes] = lambda tail: tail) -> Callable[[], Message]:
    """A request of raw tensors with something wrong in its JSON part or behind it."""

    def build() -> Message:
        call = oip.request(flights("raw", "raw", "raw"))
        length = int(call.headers[HEADER])
        head = json.loads(call.body[:length])
        change(head)
        return oip.message(head, tail(call.body[length:]), binary=True)

    return build


def body(raw: bytes, **headers: str) -> Callable[[], Message]:
    return lambda: Message(raw, headers)


def tensor(which: str, /, **changes: Any) -> Change:
    def change(head: dict[str, Any]) -> None:
        next(t for t in head["inputs"] if t["name"] == which).update(changes)

    return change


def size_of(name: str, size: Any) -> Change:
    return tensor(name, parameters={"binary_data_size": size})


def nothing(_: dict[str, Any]) -> None:
    pass


FAULTS: dict[str, tuple[Callable[[], Message], tuple[str, ...]]] = {
    "empty body": (body(b""), ("empty",)),
    "not JSON": (body(b"{"), ("JSON",)),
    "a list": (body(b"[]"), ()),
    "a literal NaN": (body(oip.request(flights()).body.replace(b"187.0", b"NaN")), ("NaN",)),
    "not UTF-8": (body(oip.request(flights()).body.replace(b"UA", b"\xff\xfe")), ()),
    "no inputs": (bad(lambda head: head.pop("inputs")), ("inputs",)),
    "no input at all": (bad(lambda head: head.update(inputs=[])), ()),
    "a missing input": (bad(lambda head: head["inputs"].pop(1)), ("delay",)),
    "an unknown input": (bad(tensor("delay", name="dealy")), ("dealy", "delay")),
    "an input twice": (bad(lambda head: head["inputs"].append(head["inputs"][0])), ("distance",)),
    "an unknown output": (bad(lambda head: head.update(outputs=[{"name": "lable"}])), ("lable", "label")),
    "an output twice": (bad(lambda head: head.update(outputs=[{"name": "label"}] * 2)), ("label",)),
    "an id that is no string": (bad(lambda head: head.update(id=42)), ("id",)),
    "an unknown datatype": (bad(tensor("delay", datatype="FP33")), ("delay", "FP33")),
    "a datatype with no JSON form": (bad(tensor("delay", datatype="FP16")), ("delay", "FP16")),
    "a shape the model does not take": (bad(tensor("delay", shape=[3, 2], data=[1] * 6)), ("delay", "[3, 2]")),
    "a shape that needs more values": (bad(tensor("delay", shape=[4, 1])), ("delay", "4", "3")),
    "a negative dimension": (bad(tensor("delay", shape=[-1, 1])), ("delay", "-1")),
    "a shape beyond all bounds": (bad(tensor("delay", shape=[2**62, 2**62])), ("delay",)),
    "no rows": (bad(lambda head: [t.update(shape=[0, 1], data=[]) for t in head["inputs"]]), ()),
    "nesting that is not the shape's": (bad(tensor("delay", data=[[1], [2, 3]])), ("delay",)),
    "a string for a number": (bad(tensor("delay", data=[1, "x", 3])), ("delay", "x")),
    "a number for a string": (bad(tensor("carrier", data=["UA", 5, "AA"])), ("carrier", "5")),
    "a number that does not fit": (bad(tensor("delay", data=[1, 1e39, 3])), ("delay", "FP32")),
    "null where nothing may be missing": (bad(tensor("distance", data=[1, None, 3])), ("distance",)),
    "null for a string": (bad(tensor("carrier", data=["UA", None, "AA"])), ("carrier",)),
    "neither data nor a size": (bad(lambda head: head["inputs"][1].pop("data")), ("delay",)),
    "data and a size": (bad(size_of("delay", 12)), ("delay",)),
    "binary_data that is no truth": (
        bad(lambda head: head.update(outputs=[{"name": "label", "parameters": {"binary_data": "yes"}}])),
        ("binary_data",),
    ),
    "raw bytes without the header": (body(b"\0\0\0\0", **OCTETS), (HEADER,)),
    "a header longer than the body": (
        body(b"{}", **OCTETS, **{HEADER: "3"}),
        ("3", "2"),
    ),
    "a negative header": (body(b"{}", **OCTETS, **{HEADER: "-1"}), ("-1",)),
    "a header that is no number": (body(b"{}", **OCTETS, **{HEADER: "1e1"}), ("1e1",)),
    "a header beyond all bounds": (body(b"{}", **OCTETS, **{HEADER: "9" * 30}), ("999",)),
    "a size beyond the body": (bad_raw(size_of("carrier", 10**9)), ("carrier", "1000000000")),
    "a negative size": (bad_raw(size_of("delay", -12)), ("delay", "-12")),
    "a size that is no whole number": (bad_raw(size_of("delay", 12.0)), ("delay", "12.0")),
    "a size that does not multiply": (bad_raw(size_of("distance", 11)), ("distance", "11", "12")),
    "a size beyond 64 bits": (bad_raw(size_of("distance", 2**70)), ("distance",)),
    "bytes behind the last tensor": (bad_raw(nothing, lambda tail: tail + b"\0"), ("1 byte",)),
    "bytes that are missing": (bad_raw(nothing, lambda tail: tail[:-1]), ("carrier",)),
    "raw of another datatype": (bad_raw(tensor("delay", datatype="FP64")), ("delay", "FP64")),
    "a raw infinity": (bad_raw(nothing, lambda tail: struct.pack("<f", float("inf")) + tail[4:]), ("distance",)),
    "a raw NaN where nothing may be missing": (
        bad_raw(nothing, lambda tail: struct.pack("<f", NAN) + tail[4:]),
        ("distance",),
    ),
    "a string longer than its tensor": (
        bad_raw(nothing, lambda tail: tail[:24] + struct.pack("<I", 2**32 - 1) + tail[28:]),
        ("carrier",),
    ),
    "a string that is not UTF-8": (
        bad_raw(nothing, lambda tail: tail[:28] + b"\xff\xff" + tail[30:]),
        ("carrier", "UTF-8"),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_request_is_told_what_is_wrong_with_it(target: Target, fault: str) -> None:
    build, words = FAULTS[fault]
    call = build()
    with target.client() as client:
        answer = client.post("/v2/models/flights/infer", content=call.body, headers=call.headers)
    check_error(answer, 400, *(word for word in words if word != HEADER))
    assert HEADER not in words or HEADER in answer.json()["error"].lower()


@pytest.mark.parametrize(
    ("values", "datatype"),
    [
        ([2.0**63], "FP64"),  # one beyond INT64, and equal to its maximum once that is a float
        ([-1], "INT64"),
        ([2.5], "FP64"),
        ([300], "INT16"),
    ],
)
@pytest.mark.parametrize("form", ["flat", "raw"])
def test_a_number_is_never_bent_to_fit(target: Target, values: list[Any], datatype: str, form: str) -> None:
    """Another number type may be taken or refused, but the model never sees another number."""
    sent = "int64" if values[0] == 2.0**63 else "uint8"
    inputs = [given if given.name != sent else None for given in every_type(*KINDS)]
    one = [Given(g.name, g.datatype, g.array[:1], g.form) for g in inputs if g is not None]
    one.append(Given(sent, datatype, np.array(values, oip.SIZES[datatype]).reshape(1, 1), form))
    call = oip.request(one, outputs=[(f"{sent}_out", None)])
    with target.client("echo") as client:
        answer = client.post("/v2/models/echo/infer", content=call.body, headers=call.headers)
    check_error(answer, 400, sent)
