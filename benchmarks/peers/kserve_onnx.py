"""KServe's Python model server over ONNX Runtime: `kserve_onnx.py NAME PORT`, the file in ONNX.

Runs in KServe's own environment.
"""

import os
import sys
from typing import Any

import kserve
import numpy as np
import onnxruntime
import uvicorn

_config = uvicorn.Config.__init__


def _on_loopback(self: uvicorn.Config, *args: Any, **options: Any) -> None:
    """KServe listens on every interface and has no setting for it."""
    _config(self, *args, **{**options, "host": "127.0.0.1"})


uvicorn.Config.__init__ = _on_loopback


class OnnxModel(kserve.Model):
    def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(os.environ["ONNX"], options, providers=["CPUExecutionProvider"])
        self.ready = True
        return True

    async def predict(self, payload: kserve.InferRequest, *_: Any, **__: Any) -> kserve.InferResponse:
        feed = {tensor.name: _array(tensor) for tensor in payload.inputs}
        label, probabilities = self._session.run(["label", "probabilities"], feed)
        outputs = [
            kserve.InferOutput("label", list(label.shape), "INT64", label.tolist()),
            kserve.InferOutput("probabilities", list(probabilities.shape), "FP32", probabilities.ravel().tolist()),
        ]
        return kserve.InferResponse(payload.id, self.name, outputs)


def _array(tensor: Any) -> Any:
    dtype = object if tensor.datatype == "BYTES" else np.float32
    return np.array(tensor.data, dtype=dtype).reshape(tensor.shape)


if __name__ == "__main__":
    name, port = sys.argv[1:]
    sys.argv = sys.argv[:1]  # kserve reads them too
    model = OnnxModel(name)
    model.load()
    kserve.ModelServer(
        http_port=int(port), enable_grpc=False, enable_latency_logging=False, workers=1, max_asyncio_workers=1
    ).start([model])
