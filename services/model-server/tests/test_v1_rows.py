"""V1 rows: arrays, named features, bare values; what may be missing; the shape of predictions."""

import json
import re
from typing import Any

import httpx
import pytest
from onnx import TensorProto, helper

ROW = {"distance": 1400, "delay": 40, "carrier": "UA"}


def test_named_rows_and_arrays_give_the_same_predictions(client: httpx.Client) -> None:
    def predict(rows: Any) -> Any:
        return client.post("/v1/models/flights:predict", json={"instances": rows}).json()["predictions"]

    named = predict([ROW, ROW | {"delay": 0, "carrier": "AA"}])
    assert predict([[1400, 40, "UA"], [1400, 0, "AA"]]) == named
    assert predict([ROW, [[1400], [0], ["AA"]]]) == named
    assert [row["label"] for row in named] == [1, 0]
    assert all(sum(row["probabilities"]) == pytest.approx(1, abs=1e-5) for row in named)


def test_v1_and_v2_give_the_same_numbers(client: httpx.Client) -> None:
    row = client.post("/v1/models/flights:predict", json={"instances": [ROW]}).json()["predictions"][0]
    types = {"distance": "FP32", "delay": "FP32", "carrier": "BYTES"}
    inputs = [{"name": n, "shape": [1, 1], "datatype": types[n], "data": [v]} for n, v in ROW.items()]
    outputs = client.post("/v2/models/flights/infer", json={"inputs": inputs}).json()["outputs"]
    assert [o["data"] for o in outputs] == [[row["label"]], row["probabilities"]]


BAD = [
    ("no JSON", b"{", "not JSON"),
    ("nothing", b"", "empty"),
    ("literal NaN", b'{"instances": [{"distance": NaN}]}', "null for a missing value"),
    ("infinity", b'{"instances": [{"distance": Infinity}]}', "not JSON"),
    ("a list", [1], "not a prediction request"),
    ("no instances", {"rows": []}, '"instances" is missing'),
    ("instances as an object", {"instances": {}}, "instances"),
    ("no rows", {"instances": []}, "empty, expected at least one row"),
    ("an unknown feature", {"instances": [ROW, ROW | {"speed": 1}]}, "row 1: unknown feature 'speed'.*'distance'"),
    ("a feature left out", {"instances": [{"delay": 1, "carrier": "UA"}]}, "'distance': row 0 has no value"),
    ("a null", {"instances": [ROW, ROW | {"distance": None}]}, "'distance': row 1 has no value.*carrier, delay"),
    ("a null in an array", {"instances": [[None, 1, "UA"]]}, "'distance': row 0 has no value"),
    ("a string", {"instances": [ROW, ROW | {"distance": "far"}]}, "row 1: .*'distance'.*\"far\".*number"),
    ("a boolean", {"instances": [ROW | {"distance": True}]}, "row 0: .*'distance'.*true.*number"),
    ("a number for a string", {"instances": [ROW | {"carrier": 7}]}, "row 0: .*'carrier'.*7.*string"),
    ("a value FP32 cannot hold", {"instances": [ROW | {"delay": 1e300}]}, "row 0: .*'delay'.*FP32"),
    ("an object for a value", {"instances": [ROW | {"delay": {}}]}, "row 0: .*'delay'.*an object"),
    (
        "too many values in a cell",
        {"instances": [ROW | {"delay": [1, 2]}]},
        "row 0: input 'delay' has 2 values, expected 1",
    ),
    ("a short array", {"instances": [[1, 2, "UA"], [1, 2]]}, "row 1 has 2 values, expected 3: 'distance', 'delay'"),
    ("a bare number", {"instances": [3]}, "row 0 is 3, expected an object of features"),
    ("a null row", {"instances": [None]}, "row 0 is null"),
]


