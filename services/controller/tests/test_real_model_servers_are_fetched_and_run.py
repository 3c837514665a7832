"""The controller with the real fetch step and the real model server, from a path beside the file."""

from typing import TYPE_CHECKING, Any

import httpx
import onnx
from onnx import TensorProto, helper

if TYPE_CHECKING:
    from services.controller.tests.conftest import Stack


def tiny_model(constant: float) -> bytes:
    """y = x + constant, for x of shape (rows, 2)."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 2])
    shift = helper.make_tensor("shift", TensorProto.FLOAT, [1], [constant])
    graph = helper.make_graph([helper.make_node("Add", ["x", "shift"], ["y"])], "tiny", [x], [y], [shift])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def test_two_local_models_are_served_under_the_models_name(stack: "Stack", valkey: Any, routing: Any) -> None:
    for name, constant in (("one", 1.0), ("two", 2.0)):
        (stack.folder / f"{name}.onnx").write_bytes(tiny_model(constant))
    stack.write(
        {
            "champion": {"name": "one", "model": "one.onnx"},
            "challengers": [{"name": "two", "model": "two.onnx"}],
            "weights": {"two": 25},
        }
    )
    stack.program = ["-m", "kingmaker_controller"]
    stack.start()
    record = stack.until(lambda: (r := routing(valkey.client)).ranges == "two:0-2499" and r, "both serve", 60)
    body = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}
    answers = {}
    for variant in record.variants:
        url = f"http://{variant.endpoints[0]}/v2/models/{variant.model_name}/infer"
        answer = httpx.post(url, json=body, trust_env=False, timeout=10).json()
        answers[variant.name] = (answer["model_name"], answer["model_version"], answer["outputs"][0]["data"])
    versions = {variant.name: variant.version for variant in record.variants}
    assert answers == {
        "one": ("flights", versions["one"], [2.0, 3.0]),
        "two": ("flights", versions["two"], [3.0, 4.0]),
    }
    stack.write({"champion": {"name": "one", "model": "../outside.onnx"}})
    stack.until(
        lambda: "outside.onnx" in stack.condition("ResolvedRefs")["message"], "a path that leaves the folder is refused"
    )
    assert stack.status()["champion"]["name"] == "one"
