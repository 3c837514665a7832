"""SageMaker: `serve`, GET /ping, POST /invocations in the forms of its documentation.

Examples follow the Developer Guide: "Custom inference code with hosting services" and "Common data formats for
inference", whose record of four features is 1.5,16.0,14,23.0.
"""

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from onnx import TensorProto

if TYPE_CHECKING:
    from tests.conftest import Start

RECORD = [1.5, 16.0, 14.0, 23.0]
ROW = {"distance": 1400, "delay": 40, "carrier": "UA"}


@pytest.fixture(scope="module")
def four(make: Any) -> Any:
    """A model that gives its four features back."""
    return make.Core(make.one_column_model(shape=("N", 4)))


def test_the_record_of_the_documentation_is_read_in_every_form_it_has(four: Any) -> None:
    lines = b'{"features": [1.5, 16.0, 14.0, 23.0]}\n{"features": [1.5, 16.0, 14.0, 23.0]}\n'
    assert four.invoke(b"1.5,16.0,14,23.0", "text/csv") == (200, [RECORD])
    assert four.invoke(b"1.5,16.0,14,23.0\n1.5,16.0,14,23.0\n", "text/csv") == (200, [RECORD, RECORD])
    assert four.invoke({"instances": [{"features": RECORD}]}) == (200, [RECORD])
    assert four.invoke({"instances": [RECORD]}) == (200, [RECORD])
    assert four.invoke(lines, "application/jsonlines") == (200, [RECORD, RECORD])


def test_accept_chooses_the_form_of_the_answer(four: Any) -> None:
    body = {"instances": [RECORD, [0, None, 0, 0]]}
    assert four.invoke(body, accept="text/csv") == (200, "1.5,16.0,14.0,23.0\n0.0,,0.0,0.0\n")
    assert four.invoke(body, accept="application/jsonlines") == (200, "[1.5,16.0,14.0,23.0]\n[0.0,null,0.0,0.0]\n")
    for accept in (
        "*/*",
        "application/*",
        "image/png, application/json;q=0.5",
        "text/csv;q=0.1, application/json",
        ",",
    ):
        assert four.invoke(body, accept=accept) == (200, [RECORD, [0, None, 0, 0]]), accept
    for accept in ("image/png", "application/json;q=0"):
        status, error = four.invoke(body, accept=accept)
        assert status == 406
        assert accept in error and "text/csv" in error


def test_requests_of_several_forms_are_run_together_and_answered_each_in_its_own(core: Any) -> None:
    headers = {b"content-type": b"text/csv", b"accept": b"text/csv"}
    jobs = [
        core.predictor.invoke_job(headers.get, b"1400,40,UA\n700,0,AA\n"),
        core.predictor.predict_job("m", json.dumps({"instances": [ROW]}).encode()),
        core.predictor.invoke_job({}.get, json.dumps({"dataframe_records": [ROW]}).encode()),
    ]
    table, rows, by_output = (answer.body for answer in core.predictor.answer(jobs))
    assert [line[:1] for line in table.splitlines()] == [b"1", b"0"]
    [row] = json.loads(rows)["predictions"]
    assert json.loads(by_output)["predictions"] == {name: [value] for name, value in row.items()}


def test_csv_of_several_outputs_holds_all_of_them_in_order(core: Any) -> None:
    status, text = core.invoke({"instances": [ROW]}, accept="text/csv")
    label, *probabilities = text.strip().split(",")
    assert (status, label) == (200, "1")
    assert sum(map(float, probabilities)) == pytest.approx(1, abs=1e-5)


def test_strings_and_booleans_survive_csv_both_ways(make: Any) -> None:
    typed = make.Core(make.typed_model())
    line = b'7,0.5,true,"a ""b"", c"\n'
    assert typed.invoke(line, "text/csv", "text/csv") == (200, line.decode())
    assert typed.invoke(line.replace(b"true", b"True"), "text/csv")[1][0]["b_out"] == [True]


