"""Whatever comes in, the core answers 200 or 400, and counts."""

import copy
import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kingmaker_contracts import json_tensors, tensors
from kingmaker_contracts.inference import Tensor
from kingmaker_model_server.hot_path import HotPath

GOOD: dict[str, Any] = {
    "id": "1",
    "inputs": [
        {"name": "distance", "shape": [2, 1], "datatype": "FP32", "data": [1400, 733]},
        {"name": "delay", "shape": [2, 1], "datatype": "FP32", "data": [3, 40]},
        {"name": "carrier", "shape": [2, 1], "datatype": "BYTES", "data": ["UA", "AA"]},
    ],
    "outputs": [{"name": "label"}],
}
ROWS: dict[str, Any] = {"instances": [{"distance": 1, "delay": 2, "carrier": "UA"}, [1, 2, "AA"]]}
TABLES: dict[str, Any] = {
    "instances": ROWS["instances"],
    "dataframe_split": {"columns": ["distance", "delay", "carrier"], "index": [0], "data": [[1, 2, "AA"]]},
    "dataframe_records": [{"distance": 1, "delay": 2, "carrier": "UA"}] * 2,
    "inputs": {"distance": [1, 2], "delay": [[3], [4]], "carrier": ["UA", "AA"]},
}
datatypes = st.sampled_from(["FP16", "FP64", "INT64", "INT8", "UINT64", "BOOL", "BYTES", "FP32", "X"])
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(
    scalars | datatypes,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["name", "data", "distance"]), inner),
    max_leaves=6,
)
fuzz = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place inside a JSON value."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += paths(inner, (*path, key))
    return found


@st.composite
def changed(draw: Any, good: Any) -> bytes:
    """A good body with one or two places overwritten by anything."""
    body = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, 2))):
        *way, last = draw(st.sampled_from(paths(body)))
        place = body
        for key in way:
            place = place[key]
        place[last] = draw(values)
    return json.dumps(body).encode()


@fuzz
@given(body=changed(GOOD))
def test_any_infer_body_is_answered_or_refused(core: Any, body: bytes) -> None:
    assert core.infer(body).status in (200, 400)


@fuzz
@given(body=changed(ROWS))
def test_any_predict_body_is_answered_or_refused(core: Any, body: bytes) -> None:
    assert core.predictor.predict("m", body).status in (200, 400)


@fuzz
@given(body=st.sampled_from(sorted(TABLES)).flatmap(lambda name: changed({name: TABLES[name], "params": {}})))
def test_any_table_is_answered_or_refused(core: Any, body: bytes) -> None:
    assert core.predictor.invoke({}, body).status in (200, 400)


@fuzz
@given(
    body=st.lists(st.sampled_from([*'\r\n,,,"017.-e', "distance", "carrier", "UA", "x", "\0", "é"])).map("".join),
    header=st.sampled_from(["", "; header=present", "; header=absent"]),
    accept=st.sampled_from([b"text/csv", b"application/jsonlines", b"*/*"]),
)
def test_any_csv_is_answered_or_refused(core: Any, make: Any, body: str, header: str, accept: bytes) -> None:
    headers = {b"content-type": f"text/csv{header}".encode(), b"accept": accept}
    for one in (core, block(make)):
        assert one.predictor.invoke(headers, body.encode()).status in (200, 400)


CORES: dict[str, Any] = {}


def block(make: Any) -> Any:
    if "block" not in CORES:
        CORES["block"] = make.Core(make.sum_and_copy_model())
    return CORES["block"]


@given(
    content=st.binary(max_size=30), accept=st.binary(max_size=30) | st.text("*/;,q=.1atex", max_size=20).map(str.encode)
)
@fuzz
def test_any_content_type_and_accept_are_understood_or_refused(core: Any, content: bytes, accept: bytes) -> None:
    answer = core.predictor.invoke({b"content-type": content, b"accept": accept}, json.dumps(ROWS).encode())
    assert answer.status in (200, 400, 406, 415)


@fuzz
@given(cut=st.integers(0, 400), length=st.integers(0, 500), noise=st.binary(max_size=8))
def test_any_binary_body_is_answered_or_refused(core: Any, cut: int, length: int, noise: bytes) -> None:
    inputs = [json_tensors.from_values(t["name"], t["datatype"], t["shape"], t["data"]) for t in GOOD["inputs"]]
    assert all(isinstance(tensor, Tensor) for tensor in inputs)
    body, _ = tensors.encode_request(inputs)
    mutated = body[:cut] + noise + body[cut + len(noise) :]
    answer = core.infer(mutated, {b"inference-header-content-length": b"%d" % length})
    assert answer.status in (200, 400)


def test_a_fault_of_the_server_is_500_with_the_error_body_and_is_counted(make: Any, flights_bytes: bytes) -> None:
    broken = make.Core(flights_bytes)
    broken.model.run = None  # a bug, for once on purpose
    status, text = broken.predict([[1, 2, "UA"]])
    assert (status, text) == (500, "a fault of this server; its log has more")


def test_what_http_itself_refuses_has_the_code_of_its_status(core: Any) -> None:
    refuse = HotPath(core.predictor).refuse
    for status, code in {400: "bad_input", 408: "request_timeout", 413: "body_too_large", 500: "internal"}.items():
        _, body = refuse(status, None)
        assert json.loads(body)["code"] == code, status
