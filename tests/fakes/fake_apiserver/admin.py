"""The switches over HTTP, for a server that runs as a process: POST /fake/NAME?..., GET /fake/requests."""

from typing import Any, cast

from tests.fakes.fake_apiserver.cluster import Cluster
from tests.fakes.fake_apiserver.faults import Faults, How


def answer(method: str, path: str, query: dict[str, str], faults: Faults, cluster: Cluster) -> tuple[int, Any]:
    name = path.removeprefix("/fake/")
    if method == "GET" and name == "requests":
        return 200, {"requests": [request._asdict() for request in faults.seen()]}
    if method != "POST":
        return 405, {"error": "POST /fake/{compact,drop_watches,half_open,latency,trouble,clear}, GET /fake/requests"}
    if name == "compact":
        cluster.store.compact()
    elif name == "drop_watches":
        faults.drop_watches()
    elif name == "half_open":
        faults.half_open = query.get("on", "true") == "true"
    elif name == "latency":
        faults.latency_s = float(query["seconds"])
    elif name == "trouble":
        faults.trouble(
            query.get("verb", ""),
            query.get("path", ""),
            times=int(query.get("times", 1)),
            code=int(query.get("code", 503)),
            how=cast(How, query.get("how", "answer")),
        )
    elif name == "clear":
        faults.clear()
    else:
        return 404, {"error": f"no switch is called {name}"}
    return 200, {}
