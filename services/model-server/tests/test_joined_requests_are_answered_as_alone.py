"""Natural batching is invisible: whatever shares a round, each request gets the answer it would have had alone."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from kingmaker_contracts import json_tensors, raw_tensors, tensors
from kingmaker_contracts.inference import Tensor
from kingmaker_model_server.answers import Answer, PredictWriter
from kingmaker_model_server.batching import answer_together
from kingmaker_model_server.job import Job
from kingmaker_model_server.predict import Predictor
from kingmaker_model_server.run import runs_of

HEADER = b"inference-header-content-length"
TYPED = {"i": "INT64", "f": "FP32", "b": "BOOL", "s": "BYTES"}
FLIGHTS = {"distance": "FP32", "delay": "FP32", "carrier": "BYTES"}
finite = st.floats(-3000, 3000, width=32)
ELEMENTS: dict[str, st.SearchStrategy[Any]] = {
    "INT64": st.integers(-(2**63), 2**63 - 1),
    "FP32": finite,
    "BOOL": st.booleans(),
    "BYTES": st.sampled_from(["UA", "AA", "", "ü", "?"]),
}
Sent = tuple[str, dict[bytes, bytes], bytes]
"""infer or predict, headers, body."""

joins = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


class Client:
    """Keeps its one answer."""

    def __init__(self) -> None:
        self.got: list[Answer] = []

    def answer(self, status: int, headers: tuple[tuple[bytes, bytes], ...], body: bytes) -> None:
        self.got.append(Answer(status, headers, body))


def in_one_round(core: Any, sent: list[Sent]) -> list[Answer]:
    """What everybody gets when all arrive before the loop calls back."""
    clients = [Client() for _ in sent]
    predictor = core.predictor
    jobs = [
        predictor.infer_job("m", None, headers.get, body) if call == "infer" else predictor.predict_job("m", body)
        for call, headers, body in sent
    ]
    answer_together(predictor, list(zip(jobs, clients, strict=True)))
    assert all(len(client.got) == 1 for client in clients)
    return [client.got[0] for client in clients]


def alone(core: Any, sent: Sent) -> Answer:
    call, headers, body = sent
    predictor: Predictor = core.predictor
    return predictor.infer("m", None, headers, body) if call == "infer" else predictor.predict("m", body)


@st.composite
def requests(draw: Any, types: dict[str, str], outputs: list[str]) -> Sent:
    """A good request: any size, and any way to write it."""
    rows = draw(st.sampled_from([1, 1, 1, 2, 5, 31, 33, 64, 65, 130]))
    seeds = {name: draw(st.lists(ELEMENTS[kind], min_size=1, max_size=4)) for name, kind in types.items()}
    columns = {name: [seed[i % len(seed)] for i in range(rows)] for name, seed in seeds.items()}
    way = draw(st.sampled_from(["json", "nested", "binary", "mixed", "predict", "arrays"]))
    if way == "predict":
        found = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        return "predict", {}, json.dumps({"instances": found}).encode()
    if way == "arrays":
        return "predict", {}, json.dumps({"instances": list(map(list, zip(*columns.values(), strict=True)))}).encode()
    asked = draw(st.none() | st.lists(st.sampled_from(outputs), unique=True, min_size=1))
    head: dict[str, Any] = {"id": draw(st.text(max_size=5))}
    if asked is not None:
        flags = st.sampled_from([{}, {"parameters": {"binary_data": True}}, {"parameters": {"binary_data": False}}])
        head["outputs"] = [{"name": name} | draw(flags) for name in asked]
    raw = b""
    head["inputs"] = []
    for name, values in columns.items():
        item: dict[str, Any] = {"name": name, "shape": [rows, 1], "datatype": types[name]}
        if way == "binary" or (way == "mixed" and draw(st.booleans())):
            part = raw_tensors.to_raw(json_tensors.from_values(name, types[name], [rows, 1], values))
            item["parameters"] = {"binary_data_size": len(part)}
            raw += part
        else:
            item["data"] = [[value] for value in values] if way == "nested" else values
        head["inputs"].append(item)
    if way == "binary":
        head["parameters"] = {"binary_data_output": True}
    text = json.dumps(head).encode()
    return "infer", {HEADER: b"%d" % len(text)} if raw else {}, text + raw


def bad(types: dict[str, str], number: str) -> list[Sent]:
    """Requests that must be refused. number: an FP32 input that must not miss a value, or "" for none."""

    def body(**changes: Any) -> bytes:
        inputs: list[dict[str, Any]] = [
            {"name": n, "shape": [1, 1], "datatype": k, "data": [{"BYTES": "UA", "BOOL": True}.get(k, 1)]}
            for n, k in types.items()
        ]
        for item in inputs:
            item.update(changes.get(item["name"], {}))
        return json.dumps({"inputs": inputs} | changes.get("top", {})).encode()

    floating = next(n for n, k in types.items() if k == "FP32")
    inputs = [
        json_tensors.from_values(n, k, [1, 1], [{"BYTES": "UA", "BOOL": True}.get(k, 1)]) for n, k in types.items()
    ]
    infinite = [Tensor(floating, "FP32", np.array([[np.inf]], "<f4")) if t.name == floating else t for t in inputs]
    raw, length = tensors.encode_request(infinite)
    found: list[Sent] = [
        ("infer", {}, b"{"),
        ("infer", {}, body(**{floating: {"data": [1e39]}})),
        ("infer", {}, body(**{floating: {"shape": [2, 1]}})),
        ("infer", {}, body(top={"outputs": [{"name": "nothing"}]})),
        ("infer", {HEADER: b"0"}, body()),
        ("infer", {HEADER: b"%d" % length}, raw),
        ("infer", {HEADER: b"%d" % length}, raw[:-1]),
        ("predict", {}, json.dumps({"instances": [dict.fromkeys(types, 1e39)]}).encode()),
    ]
    if number:
        missing = [Tensor(number, "FP32", np.array([[np.nan]], "<f4")) if t.name == number else t for t in inputs]
        raw, length = tensors.encode_request(missing)
        found += [("infer", {HEADER: b"%d" % length}, raw), ("infer", {}, body(**{number: {"data": [None]}}))]
    return found


@pytest.fixture(scope="session")
def typed(make: Any) -> Any:
    return make.Core(make.typed_model())


@joins
@given(data=st.data())
def test_an_elementwise_model_answers_bit_for_bit_whatever_joins(typed: Any, data: st.DataObject) -> None:
    good = requests(TYPED, [f"{name}_out" for name in TYPED])
    sent = data.draw(st.lists(good | st.sampled_from(bad(TYPED, "")), min_size=1, max_size=12))
    for one, together in zip(sent, in_one_round(typed, sent), strict=True):
        assert together == alone(typed, one)
        if one[0] == "infer" and together.status == 200:
            assert_echoed(one, together)


def assert_echoed(sent: Sent, got: Answer) -> None:
    """The model gives back what it got, so the oracle is the request."""
    length = sent[1].get(HEADER)
    given_ = {t.name: t.array for t in tensors.decode_request(sent[2], int(length) if length else None).inputs}
    head = dict(got.headers).get(HEADER)
    for output in tensors.decode_response(got.body, int(head) if head else None).outputs:
        assert np.array_equal(output.array, given_[output.name.removesuffix("_out")])


@joins
@given(data=st.data())
def test_a_fitted_pipeline_answers_the_same_labels_and_close_scores(core: Any, data: st.DataObject) -> None:
    good = requests(FLIGHTS, ["label", "probabilities"])
    sent = data.draw(st.lists(good | st.sampled_from(bad(FLIGHTS, "distance")), min_size=1, max_size=12))
    for one, together in zip(sent, in_one_round(core, sent), strict=True):
        expected = alone(core, one)
        assert together.status == expected.status
        if together.status != 200:
            assert together == expected
        else:
            assert_close(values_of(together), values_of(expected))


def values_of(answer: Answer) -> dict[str, Any]:
    """Every output's values, flat."""
    length = dict(answer.headers).get(HEADER)
    body = json.loads(answer.body) if length is None else {}
    if "predictions" in body:
        return {name: [row[name] for row in body["predictions"]] for name in ("label", "probabilities")}
    found = tensors.decode_response(answer.body, int(length) if length else None)
    return {t.name: t.array.ravel().tolist() for t in found.outputs}