def test_a_first_line_of_names_gives_the_columns_in_any_order(core: Any) -> None:
    expected = core.invoke({"instances": [ROW]})
    assert core.invoke(b"carrier,delay,distance\r\nUA,40,1400\r\n", "text/csv") == expected
    assert core.invoke(b"\xef\xbb\xbfdistance,delay,carrier\n1400,40,UA\n", "text/csv; charset=utf-8") == expected
    assert core.invoke(b"1400,40,UA", "text/csv") == expected
    assert core.invoke(b"delay,distance,carrier\n40,1400,UA", "text/csv; header=present") == expected


def test_what_looks_like_names_is_a_row_when_the_client_says_so(make: Any) -> None:
    words = make.Core(make.one_column_model(kind=8))
    assert words.invoke(b"x\ny\n", "text/csv") == (200, [["y"]])
    assert words.invoke(b"x\ny\n", "text/csv; header=absent") == (200, [["x"], ["y"]])


def test_an_empty_cell_is_a_missing_value_and_no_line_is_lost(core: Any, make: Any) -> None:
    assert core.invoke(b"1400,,UA", "text/csv") == core.invoke({"instances": [ROW | {"delay": None}]})
    one = make.Core(make.one_column_model())
    assert one.invoke(b"1\n\n3\n", "text/csv") == (200, [[1.0], [None], [3.0]])
    assert core.invoke(b"1400,40,UA\n\n1400,40,UA\n", "text/csv")[0] == 400


BAD_CSV = [
    ("nothing", b"", "the body is empty, expected CSV"),
    ("a word for a number", b"1400,40,UA\n1400,far,UA", "row 1: input 'delay' is 'far', expected a number"),
    ("an infinity", b"1400,inf,UA", "row 0: input 'delay' is 'inf', expected a number"),
    ("a number in words no JSON has", b"1_400,40,UA", "row 0: input 'distance' is '1_400'"),
    ("more than FP32 holds", b"1400,1e300,UA", "row 0: input 'delay': .*FP32"),
    ("a value too few", b"1400,40,UA\n1400,40", "row 1 has 2 values, expected 3: 'distance', 'delay', 'carrier'"),
    ("a value too many", b"1400,40,UA,7", "row 0 has 4 values, expected 3"),
    ("an empty cell where none may be", b",40,UA", "input 'distance': row 0 has no value"),
    ("a misspelled name", b"distance,dely,carrier\n1400,40,UA", "unknown feature 'dely'"),
    ("a name left out", b"delay,carrier\n40,UA", "input 'distance': row 0 has no value"),
    ("a name twice", b"distance,distance,carrier\n1,2,UA", "column 'distance' stands twice"),
    ("names alone", b"distance,delay,carrier\n", "CSV holds no rows"),
    ("names no model knows", b"a,b,c\n1,2,UA", "row 0: input 'distance' is 'a', .*first line of names"),
    ("an open quote", b'1400,40,"UA', "the body is not CSV"),
    ("no UTF-8", b"1400,40,\xff", "not UTF-8"),
]


@pytest.mark.parametrize(("body", "text"), [bad[1:] for bad in BAD_CSV], ids=[bad[0] for bad in BAD_CSV])
def test_bad_csv_is_refused_by_row_and_feature(core: Any, body: bytes, text: str) -> None:
    status, error = core.invoke(body, "text/csv")
    assert status == 400
    assert re.search(text, error), error


@pytest.mark.parametrize("number", [2**53 + 1, 1234567890123456789, 2**63 - 1, -(2**63)])
def test_whole_numbers_survive_csv_to_the_last_digit(make: Any, number: int) -> None:
    core = make.Core(make.one_column_model(TensorProto.INT64))
    assert core.invoke(b"%d\n%+030d" % (number, number), "text/csv") == (200, [[number], [number]])


@pytest.mark.parametrize("cell", ["1e999", "-1e999", "9" * 401, "9" * 5000])
@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.FLOAT])
def test_a_number_beyond_all_measure_in_csv_is_the_clients_mistake(make: Any, cell: str, kind: int) -> None:
    status, text = make.Core(make.one_column_model(kind)).invoke(f"1\n{cell}".encode(), "text/csv")
    assert status == 400
    assert text.startswith("row 1: input 'x'")


