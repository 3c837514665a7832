"""KServe's InferenceRESTClient against one server: what it got, as JSON. Run in an environment of its own.

Standard input: as for triton_http.py, and "rows": V1 instances.
"""

import asyncio
import json
import sys

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput

types = {"FP32": np.float32, "INT64": np.int64, "BYTES": np.object_}


def infer_input(name, told, binary):
    tensor = InferInput(name, told["shape"], told["datatype"])
    tensor.set_data_from_numpy(np.array(told["data"], types[told["datatype"]]).reshape(told["shape"]), binary)
    return tensor


def values(answer, name):
    array = answer.get_output_by_name(name).as_numpy()
    text = [v.decode() if isinstance(v, bytes) else v for v in array.ravel().tolist()]
    return {"shape": list(array.shape), "data": text}


async def speak_v2(base, model, columns, outputs):
    told = {"answers": {}}
    async with InferenceRESTClient(RESTConfig(protocol="v2", timeout=30)) as client:
        told["live"] = await client.is_server_live(base)
        told["ready"] = await client.is_server_ready(base)
        told["model_ready"] = await client.is_model_ready(base, model)
        names = list(columns)
        ways = {"JSON": (set(), False), "binary": (set(names), True), "mixed": (set(names[:1]), True)}
        for way, (raw, raw_out) in ways.items():
            inputs = [infer_input(name, columns[name], name in raw) for name in names]
            request = InferRequest(model, inputs, way, parameters={"binary_data_output": raw_out})
            answer = await client.infer(base, request, model)
            told["answers"][way] = {name: values(answer, name) for name in outputs} | {"id": answer.id}
        inputs = [infer_input(name, columns[name], True) for name in names]
        wanted = [RequestedOutput(name, parameters={"binary_data": at == 0}) for at, name in enumerate(outputs)]
        answer = await client.infer(base, InferRequest(model, inputs, "named", request_outputs=wanted), model)
        told["answers"]["named outputs"] = {name: values(answer, name) for name in outputs}
        try:
            wanted = [RequestedOutput("nothing")]
            await client.infer(base, InferRequest(model, inputs, request_outputs=wanted), model)
        except httpx.HTTPStatusError as error:
            told["refusal"] = {"status": error.response.status_code, "message": str(error)}
    return told


async def speak_v1(base, model, rows):
    async with InferenceRESTClient(RESTConfig(protocol="v1", timeout=30)) as client:
        return {
            "live": await client.is_server_live(base),
            "model_ready": await client.is_model_ready(base, model),
            "answer": await client.infer(base, {"instances": rows}, model),
        }


async def main():
    asked = json.load(sys.stdin)
    base, model = f"http://{asked['address']}", asked["model"]
    told = await speak_v2(base, model, asked["columns"], asked["outputs"])
    told["v1"] = await speak_v1(base, model, asked["rows"])
    json.dump(told, sys.stdout)


asyncio.run(main())