@pytest.mark.parametrize(("body", "text"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_rows_are_400_and_name_feature_and_row(client: httpx.Client, body: Any, text: str) -> None:
    kind = {"content": body} if isinstance(body, bytes) else {"json": body}
    answer = client.post("/v1/models/flights:predict", **kind)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_input"), answer.text
    assert re.search(text, answer.json()["error"]), answer.text


def test_nullable_features_may_be_null_or_left_out(client: httpx.Client, make: Any) -> None:
    rows = [ROW | {"carrier": None}, {"distance": 1400, "delay": 40}, ROW | {"carrier": ""}, ROW | {"delay": None}]
    answer = client.post("/v1/models/flights:predict", json={"instances": rows})
    assert answer.status_code == 200, answer.text
    null, absent, empty, no_delay = answer.json()["predictions"]
    assert null == absent == empty
    assert no_delay["probabilities"] == [None, None]  # logistic regression has no answer; NaN goes out as null


def test_a_single_block_takes_the_vector_as_row_and_several_outputs_are_objects(make: Any) -> None:
    core = make.Core(make.sum_and_copy_model())
    expected = [{"total": 6.0, "twice": [2.0, 4.0, 6.0]}]
    assert core.predict([[1, 2, 3]]) == (200, expected)
    assert core.predict([{"x": [1, 2, 3]}]) == (200, expected)
    status, text = core.predict([[1, 2, 3], [1, 2]])
    assert status == 400
    assert re.search("row 1.*2 values, expected 3", text)
    status, text = core.predict([[1, 2, "x"]])
    assert status == 400
    assert re.search("row 0.*'x'.*number", text)
    assert core.predict([7])[0] == 400
    assert core.predict([[1, None, 3]]) == (200, [{"total": None, "twice": [2.0, None, 6.0]}])


def test_a_single_column_takes_bare_values_and_one_output_is_plain(make: Any) -> None:
    core = make.Core(make.one_column_model())
    assert core.predict([1, [2], {"x": 3}]) == (200, [[1.0], [2.0], [3.0]])
    core = make.Core(make.one_column_model(shape=("N",)))
    assert core.predict([1, {"x": 3}]) == (200, [1.0, 3.0])
    core = make.Core(make.one_column_model(TensorProto.STRING))
    assert core.predict(["a", ["b"]]) == (200, [["a"], ["b"]])
    assert core.predict([None])[0] == 400


def test_every_type_of_column_comes_through(make: Any) -> None:
    core = make.Core(make.typed_model())
    row = {"i": 2**53 + 1, "f": 0.5, "b": True, "s": "ä"}
    assert core.predict([row]) == (200, [{"i_out": [2**53 + 1], "f_out": [0.5], "b_out": [True], "s_out": ["ä"]}])
    for change in ({"i": 1.5}, {"i": None}, {"b": 1}, {"b": None}, {"s": None}, {"i": 2**63}):
        status, text = core.predict([row, row | change])
        assert status == 400
        assert "row 1" in text
        assert repr(next(iter(change))) in text


@pytest.mark.parametrize("name", ['height 5"', "C:\\temp", "a\tb", "größe", "a.b", "'"])
def test_a_feature_may_have_any_name(make: Any, name: str) -> None:
    """Between one with a plain name and another, for what reads rows quickly is made of all names together."""
    names = ("plain", name, "other")
    model = make.onnx_bytes(
        [helper.make_node("Identity", [n], [f"{n}_out"]) for n in names],
        [make.value(n, TensorProto.INT64, ["N", 1]) for n in names],
        [make.value(f"{n}_out", TensorProto.INT64, ["N", 1]) for n in names],
    )
    core = make.Core(model)
    row = {"plain": 1, name: 2, "other": 3}
    echoed = {f"{n}_out": [value] for n, value in row.items()}
    assert core.predict([row, [1, 2, 3]]) == (200, [echoed, echoed])
    assert core.invoke({"dataframe_records": [row]}) == (200, {n: [value] for n, value in echoed.items()})
    inputs = [{"name": n, "shape": [1, 1], "datatype": "INT64", "data": [value]} for n, value in row.items()]
    outputs = json.loads(core.infer(json.dumps({"inputs": inputs}).encode()).body)["outputs"]
    assert {output["name"]: output["data"] for output in outputs} == echoed


def test_rows_of_matrices_keep_their_nesting(make: Any) -> None:
    core = make.Core(make.one_column_model(shape=("N", 2, 2)))
    assert core.predict([[[1, 2], [3, 4]]]) == (200, [[[1.0, 2.0], [3.0, 4.0]]])
    for bad in ([[1, 2], [3]], [[1, 2]], [1, 2, 3, 4], 1, [[1, 2], 3]):
        status, text = core.predict([bad])
        assert status == 400
        assert "row 0" in text


def test_rows_of_open_length_must_agree(make: Any) -> None:
    core = make.Core(make.one_column_model(shape=("N", "M")))
    assert core.predict([[1, 2, 3], [4, 5, 6]]) == (200, [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    assert core.predict([[1, 2, 3], [4]])[0] == 400
    assert core.predict([[[1], 2]])[0] == 400
    assert core.predict([[]])[0] == 400


def test_a_model_that_does_not_count_rows_says_that_predict_is_not_supported(make: Any) -> None:
    status, text = make.Core(make.one_column_model(shape=(2, 3))).predict([[1, 2, 3]])
    assert status == 501
    assert "not supported" in text


def test_a_model_that_fails_on_good_rows_is_500_because_it_is_not_the_clients_doing(make: Any) -> None:
    core = make.Core(make.text_to_number_model())
    assert core.predict(["1.5"]) == (200, [[1.5]])
    status, text = core.predict(["far"])
    assert status == 500
    assert text.startswith("the model failed on these rows")
