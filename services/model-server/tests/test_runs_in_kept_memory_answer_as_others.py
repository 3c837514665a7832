"""Few rows are run in memory that stays. Nobody may see it: not what a run before left there, nor what is not there."""

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from kingmaker_contracts import tensors
from kingmaker_contracts.inference import DTYPES, Tensor
from kingmaker_model_server import bound
from kingmaker_model_server.answers import Answer
from kingmaker_model_server.batching import answer_together

HEADER = b"inference-header-content-length"
KINDS = {"i": "INT64", "f": "FP32", "d": "FP64", "b": "BOOL"}
WIDTHS = {"i": 1, "f": 3, "d": 2, "b": 1}
Sent = tuple[dict[bytes, bytes], bytes]


class Client:
    def __init__(self) -> None:
        self.got: list[Answer] = []

    def answer(self, status: int, headers: tuple[tuple[bytes, bytes], ...], body: bytes) -> None:
        self.got.append(Answer(status, headers, body))


def in_one_round(core: Any, sent: list[Sent]) -> list[Answer]:
    clients = [Client() for _ in sent]
    jobs = [core.predictor.infer_job("m", None, headers.get, body) for headers, body in sent]
    answer_together(core.predictor, list(zip(jobs, clients, strict=True)))
    return [client.got[0] for client in clients]


def outputs_of(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200, answer.body
    length = dict(answer.headers).get(HEADER)
    found = tensors.decode_response(answer.body, int(length) if length else None).outputs
    return {tensor.name: tensor.array for tensor in found}


def frame(**arrays: Any) -> Sent:
    """A binary request, always with the same id: its text comes again."""
    kinds = {kind: name for name, kind in DTYPES.items()}
    given_ = [Tensor(name, kinds[array.dtype], array) for name, array in arrays.items()]
    body, length = tensors.encode_request(given_, id="frame")
    return {HEADER: b"%d" % length}, body


def as_json(**arrays: Any) -> Sent:
    kinds = {kind: name for name, kind in DTYPES.items()}
    inputs = [
        {"name": name, "shape": list(a.shape), "datatype": kinds[a.dtype], "data": a.ravel().tolist()}
        for name, a in arrays.items()
    ]
    return {}, json.dumps({"inputs": inputs}).encode()


@pytest.fixture(scope="module")
def echo(make: Any) -> Any:
    """Numbers of four types, each given back as <name>_out; truth values as INT64, for one byte is not bound."""
    types = {"i": TensorProto.INT64, "f": TensorProto.FLOAT, "d": TensorProto.DOUBLE, "b": TensorProto.BOOL}
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in "ifd"]
    nodes.append(helper.make_node("Cast", ["b"], ["b_out"], to=TensorProto.INT64))
    inputs = [make.value(name, kind, ["N", WIDTHS[name]]) for name, kind in types.items()]
    types["b"] = TensorProto.INT64
    outputs = [make.value(f"{name}_out", kind, ["N", WIDTHS[name]]) for name, kind in types.items()]
    core = make.Core(make.onnx_bytes(nodes, inputs, outputs))
    assert bound.runs_of(core.model) is not None
    return core


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_was_run_before_and_beside_each_gets_its_own_rows(echo: Any, data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    for _ in range(data.draw(st.integers(1, 4))):
        asked: list[dict[str, Any]] = []
        sent: list[Sent] = []
        for _ in range(data.draw(st.integers(1, 6))):
            rows = data.draw(st.sampled_from([1, 1, 2, 3, 28, 64, 65]))
            arrays = {
                name: (rng.random((rows, WIDTHS[name])) * 1000).astype(DTYPES[kind]) for name, kind in KINDS.items()
            }
            arrays["b"] = rng.random((rows, 1)) < 0.5
            asked.append(arrays)
            sent.append(data.draw(st.sampled_from([frame, as_json]))(**arrays))
        answers = in_one_round(echo, sent)
        for arrays, answer in zip(asked, answers, strict=True):
            found = outputs_of(answer)
            for name, array in arrays.items():
                assert np.array_equal(found[f"{name}_out"], array), name


@pytest.mark.parametrize("width", [1, 2, 3])
def test_an_input_given_back_as_it_is_is_not_taken_from_memory_it_never_reached(make: Any, width: int) -> None:
    wide = ["N", width]
    model = make.onnx_bytes(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        [make.value("x", TensorProto.FLOAT, wide)],
        [make.value("y", TensorProto.FLOAT, wide), make.value("x", TensorProto.FLOAT, wide)],
    )
    core = make.Core(model)
    assert bound.runs_of(core.model) is not None
    for start in (1, 5, 9):
        x = np.arange(start, start + width, dtype=np.float32).reshape(1, width)
        for sent in (frame(x=x), as_json(x=x)):
            for answer in (core.infer(sent[1], sent[0]), *in_one_round(core, [sent, sent])):
                found = outputs_of(answer)
                assert np.array_equal(found["x"], x)
                assert np.array_equal(found["y"], x + x)


def test_a_model_that_drops_rows_fails_for_those_alone(make: Any) -> None:
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [1], [0])
    nodes = [
        helper.make_node("GreaterOrEqual", ["x", "zero"], ["keep"]),
        helper.make_node("Compress", ["x", "keep"], ["y"], axis=0),
    ]
    column = ["N"]
    model = make.onnx_bytes(
        nodes, [make.value("x", TensorProto.FLOAT, column)], [make.value("y", TensorProto.FLOAT, column)], (zero,)
    )
    core = make.Core(model)
    assert bound.runs_of(core.model) is not None
    sent = [frame(x=np.array([number], np.float32)) for number in (1, -2, 3)]
    answers = in_one_round(core, sent)
    assert [answer.status for answer in answers] == [200, 500, 200]
    assert b"another number came out" in answers[1].body
    assert [outputs_of(answers[at])["y"].tolist() for at in (0, 2)] == [[1], [3]]
    assert outputs_of(core.infer(sent[2][1], sent[2][0]))["y"].tolist() == [3]