def assert_close(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, values in found.items():
        if name == "label":
            assert values == expected[name]
        else:
            np.testing.assert_allclose(np.array(values), np.array(expected[name]), rtol=0, atol=1e-6)


@joins
@given(strings=st.lists(st.sampled_from(["1", "2.5", "-3", "far", ""]), min_size=1, max_size=20))
def test_a_joined_run_that_fails_costs_only_the_rows_that_fail(make: Any, strings: list[str]) -> None:
    failing = text_to_number(make)

    def body(text: str) -> bytes:
        tensor = {"name": "s", "shape": [1, 1], "datatype": "BYTES", "data": [text]}
        return json.dumps({"id": "1", "inputs": [tensor]}).encode()

    answers = in_one_round(failing, [("infer", {}, body(text)) for text in strings])
    for text, answer in zip(strings, answers, strict=True):
        if text in ("far", ""):
            assert answer.status == 500
            assert b"the model failed on these rows" in answer.body
        else:
            assert json.loads(answer.body)["outputs"][0]["data"] == [float(text)]


CORES: dict[str, Any] = {}


def text_to_number(make: Any) -> Any:
    if "text" not in CORES:
        CORES["text"] = make.Core(make.text_to_number_model())
    return CORES["text"]


def test_requests_of_one_round_take_one_run_and_are_counted_one_by_one(make: Any) -> None:
    core = make.Core(make.typed_model())
    body = json.dumps({"instances": [{"i": 1, "f": 2, "b": True, "s": "x"}]}).encode()
    good: Sent = ("predict", {}, body)
    answers = in_one_round(core, [good] * 20 + [("infer", {}, b"{")])
    assert [answer.status for answer in answers] == [200] * 20 + [400]

    def value(name: str, **labels: str) -> float | None:
        registry: CollectorRegistry = core.registry
        return registry.get_sample_value(f"kingmaker_model_server_{name}", labels)

    assert value("inference_duration_seconds_count") == 1
    assert value("rows_total") == 20
    assert value("requests_total", code="200") == 20
    assert value("requests_total", code="400") == 1
    assert value("request_duration_seconds_count") == 21


def test_a_model_whose_first_dimension_counts_nothing_is_never_joined(make: Any) -> None:
    core = make.Core(make.one_column_model(shape=(3, 1)))

    def sent(start: int) -> Sent:
        tensor = {"name": "x", "shape": [3, 1], "datatype": "FP32", "data": [start, start + 1, start + 2]}
        return "infer", {}, json.dumps({"id": str(start), "inputs": [tensor]}).encode()

    answers = in_one_round(core, [sent(at) for at in range(5)])
    assert [json.loads(a.body)["outputs"][0]["data"] for a in answers] == [[at, at + 1, at + 2] for at in range(5)]


def test_rows_of_different_shapes_do_not_join(make: Any) -> None:
    core = make.Core(make.one_column_model(shape=("N", "M")))

    def sent(width: int) -> Sent:
        tensor = {"name": "x", "shape": [1, width], "datatype": "FP32", "data": list(range(width))}
        return "infer", {}, json.dumps({"id": "1", "inputs": [tensor]}).encode()

    answers = in_one_round(core, [sent(width) for width in (1, 2, 3, 2, 1)])
    assert [json.loads(a.body)["outputs"][0]["shape"] for a in answers] == [[1, w] for w in (1, 2, 3, 2, 1)]


@given(sizes=st.lists(st.integers(1, 80), max_size=60), kinds=st.randoms())
def test_runs_hold_every_job_once_in_order_and_never_too_many_rows(sizes: list[int], kinds: Any) -> None:
    jobs = [Job([], rows, kinds.choice([None, (), ((3,),)]), PredictWriter([])) for rows in sizes]
    runs = runs_of(jobs, 64)
    assert sorted(jobs.index(job) for run in runs for job in run) == list(range(len(jobs)))
    for run in runs:
        assert sum(job.rows for job in run) <= 64 or len(run) == 1
        assert len({job.kind for job in run}) == 1
        assert len(run) == 1 or run[0].kind is not None
        assert [jobs.index(job) for job in run] == sorted(jobs.index(job) for job in run)


def test_small_jobs_fill_a_run() -> None:
    assert len(runs_of([Job([], 1, (), PredictWriter([])) for _ in range(128)], 64)) == 2


def test_what_waited_longer_than_its_caller_is_dropped_unrun(flights_bytes: bytes, make: Any) -> None:
    core = make.Core(flights_bytes, make.flights_profile(flights_bytes))
    now, predictor = [100.0], core.predictor
    predictor.clock = lambda: now[0]

    class Slow(Client):
        """Each run before this answer took a second."""

        def answer(self, status: int, headers: tuple[tuple[bytes, bytes], ...], body: bytes) -> None:
            super().answer(status, headers, body)
            now[0] += 1.0

    clients, jobs = [Slow() for _ in range(4)], []
    body = json.dumps({"instances": [{"distance": 1, "delay": 2, "carrier": "UA"}] * 64}).encode()
    before = core.registry.get_sample_value("kingmaker_model_server_rows_total")
    for client, patience_s in zip(clients, (0.5, 0.5, 9.0, 1.5), strict=True):
        job = predictor.predict_job("m", body)
        job.expires = now[0] + patience_s
        jobs.append((job, client))
    answer_together(predictor, jobs)
    # the first waited for nobody, whatever its caller's patience was
    assert [client.got[0].status for client in clients] == [200, 504, 200, 504]
    assert json.loads(clients[1].got[0].body)["code"] == "deadline_exceeded"
    assert core.registry.get_sample_value("kingmaker_model_server_rows_total") == before + 128
    assert core.registry.get_sample_value("kingmaker_model_server_expired_total") == 2
