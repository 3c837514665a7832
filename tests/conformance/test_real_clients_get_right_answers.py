"""The clients people have, unchanged, against gateway and model server; ONNX Runtime says what is right.

Slow only because the clients' environments may have to be downloaded; once made they take seconds.
"""

from typing import Any

import numpy as np
import pytest

from tests.conformance import environments
from tests.conformance.answers import same
from tests.conformance.models import Oracle
from tests.conformance.stack import Target

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROWS = [(1400.0, 3.0, "UA"), (187.5, -2.25, "Ünbekannt"), (733.0, 41.0, "")]
FLIGHTS = {
    "distance": {"datatype": "FP32", "shape": [3, 1], "data": [row[0] for row in ROWS]},
    "delay": {"datatype": "FP32", "shape": [3, 1], "data": [row[1] for row in ROWS]},
    "carrier": {"datatype": "BYTES", "shape": [3, 1], "data": [row[2] for row in ROWS]},
}
BLOCK = {"x": {"datatype": "FP32", "shape": [2, 4], "data": [0.5, -1, 1e6, 3, 4, 5, 6, 7]}}
MODELS: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "flights": (FLIGHTS, [list(row) for row in ROWS]),
    "block": (BLOCK, [[0.5, -1, 1e6, 3], [4, 5, 6, 7]]),
}


def expected_of(oracle: Oracle, columns: dict[str, Any]) -> dict[str, Any]:
    types: dict[str, Any] = {"FP32": np.float32, "BYTES": object}
    return oracle({n: np.array(c["data"], types[c["datatype"]]).reshape(c["shape"]) for n, c in columns.items()})


def ask(target: Target, model: str, oracle: Oracle, client: str, script: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the client got, and what is right; every answer is already compared."""
    columns, rows = MODELS[model]
    expected = expected_of(oracle, columns)
    asked = {"address": target.addresses[model], "model": model, "version": target.version, "columns": columns}
    told = environments.run(client, script, asked | {"outputs": list(expected), "rows": rows})
    for way, answer in told["answers"].items():
        for name, array in expected.items():
            found = np.array(answer[name]["data"]).reshape(answer[name]["shape"])
            assert same(found, array), f"{way}: {name} is {found}, expected {array}"
        assert answer.get("id", way) == way
    return told, expected


@pytest.mark.parametrize("model", MODELS)
def test_tritonclient_gets_right_answers(target: Target, oracles: dict[str, Oracle], model: str) -> None:
    told, expected = ask(target, model, oracles[model], "tritonclient", "triton_http.py")
    assert len(told["answers"]) == 12
    assert (told["live"], told["ready"], told["model_ready"], told["stranger_ready"]) == (True, True, True, False)
    assert "binary_tensor_data" in told["server"]["extensions"]
    assert [output["name"] for output in told["metadata"]["outputs"]] == list(expected)
    assert told["refusal"]["status"] == "400"
    assert "'nothing'" in told["refusal"]["message"]


@pytest.mark.parametrize("model", MODELS)
def test_kserves_client_gets_right_answers(target: Target, oracles: dict[str, Oracle], model: str) -> None:
    told, expected = ask(target, model, oracles[model], "kserve", "kserve_rest.py")
    assert len(told["answers"]) == 4
    assert told["live"] is told["ready"] is told["model_ready"] is True
    assert told["refusal"]["status"] == 400
    assert "'nothing'" in told["refusal"]["message"]
    assert told["v1"]["live"] is told["v1"]["model_ready"] is True
    predictions = told["v1"]["answer"]["predictions"]
    for name, array in expected.items():
        found = np.array([p[name] for p in predictions] if len(expected) > 1 else predictions)
        assert same(found, array), name
