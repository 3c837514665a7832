"""What `helm test` runs in a pod: one prediction through the gateway.

Settings are environment variables: URL; MODEL (empty: the first that is served); BODY (empty: one row made up from
the model's metadata); TOKEN_FILE (lines name:token, the first is used); CERT_FILE (the gateway's certificate);
NEEDED (names of models that must be there).
"""

import json
import os
import pathlib
import ssl
import sys
import urllib.error
import urllib.request
from typing import Any

SAMPLES: dict[str, Any] = {"BYTES": "", "BOOL": True}


def ask(path: str, body: str | None = None) -> tuple[dict[str, str], Any]:
    headers = {"content-type": "application/json"}
    if os.environ.get("TOKEN_FILE"):
        text = pathlib.Path(os.environ["TOKEN_FILE"]).read_text()
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
        headers["authorization"] = "Bearer " + lines[0].partition(":")[2]
    request = urllib.request.Request(os.environ["URL"] + path, None if body is None else body.encode(), headers)
    with urllib.request.urlopen(request, timeout=10, context=trusted()) as answer:
        return dict(answer.headers), json.load(answer)


def trusted() -> ssl.SSLContext | None:
    """Exactly the gateway's own certificate: it names the address clients use, which is not the Service's."""
    if not os.environ.get("CERT_FILE"):
        return None
    context = ssl.create_default_context(cafile=os.environ["CERT_FILE"])
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.check_hostname = False
    return context


def made_up(model: str) -> str:
    inputs = ask(f"/v2/models/{model}")[1]["inputs"]
    tensors = []
    for one in inputs:
        shape = [1 if size < 0 else size for size in one["shape"]]
        count = 1
        for size in shape:
            count *= size
        data = [SAMPLES.get(one["datatype"], 0)] * count
        tensors.append({"name": one["name"], "datatype": one["datatype"], "shape": shape, "data": data})
    return json.dumps({"inputs": tensors})


def main() -> int:
    served = ask("/v2/models")[1]["models"]
    model = os.environ.get("MODEL") or (served[0] if served else "")
    if not model:
        needed = os.environ.get("NEEDED", "")
        print("the gateway answers and serves no model yet" + (f"; it should serve {needed}" if needed else ""))
        return 1 if needed else 0
    try:
        headers, answer = ask(f"/v2/models/{model}/infer", os.environ.get("BODY") or made_up(model))
    except urllib.error.HTTPError as error:
        print(f"{model}: {error.code} {error.read().decode(errors='replace')}")
        return 1
    headers = {name.lower(): value for name, value in headers.items()}
    print(f"{model}: {headers['x-variant']} answered {headers['x-prediction-id']}: {answer['outputs']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