def test_bad_json_lines_are_refused_by_line(four: Any) -> None:
    assert four.invoke(b"[1,2,3,4]\nhuh\n", "application/jsonlines")[1].startswith("line 2: the body is not JSON")
    assert four.invoke(b"", "application/jsonlines") == (400, "the body is empty, expected a JSON value a line")
    assert four.invoke(b'{"features": [1, 2]}', "application/jsonlines") == (
        400,
        "row 0: input 'x' has 2 values, expected 4",
    )


@pytest.mark.parametrize(
    ("content_type", "text"),
    [
        ("application/x-recordio-protobuf", "application/json, text/csv, application/jsonlines"),
        ("application/x-www-form-urlencoded", "application/x-www-form-urlencoded"),
        ("text/csv; charset=latin-1", "latin-1"),
        ("text/csv; header=maybe", "present or absent"),
        ("text/csv; label_size=1", "label_size"),
        ("application/json; header=present", "header"),
    ],
)
def test_a_form_nobody_reads_is_415_and_says_which_are_read(four: Any, content_type: str, text: str) -> None:
    status, error = four.invoke(b"1", content_type)
    assert status == 415
    assert text in error


def test_csv_says_when_a_model_has_more_than_it_can_carry(make: Any) -> None:
    cube = make.Core(make.one_column_model(shape=("N", 2, 2)))
    assert cube.invoke(b"1,2,3,4", "text/csv")[1].startswith("CSV cannot carry this model's inputs")
    assert cube.invoke({"instances": [[[1, 2], [3, 4]]]}) == (200, [[[1, 2], [3, 4]]])


def test_the_paths_answer_over_http(client: httpx.Client) -> None:
    ping = client.get("/ping")
    assert (ping.status_code, ping.content) == (200, b"")
    headers = {"content-type": "text/csv", "accept": "text/csv"}
    answer = client.post("/invocations", content=b"1400,40,UA\n1400,0,AA\n", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/csv")
    assert [line[0] for line in answer.text.splitlines()] == ["1", "0"]
    named = client.post("/v1/models/flights:predict", json={"instances": [ROW]})
    assert client.post("/invocations", json={"instances": [ROW]}).json() == named.json()
    assert client.get("/invocations").status_code == 405
    large = client.post("/invocations", content=b"1" * 100_001, headers=headers)
    assert (large.status_code, large.json()["code"]) == (413, "body_too_large")
    bad = client.post("/invocations", content=b"x", headers={"content-type": "text/plain"})
    assert (bad.status_code, bad.json()["code"]) == (415, "unsupported_media_type")


def test_ping_is_503_until_the_model_is_loaded(make: Any, start: "Start", tmp_path: Path) -> None:
    package = make.write_package(tmp_path / "package", make.one_column_model())
    (package / "model.onnx").unlink()
    os.mkfifo(package / "model.onnx")  # reading it waits, so the load goes on
    server = start(package)
    with server.client() as client:
        make.until(lambda: make.answers(client, "/v2/health/live") == 200, server)
        answers = [client.get("/ping"), client.get("/health"), client.post("/invocations", json={"instances": [1]})]
    assert {(a.status_code, a.headers["retry-after"], a.json()["code"]) for a in answers} == {(503, "1", "not_ready")}


def test_serve_listens_where_sagemaker_asks(make: Any, start: "Start", tmp_path: Path, free_port: int) -> None:
    package = make.write_package(tmp_path / "package", make.one_column_model())
    environ = {"SAGEMAKER_BIND_TO_PORT": str(free_port)}
    server = start(package, arguments=("serve",), environ=environ, MODEL_NAME="", PORT="1")
    assert server.address() == f"0.0.0.0:{free_port}"
    server.wait_ready()
    with server.client() as client:
        assert client.get("/ping").status_code == 200
        assert client.post("/invocations", json={"instances": [2]}).json() == {"predictions": [[2.0]]}
        assert client.get("/v2/models").json() == {"models": ["model"]}


def test_an_argument_nobody_knows_ends_the_process_with_a_word_for_it(
    make: Any, start: "Start", tmp_path: Path
) -> None:
    server = start(tmp_path, arguments=("train",))
    assert server.process.wait(20) == 2
    assert "unknown argument 'train'" in server.log
