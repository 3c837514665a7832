"""A custom runtime of MLServer over ONNX Runtime, in its fastest setting: no workers, no batching.

Runs in MLServer's own environment.
"""

import os
from typing import Any

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput


class OnnxModel(MLModel):
    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(os.environ["ONNX"], options, providers=["CPUExecutionProvider"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        feed = {tensor.name: _array(tensor) for tensor in payload.inputs}
        label, probabilities = self._session.run(["label", "probabilities"], feed)
        outputs = [
            ResponseOutput(name="label", shape=list(label.shape), datatype="INT64", data=label.tolist()),
            ResponseOutput(
                name="probabilities",
                shape=list(probabilities.shape),
                datatype="FP32",
                data=probabilities.ravel().tolist(),
            ),
        ]
        return InferenceResponse(model_name=self.name, id=payload.id, outputs=outputs)


def _array(tensor: Any) -> Any:
    dtype = object if tensor.datatype == "BYTES" else np.float32
    return np.array(list(tensor.data), dtype=dtype).reshape(tensor.shape)
