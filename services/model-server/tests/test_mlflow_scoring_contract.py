"""MLflow scoring: /invocations, /ping, /health, /version as MLflow's own server and client have them.

MLflow is the oracle: its scoring server has the same ONNX models, with the signature that says their types, and both
get every body. Where they part, the test says how.
"""

import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import onnx
import pandas as pd
import pytest

from kingmaker_model_server import frames

if TYPE_CHECKING:
    from tests.conftest import Server

ROWS = [{"distance": 1400.0, "delay": 40.0, "carrier": "UA"}, {"distance": 700.0, "delay": 0.0, "carrier": "AA"}]
COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}
TENSORS = {name: [[value] for value in values] for name, values in COLUMNS.items()}
SPLIT = {"columns": list(COLUMNS), "index": [0, 1], "data": [list(row.values()) for row in ROWS]}


def mlflow_server(model: bytes, inputs: Mapping[str, tuple[str, tuple[int, ...]]], folder: Path) -> Any:
    """MLflow's scoring server around a model, as an ASGI app."""
    import mlflow.onnx
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.pyfunc import scoring_server
    from mlflow.types.schema import Schema, TensorSpec

    schema = Schema([TensorSpec(np.dtype(kind), shape, name) for name, (kind, shape) in inputs.items()])
    mlflow.onnx.save_model(
        onnx.load_from_string(model), folder, signature=ModelSignature(schema), pip_requirements=["onnxruntime"]
    )
    return scoring_server.init(mlflow.pyfunc.load_model(str(folder)))


