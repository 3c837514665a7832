"""A BentoML service over ONNX Runtime; runs in BentoML's environment. The file is in ONNX, the route in ROUTE."""

import os
from typing import Any

import bentoml
import numpy as np
import onnxruntime


@bentoml.service(workers=1, metrics={"enabled": False}, traffic={"max_concurrency": 100000})
class Onnx:
    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(os.environ["ONNX"], options, providers=["CPUExecutionProvider"])

    @bentoml.api(route=os.environ["ROUTE"])
    async def infer(self, id: str, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        feed = {tensor["name"]: _array(tensor) for tensor in inputs}
        label, probabilities = self._session.run(["label", "probabilities"], feed)
        return {
            "id": id,
            "outputs": [
                {"name": "label", "shape": list(label.shape), "datatype": "INT64", "data": label.tolist()},
                {
                    "name": "probabilities",
                    "shape": list(probabilities.shape),
                    "datatype": "FP32",
                    "data": probabilities.ravel().tolist(),
                },
            ],
        }


def _array(tensor: dict[str, Any]) -> Any:
    dtype = object if tensor["datatype"] == "BYTES" else np.float32
    return np.array(tensor["data"], dtype=dtype).reshape(tensor["shape"])
