"""A model server as a tutorial writes it: FastAPI, pydantic and ONNX Runtime. `plain_fastapi.py PORT PATH`, the file in
ONNX. Runs in our own environment."""

import os
import sys
from typing import Any

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel


class Tensor(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[Any]


class Request(BaseModel):
    id: str
    inputs: list[Tensor]


class Response(BaseModel):
    id: str
    outputs: list[Tensor]


def app(path: str) -> FastAPI:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(os.environ["ONNX"], options, providers=["CPUExecutionProvider"])
    served = FastAPI()

    @served.post(path)
    async def infer(request: Request) -> Response:
        feed = {tensor.name: _array(tensor) for tensor in request.inputs}
        label, probabilities = session.run(["label", "probabilities"], feed)
        outputs = [
            Tensor(name="label", shape=list(label.shape), datatype="INT64", data=label.tolist()),
            Tensor(
                name="probabilities",
                shape=list(probabilities.shape),
                datatype="FP32",
                data=probabilities.ravel().tolist(),
            ),
        ]
        return Response(id=request.id, outputs=outputs)

    return served


def _array(tensor: Tensor) -> Any:
    dtype = object if tensor.datatype == "BYTES" else np.float32
    return np.array(tensor.data, dtype=dtype).reshape(tensor.shape)


if __name__ == "__main__":
    port, path = sys.argv[1:]
    uvicorn.run(app(path), host="127.0.0.1", port=int(port), log_level="warning", access_log=False)
