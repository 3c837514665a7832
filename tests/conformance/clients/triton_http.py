"""`tritonclient[http]` against one server: what it got, as JSON. Run in an environment of its own; see environments.py.

Standard input: {"address", "model", "version", "columns": {name: {"datatype", "shape", "data"}}, "outputs": [name]}.
"""

import json
import sys

import numpy as np
import tritonclient.http as triton


def infer_input(name, told, binary):
    array = np.array(told["data"], triton_types[told["datatype"]]).reshape(told["shape"])
    tensor = triton.InferInput(name, told["shape"], told["datatype"])
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def values(result, name):
    array = result.as_numpy(name)
    text = [v.decode() if isinstance(v, bytes) else v for v in array.ravel().tolist()]
    return {"shape": list(array.shape), "data": text}


triton_types = {"FP32": np.float32, "INT64": np.int64, "BYTES": np.object_}
asked = json.load(sys.stdin)
model, version, columns, outputs = asked["model"], asked["version"], asked["columns"], asked["outputs"]
told = {"answers": {}}
with triton.InferenceServerClient(asked["address"], concurrency=4, network_timeout=30.0) as client:
    told["live"] = client.is_server_live()
    told["ready"] = client.is_server_ready()
    told["model_ready"] = client.is_model_ready(model) and client.is_model_ready(model, version)
    told["stranger_ready"] = client.is_model_ready("nobody")
    told["server"] = client.get_server_metadata()
    told["metadata"] = client.get_model_metadata(model, version)
    names = list(columns)
    ways = {"JSON": (set(), False), "binary": (set(names), True), "mixed": (set(names[:1]), True)}
    for way, (raw, raw_out) in ways.items():
        inputs = [infer_input(name, columns[name], name in raw) for name in names]
        wanted = [triton.InferRequestedOutput(name, binary_data=raw_out) for name in outputs]
        result = client.infer(model, inputs, outputs=wanted, request_id=way, timeout=20_000_000)
        told["answers"][way] = {name: values(result, name) for name in outputs} | {"id": result.get_response()["id"]}
    # no outputs named: the client then asks for all of them as binary data
    result = client.infer(model, [infer_input(name, columns[name], True) for name in names], model_version=version)
    told["answers"]["all outputs"] = {name: values(result, name) for name in outputs}
    calls = [client.async_infer(model, [infer_input(n, columns[n], True) for n in names]) for _ in range(8)]
    for at, call in enumerate(calls):
        result = call.get_result()
        told["answers"][f"asynchronous {at}"] = {name: values(result, name) for name in outputs}
    try:
        client.infer(model, inputs, outputs=[triton.InferRequestedOutput("nothing")])
    except triton.InferenceServerException as error:
        told["refusal"] = {"status": error.status(), "message": error.message()}
json.dump(told, sys.stdout)
