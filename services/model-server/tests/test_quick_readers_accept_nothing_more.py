"""The quick readers and the prepared answers change the cost of a request and nothing else."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kingmaker_contracts import json_tensors, tensors
from kingmaker_contracts.inference import BadTensor, InferResponse, Tensor, TensorSpec
from kingmaker_contracts.problems import Problem
from kingmaker_model_server.answers import InferWriter, Output, Outputs, id_text
from kingmaker_model_server.job import Job

FLIGHTS = {"distance": "FP32", "delay": "FP32", "carrier": "BYTES"}
odd: st.SearchStrategy[Any] = st.sampled_from(
    [1, 2.5, -0.0, 1e39, 2**24 + 1, 2**70, None, True, "UA", "", [1], [[1]], {}, 10**30]
)
numbers = st.integers(-3, 3) | st.floats(allow_nan=False, allow_infinity=False)
quick = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def infer_bodies(draw: Any) -> bytes:
    """V2 JSON bodies near a good one, keys in any order."""
    inputs = []
    for name, datatype in draw(st.permutations(list(FLIGHTS.items()))):
        rows = draw(st.sampled_from([2, 2, 2, 2, 1, 0]))
        values = st.sampled_from(["UA", "AA"]) if datatype == "BYTES" else numbers
        item: dict[str, Any] = {
            "name": draw(st.sampled_from([name] * 20 + ["speed", "delay"])),
            "shape": draw(st.sampled_from([[rows, 1]] * 12 + [[rows], [rows, 1, 1], [-1, 1], []])),
            "datatype": draw(st.sampled_from([datatype] * 12 + ["INT64", "BYTES", "FP64"])),
            "data": draw(st.lists(values, min_size=rows, max_size=rows)),
        }
        if draw(st.integers(0, 5)) == 0:
            item["data"] = draw(st.lists(odd, max_size=2))
        if draw(st.integers(0, 9)) == 0:
            item["parameters"] = draw(st.sampled_from([{}, {"a": 1}, {"binary_data_size": None}, None]))
        inputs.append(dict(draw(st.permutations(list(item.items())))))
    top: dict[str, Any] = {"id": "1", "inputs": inputs}
    if draw(st.booleans()):
        flag = st.sampled_from([True, False, None, 1])
        top["outputs"] = draw(
            st.sampled_from([[], None, [{"name": "label"}], [{"name": "x"}], [{"name": "label"}] * 2])
        )
        top["parameters"] = draw(st.fixed_dictionaries({"binary_data_output": flag}) | st.none())
    return json.dumps(top).encode()


rows = st.lists(
    st.fixed_dictionaries(
        {"distance": numbers | odd, "delay": numbers | odd, "carrier": st.sampled_from(["UA", "AA"]) | odd},
        optional={"speed": odd},
    )
    | st.fixed_dictionaries({"distance": numbers}, optional={"delay": numbers | st.none(), "carrier": st.none()}),
    max_size=3,
)


def assert_read_alike(core: Any, job: Job) -> None:
    """What was read the quick way is what the strict reader reads, or refuses for its values alone."""
    if job.unchecked is None:
        return
    try:
        strict = job.strictly()
    except (Problem, BadTensor):
        assert not core.is_sound(job)
        return
    assert core.is_sound(job)
    assert (strict.rows, strict.kind, strict.request_id) == (job.rows, job.kind, job.request_id)
    assert strict.writer is job.writer
    for one, other in zip(core.joined([job]), core.joined([strict]), strict=True):
        assert one.dtype == other.dtype
        assert np.array_equal(one, other, equal_nan=one.dtype != object)


@quick
@given(body=infer_bodies())
def test_an_infer_body_read_quickly_is_read_alike_strictly(core: Any, body: bytes) -> None:
    core.infer(GOOD)  # the first request of a kind goes the strict way
    job = core.predictor.infer_job("m", None, {}.get, body)
    if isinstance(job, Job):
        assert_read_alike(core, job)


@quick
@given(instances=rows)
def test_rows_read_quickly_are_read_alike_strictly(core: Any, instances: Any) -> None:
    job = core.predictor.predict_job("m", json.dumps({"instances": instances}).encode())
    if isinstance(job, Job):
        assert_read_alike(core, job)


@quick
@given(instances=st.lists(st.lists(numbers | odd, min_size=2, max_size=4), max_size=3))
def test_vectors_read_quickly_are_read_alike_strictly(make: Any, instances: Any) -> None:
    core = block(make)
    job = core.predictor.predict_job("m", json.dumps({"instances": instances}).encode())
    if isinstance(job, Job):
        assert_read_alike(core, job)


@quick
@given(
    instances=rows, beside=st.dictionaries(st.sampled_from(["parameters", "params", "inputs", "x"]), odd, max_size=1)
)
def test_an_invocations_body_read_quickly_is_read_alike_strictly(core: Any, instances: Any, beside: Any) -> None:
    job = core.predictor.invoke_job({}.get, json.dumps(beside | {"instances": instances}).encode())
    if isinstance(job, Job):
        assert_read_alike(core, job)


CORES: dict[str, Any] = {}


def block(make: Any) -> Any:
    if "block" not in CORES:
        CORES["block"] = make.Core(make.sum_and_copy_model())
    return CORES["block"]


def wire(rows: int = 2) -> list[dict[str, Any]]:
    values: dict[str, Any] = {"distance": [1400.5] * rows, "delay": [3] * rows, "carrier": ["UA"] * rows}
    return [{"name": n, "shape": [rows, 1], "datatype": k, "data": values[n]} for n, k in FLIGHTS.items()]


GOOD = json.dumps({"id": "1", "inputs": wire()}).encode()
FRAME, FRAME_HEAD = tensors.encode_request(
    [json_tensors.from_values(t["name"], t["datatype"], t["shape"], t["data"]) for t in wire(32)], id="7"
)


@pytest.mark.parametrize(
    ("call", "body", "length"),
    [
        ("infer", GOOD, None),
        ("infer", json.dumps({"id": "7", "inputs": wire(), "outputs": [{"name": "label"}]}).encode(), None),
        ("infer", FRAME, FRAME_HEAD),
        ("predict", b'{"instances": [{"distance": 1, "delay": 2, "carrier": "UA"}]}', None),
        ("predict", b'{"instances": [{"distance": 1, "delay": null}]}', None),
        ("invoke", b'{"instances": [{"distance": 1, "delay": 2, "carrier": "UA"}]}', None),
    ],
)
def test_usual_requests_are_read_the_quick_way(core: Any, call: str, body: bytes, length: int | None) -> None:
    headers = {} if length is None else {b"inference-header-content-length": b"%d" % length}
    for _ in range(2):
        if call == "infer":
            job = core.predictor.infer_job("m", None, headers.get, body)
        elif call == "invoke":
            job = core.predictor.invoke_job(headers.get, body)
        else:
            job = core.predictor.predict_job("m", body)
    assert job.unchecked is not None
    assert_read_alike(core, job)


@given(cut=st.integers(0, len(FRAME)), noise=st.binary(max_size=6), length=st.integers(0, len(FRAME) + 9))
@quick
def test_a_damaged_frame_read_quickly_is_read_alike_strictly(core: Any, cut: int, noise: bytes, length: int) -> None:
    body = FRAME[:cut] + noise + FRAME[cut + len(noise) :]
    for told in (length, FRAME_HEAD):
        job = core.predictor.infer_job("m", None, {b"inference-header-content-length": b"%d" % told}.get, body)
        if isinstance(job, Job):
            assert_read_alike(core, job)


OUTPUTS = {
    "label": ("INT64", np.array([1, -2, 3])),
    "score": ("FP32", np.array([[0.1, np.nan], [1e-9, 2], [3, 4]], "<f4")),
    "word": ("BYTES", np.array(["a", 'ü"', b"b"], dtype=object)),
    "cube": ("FP64", np.arange(12.0).reshape(3, 2, 2)),
    "flag": ("BOOL", np.array([[True], [False], [True]])),
}


@pytest.mark.parametrize("binary", [[], ["label"], ["score", "word"], list(OUTPUTS)])
@pytest.mark.parametrize("span", [(0, 3), (0, 1), (1, 3)])
@pytest.mark.parametrize("row_wise", [True, False])
def test_answers_are_byte_for_byte_those_of_the_contracts(binary: list[str], span: Any, row_wise: bool) -> None:
    specs = [TensorSpec(n, k, [-1, *a.shape[1:]]) for n, (k, a) in OUTPUTS.items()]
    arrays = {n: a[slice(*span)] if row_wise else a for n, (_, a) in OUTPUTS.items()}
    answer = InferResponse("mö", [Tensor(n, OUTPUTS[n][0], a) for n, a in arrays.items()], "3", 'i"d')
    expected, head = tensors.encode_response(answer, frozenset(binary))
    whole = Outputs([Output(spec, OUTPUTS[spec.name][1], row_wise) for spec in specs])
    found = InferWriter("mö", "3", specs, frozenset(binary)).write(id_text('i"d'), whole, *span)
    assert found.body == expected
    length = dict(found.headers).get(b"inference-header-content-length")
    assert length == (None if head is None else b"%d" % head)


def raw_body(
    rows: int, value: float, request_id: str = "frame", extra: bytes = b""
) -> tuple[bytes, dict[bytes, bytes]]:
    """A binary request of one tensor."""
    head = json.dumps(
        {
            "id": request_id,
            "inputs": [
                {"name": "x", "shape": [rows, 3], "datatype": "FP32", "parameters": {"binary_data_size": 12 * rows}}
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    raw = np.full((rows, 3), value, np.float32).tobytes() + extra
    return head + raw, {b"inference-header-content-length": b"%d" % len(head)}


def outcome(core: Any, rows: int, value: float, request_id: str = "frame", extra: bytes = b"") -> tuple[int, bytes]:
    body, headers = raw_body(rows, value, request_id, extra)
    answer = core.infer(body, headers)
    return answer.status, answer.body


def test_a_raw_request_whose_text_came_before_is_answered_alike(make: Any) -> None:
    known = make.Core(make.sum_and_copy_model())
    for _ in range(4):
        outcome(known, 2, 1.0)
    asked = [(2, 1.5, "frame"), (2, -3.0, "frame"), (3, 1.5, "frame"), (2, 1.5, "mine"), (2, float("nan"), "frame")]
    for rows_, value, request_id in [*asked, (2, float("inf"), "frame")]:
        fresh = make.Core(make.sum_and_copy_model())
        for _ in range(3):
            assert outcome(known, rows_, value, request_id) == outcome(fresh, rows_, value, request_id)


@pytest.mark.parametrize("extra", [b"\0", b"\0" * 12])
def test_a_known_text_with_too_long_a_body_is_refused_as_ever(make: Any, extra: bytes) -> None:
    known, fresh = make.Core(make.sum_and_copy_model()), make.Core(make.sum_and_copy_model())
    for _ in range(4):
        outcome(known, 2, 1.0)
    assert outcome(known, 2, 1.0, extra=extra) == outcome(fresh, 2, 1.0, extra=extra)
    assert outcome(fresh, 2, 1.0, extra=extra)[0] == 400


def test_a_tensor_in_json_beside_raw_ones_is_read_each_time_anew(core: Any) -> None:
    """Found by a fuzzer: a size that is null is no size."""
    inputs = [
        {
            "name": "distance",
            "shape": [1, 1],
            "datatype": "FP32",
            "data": [2.0],
            "parameters": {"binary_data_size": None},
        },
        {"name": "delay", "shape": [1, 1], "datatype": "FP32", "parameters": {"binary_data_size": 4}},
        {"name": "carrier", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": 6}},
    ]
    head = json.dumps({"id": "1", "inputs": inputs}).encode()
    body = head + np.float32(3.0).tobytes() + b"\x02\0\0\0UA"
    answers = [core.infer(body, {b"inference-header-content-length": b"%d" % len(head)}) for _ in range(4)]
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == 1