@pytest.mark.parametrize("write", [frame, as_json])
def test_an_infinity_is_refused_and_its_neighbours_are_answered(make: Any, write: Any) -> None:
    core = make.Core(make.sum_and_copy_model())
    good = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    bad = np.array([[1, 2, 3]], np.float64) * 1e39
    sent = [write(x=good), frame(x=np.array([[1, np.inf, 3]], np.float32)), as_json(x=bad), write(x=good)]
    first, raw, listed, last = in_one_round(core, sent)
    assert (raw.status, listed.status) == (400, 400)
    for answer in (first, last, core.infer(sent[0][1], sent[0][0])):
        assert outputs_of(answer)["total"].tolist() == [6, 15]
    assert core.infer(sent[1][1], sent[1][0]).status == 400


FORMS: list[dict[str, Any]] = [
    {},
    {"parameters": {"binary_data_output": True}},
    {"outputs": [{"name": "twice", "parameters": {"binary_data": True}}, {"name": "total"}]},
    {"outputs": [{"name": "twice"}, {"name": "total"}], "parameters": {"binary_data_output": True}},
]


@pytest.mark.parametrize("form", FORMS)
def test_a_request_alone_gets_to_the_byte_what_it_gets_beside_others(make: Any, form: dict[str, Any]) -> None:
    core = make.Core(make.sum_and_copy_model())
    for number, rows in enumerate((1, 2, 1, 1, 3, 2, 1)):
        x = (np.arange(rows * 3, dtype=np.float32) + number).reshape(rows, 3) / 7
        item = {"name": "x", "shape": [rows, 3], "datatype": "FP32", "data": x.ravel().tolist()}
        body = json.dumps({"id": "i" * number, "inputs": [item], **form}).encode()
        raw = {**item, "parameters": {"binary_data_size": x.nbytes}}
        del raw["data"]
        text = json.dumps({"id": "frame", "inputs": [raw], **form}).encode()
        for sent in (({}, body), ({HEADER: b"%d" % len(text)}, text + x.tobytes())):
            alone = core.infer(sent[1], sent[0])
            beside, _ = in_one_round(core, [sent, sent])
            assert (alone.status, alone.headers, alone.body) == (200, beside.headers, beside.body)
            assert np.array_equal(outputs_of(alone)["twice"], x + x)


def test_rows_of_other_platforms_alone_are_answered_from_their_own_run(make: Any) -> None:
    core = make.Core(make.sum_and_copy_model())
    for number in (1, 2, 3):
        row = [number, 0, 0]
        assert core.predict([row]) == (200, [{"total": number, "twice": [2 * number, 0, 0]}])
        assert core.invoke({"instances": [row]}, accept="text/csv") == (200, f"{number}.0,{2 * number}.0,0.0,0.0\n")
        assert core.invoke({"inputs": {"x": [row]}}) == (200, {"total": [number], "twice": [[2 * number, 0, 0]]})