@pytest.fixture(scope="module")
def apps(make: Any, flights_bytes: bytes, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("mlflow")
    flights = {"distance": ("float32", (-1, 1)), "delay": ("float32", (-1, 1)), "carrier": ("object", (-1, 1))}
    return {
        "flights": mlflow_server(flights_bytes, flights, folder / "flights"),
        "block": mlflow_server(make.sum_and_copy_model(), {"x": ("float32", (-1, 3))}, folder / "block"),
        "one": mlflow_server(make.one_column_model(), {"x": ("float32", (-1, 1))}, folder / "one"),
    }


@pytest.fixture(scope="module")
def ours(make: Any, core: Any) -> dict[str, Any]:
    return {
        "flights": core,
        "block": make.Core(make.sum_and_copy_model()),
        "one": make.Core(make.one_column_model()),
    }


@pytest.fixture
async def theirs(apps: dict[str, Any]) -> AsyncIterator[Any]:
    clients = {n: httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://m") for n, app in apps.items()}

    async def post(model: str, body: Any) -> tuple[int, Any]:
        answer = await clients[model].post("/invocations", json=body)
        return answer.status_code, answer.json().get("predictions")

    yield post
    for client in clients.values():
        await client.aclose()


ALIKE = [
    ("flights", {"dataframe_split": SPLIT}),
    ("flights", {"dataframe_split": {k: v for k, v in SPLIT.items() if k != "index"}, "params": None}),
    ("flights", {"dataframe_records": ROWS}),
    ("flights", {"inputs": TENSORS}),
    ("block", {"inputs": [[1, 2, 3], [4, 5, 6]]}),
    ("block", {"inputs": {"x": [[1, 2, 3], [4, 5, 6]]}}),
    ("block", {"dataframe_split": {"columns": ["x"], "data": [[[1, 2, 3]], [[4, 5, 6]]]}}),
    ("one", {"dataframe_split": {"columns": ["x"], "data": [[1], [2]]}}),
    ("one", {"dataframe_records": [{"x": 1}, {"x": 2.5}]}),
    ("one", {"inputs": [[1], [2]]}),
]


@pytest.mark.parametrize(("model", "body"), ALIKE)
async def test_mlflow_gives_the_same_answer(ours: dict[str, Any], theirs: Any, model: str, body: Any) -> None:
    status, expected = await theirs(model, body)
    assert status == 200
    assert_alike(ours[model].invoke(body), expected)


def assert_alike(answer: tuple[int, Any], expected: dict[str, Any]) -> None:
    status, found = answer
    assert status == 200, found
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert np.allclose(found[name], values, atol=1e-6), name


REFUSED_BY_BOTH = [
    ("flights", {}, "expected an object with exactly one of"),
    ("flights", {"data": [1]}, 'the body has "data", expected'),
    ("flights", {"inputs": COLUMNS, "dataframe_records": ROWS}, 'the body has "inputs", "dataframe_records"'),
    ("flights", [1], "the body is an array"),
    ("flights", {"dataframe_split": ROWS}, '"dataframe_split" is an array, expected an object'),
    ("flights", {"dataframe_split": {"columns": ["distance"]}}, '"dataframe_split" has no "data"'),
    ("flights", {"dataframe_split": SPLIT | {"names": []}}, '"dataframe_split" has the unknown field "names"'),
    ("flights", {"dataframe_split": SPLIT | {"data": [[1]]}}, "row 0 has 1 values, expected 3, one a column"),
    ("flights", {"dataframe_records": {"distance": 1}}, '"dataframe_records" is an object, expected an array'),
    ("flights", {"dataframe_records": [{"delay": 1, "carrier": "UA"}]}, "input 'distance': row 0 has no value"),
    ("flights", {"dataframe_records": [ROWS[0] | {"distance": "far"}]}, "row 0: .*'distance'.*\"far\""),
    ("flights", {"inputs": COLUMNS | {"delay": [1]}}, "inputs: 'delay' has 1 rows, but 'distance' has 2"),
    ("flights", {"inputs": "x"}, '"inputs" is a string, expected an array'),
    ("block", {"inputs": [[1, 2]]}, "row 0: input 'x' has 2 values, expected 3"),
    ("one", {"inputs": {"y": [1]}}, "row 0: unknown feature 'y'; the model takes 'x'"),
]


@pytest.mark.parametrize(("model", "body", "text"), REFUSED_BY_BOTH)
async def test_what_mlflow_refuses_is_refused_by_its_name(
    ours: dict[str, Any], theirs: Any, model: str, body: Any, text: str
) -> None:
    assert (await theirs(model, body))[0] == 400
    status, error = ours[model].invoke(body)
    assert status == 400
    assert re.search(text, error), error


async def test_unlike_mlflow_what_would_have_no_effect_is_refused(ours: dict[str, Any], theirs: Any) -> None:
    for body, text in [
        ({"inputs": TENSORS, "params": {"temperature": 1}}, '"params" is not empty'),
        ({"dataframe_split": SPLIT, "verbose": True}, 'unknown field "verbose"'),
        ({"dataframe_records": [row | {"speed": 1} for row in ROWS]}, "unknown feature 'speed'"),
    ]:
        assert (await theirs("flights", body))[0] == 200
        status, error = ours["flights"].invoke(body)
        assert status == 400
        assert text in error


async def test_unlike_mlflow_a_column_of_inputs_may_be_flat(ours: dict[str, Any], theirs: Any) -> None:
    assert (await theirs("flights", {"inputs": COLUMNS}))[0] == 400
    assert ours["flights"].invoke({"inputs": COLUMNS}) == ours["flights"].invoke({"inputs": TENSORS})


async def test_unlike_mlflow_instances_are_answered_row_by_row(ours: dict[str, Any], theirs: Any) -> None:
    """SageMaker, Vertex AI and KServe all ask for one prediction an instance."""
    by_output = (await theirs("one", {"instances": [[1], [2]]}))[1]
    status, by_row = ours["one"].invoke({"instances": [[1], [2]]})
    assert (status, by_row) == (200, by_output["y"])


def test_unlike_mlflow_columns_of_other_names_fill_a_vector(ours: dict[str, Any]) -> None:
    expected = {"total": [6.0, 15.0], "twice": [[2.0, 4.0, 6.0], [8.0, 10.0, 12.0]]}
    data = [[1, 2, 3], [4, 5, 6]]
    names = ["feature1", "feature2", "feature3"]
    block = ours["block"]
    assert block.invoke({"dataframe_split": {"columns": names, "data": data}}) == (200, expected)
    assert block.invoke({"dataframe_split": {"data": data}}) == (200, expected)
    records = [dict(zip(names, row, strict=True)) for row in data]
    assert block.invoke({"dataframe_records": records}) == (200, expected)
    turned = [records[0], dict(reversed(records[1].items()))]
    assert block.invoke({"dataframe_records": turned})[1].endswith(
        "row 1 has other columns than row 0, or in another order"
    )


BAD_FRAMES = [
    ({"dataframe_split": {"columns": ["distance", "distance"], "data": [[1, 2]]}}, "column 'distance' stands twice"),
    ({"dataframe_split": {"columns": ["distance", None], "data": [[1, 2]]}}, "column 1 is null, expected a name"),
    ({"dataframe_split": {"columns": "distance", "data": [[1]]}}, '"dataframe_split.columns" is a string'),
    ({"dataframe_split": {"columns": ["distance"], "data": {}}}, '"dataframe_split.data" is an object'),
    ({"dataframe_split": {"columns": ["distance"], "data": []}}, "dataframe_split holds no rows"),
    ({"dataframe_split": {"columns": ["distance"], "data": [1]}}, "dataframe_split: row 0 is a number"),
    ({"dataframe_records": []}, "dataframe_records holds no rows"),
    ({"dataframe_records": [ROWS[0], 1]}, "dataframe_records: row 1 is a number, expected an object"),
    ({"inputs": {}}, "inputs names no input"),
    ({"inputs": []}, '"inputs" is empty'),
    ({"inputs": {"distance": 1}}, "inputs: 'distance' is a number, expected an array"),
    ({"inputs": {"distance": []}}, "inputs holds no rows"),
]


@pytest.mark.parametrize(("body", "text"), BAD_FRAMES)
def test_a_bad_table_is_400_and_names_the_field(core: Any, body: Any, text: str) -> None:
    status, error = core.invoke(body)
    assert status == 400
    assert text in error


def test_names_of_columns_are_not_compared_each_with_each(core: Any) -> None:
    """A body of as many short names as fit would keep all other requests waiting for hours."""
    compared = 0

    class Name(str):
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

    columns = [Name(at) for at in range(1000)]
    rows = frames.rows_of(columns, [list(range(1000))], "dataframe_split", core.predictor.loaded.signature)
    assert rows == [{str(at): at for at in range(1000)}]
    assert compared < 10 * len(columns)


def test_mlflows_own_client_is_served(shared: "Server", client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    host, port = shared.address().split(":")
    theirs = ScoringServerClient(host, int(port))
    theirs.wait_server_ready(timeout=10)
    assert theirs.get_version() == client.get("/v2").json()["version"]
    frame = theirs.invoke(pd.DataFrame(ROWS)).get_predictions()
    assert frame["label"].tolist() == [1, 0]
    assert client.get("/health").status_code == 200
    with pytest.raises(Exception, match=r"error code 400.*unknown feature 'speed'"):
        theirs.invoke(pd.DataFrame([{"speed": 1.0}]))


def test_a_frame_written_as_csv_by_pandas_is_read(core: Any) -> None:
    text = pd.DataFrame(ROWS).to_csv(index=False).encode()
    assert core.invoke(text, "text/csv; charset=UTF-8") == core.invoke({"instances": ROWS})