@pytest.mark.parametrize("rows", [1, 3, 64])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_only_what_is_no_number_is_refused_wherever_it_stands(make: Any, kind: Any, rows: int) -> None:
    wire = TensorProto.FLOAT if kind is np.float32 else TensorProto.DOUBLE
    core = make.Core(make.one_column_model(wire, ("N", 17)))
    assert bound.runs_of(core.model) is not None
    most = np.finfo(kind)
    for at in (0, 1, rows * 17 // 2, rows * 17 - 1):
        for value in (most.max, most.min, most.tiny, -0.0, np.nan):
            x = np.ones((rows, 17), kind)
            x.flat[at] = value
            headers, body = frame(x=x)
            assert np.array_equal(outputs_of(core.infer(body, headers))["y"], x, equal_nan=True)
        for value in (np.inf, -np.inf):
            x.flat[at] = value
            headers, body = frame(x=x)
            assert core.infer(body, headers).status == 400


def test_a_frame_too_large_to_be_cut_by_its_layout_is_answered_each_time(make: Any) -> None:
    core = make.Core(make.one_column_model(shape=("N", 3000)))
    for number in range(4):
        x = np.full((40, 3000), number, np.float32)
        headers, body = frame(x=x)
        assert np.array_equal(outputs_of(core.infer(body, headers))["y"], x)


def test_a_missing_number_the_model_may_miss_is_run(make: Any) -> None:
    core = make.Core(make.sum_and_copy_model())
    x = np.array([[1, np.nan, 3]], np.float32)
    headers, body = frame(x=x)
    assert np.array_equal(outputs_of(core.infer(body, headers))["twice"], x + x, equal_nan=True)


def test_what_would_take_too_much_memory_is_run_from_arrays(make: Any) -> None:
    core = make.Core(make.one_column_model(shape=("N", 20_000)))
    assert bound.runs_of(core.model) is None
    x = np.random.default_rng(0).random((3, 20_000)).astype(np.float32)
    headers, body = frame(x=x)
    assert np.array_equal(outputs_of(core.infer(body, headers))["y"], x)


def test_one_output_of_several_is_computed_alone(make: Any) -> None:
    core = make.Core(make.sum_and_copy_model())
    body = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}
    asked = json.dumps(body | {"outputs": [{"name": "total"}]}).encode()
    for _ in range(3):
        assert {n: a.tolist() for n, a in outputs_of(core.infer(asked)).items()} == {"total": [6]}
        assert outputs_of(core.infer(json.dumps(body).encode())).keys() == {"total", "twice"}


def test_outputs_asked_for_in_another_order_keep_their_own_shapes_beside_neighbours(make: Any) -> None:
    """Rows of a length of their own, so that only the answer says which output is how wide."""
    names = ("a", "b")
    model = make.onnx_bytes(
        [helper.make_node("Identity", [name], [f"{name}_out"]) for name in names],
        [make.value(name, TensorProto.FLOAT, ["N", name]) for name in names],
        [make.value(f"{name}_out", TensorProto.FLOAT, ["N", f"{name}_width"]) for name in names],
    )
    core = make.Core(model)

    def asking(a: int, b: int, outputs: tuple[str, ...]) -> Sent:
        given_ = [Tensor(name, "FP32", np.ones((1, width), np.float32)) for name, width in (("a", a), ("b", b))]
        body, length = tensors.encode_request(given_, id="frame")
        head = json.loads(body[:length])
        if outputs:
            head["outputs"] = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
        text = json.dumps(head).encode()
        return {HEADER: b"%d" % len(text)}, text + body[length:]

    turned = ("b_out", "a_out")
    [alone] = in_one_round(core, [asking(2, 3, turned)])
    beside, _ = in_one_round(core, [asking(3, 2, turned), asking(3, 2, ())])
    assert {name: array.shape for name, array in outputs_of(alone).items()} == {"a_out": (1, 2), "b_out": (1, 3)}
    assert {name: array.shape for name, array in outputs_of(beside).items()} == {"a_out": (1, 3), "b_out": (1, 2)}


@pytest.mark.parametrize("way", ["V2", "V2 beside another", "V2 partly raw", "V1"])
def test_answers_are_not_kept_for_each_number_of_rows(make: Any, way: str) -> None:
    width = 1000
    weights = helper.make_tensor("w", TensorProto.FLOAT, [1, width], np.arange(width) / 7)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Add", ["x", "x"], ["z"])]
    outputs = [make.value("y", TensorProto.FLOAT, ["N", width]), make.value("z", TensorProto.FLOAT, ["N", 1])]
    core = make.Core(make.onnx_bytes(nodes, [make.value("x", TensorProto.FLOAT, ["N", 1])], outputs, (weights,)))
    assert bound.runs_of(core.model) is not None
    wanted = [{"name": "y"}, {"name": "z", "parameters": {"binary_data": True}}]

    def ask(rows: int) -> int:
        """Bytes of the answer."""
        values = [number / 3 for number in range(rows)]
        if way == "V1":
            return len(json.dumps(core.predict([[value] for value in values])))
        item = {"name": "x", "shape": [rows, 1], "datatype": "FP32", "data": values}
        form = {"outputs": wanted} if way == "V2 partly raw" else {}
        sent: Sent = {}, json.dumps({"inputs": [item], **form}).encode()
        if way == "V2 beside another":
            return sum([len(answer.body) for answer in in_one_round(core, [sent, sent])])
        return len(core.infer(sent[1], sent[0]).body)

    ask(1), ask(2)
    tracemalloc.start()
    try:
        answered = sum([ask(rows) for rows in range(1, 32)])
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < answered / 5
