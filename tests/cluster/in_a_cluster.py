"""`in_a_cluster.py -m MODULE ARGUMENTS`: a module with a cluster's DNS around it, as in a pod.

The name of a headless Service is the ready addresses of its EndpointSlices; all other names are nobody's business
here. CLUSTER is the address of the fake API server.
"""

import asyncio
import os
import runpy
import socket
import sys
from typing import Any

import httpx
import uvloop

_plain = socket.getaddrinfo


def ready_addresses(name: str) -> list[str]:
    """Raises gaierror when there is none."""
    service, namespace, _ = name.split(".")
    url = f"{os.environ['CLUSTER']}/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    query = {"labelSelector": f"kubernetes.io/service-name={service}"}
    answer = httpx.get(url, params=query, timeout=2, trust_env=False)
    ready = [
        address
        for found in answer.json()["items"]
        for endpoint in found["endpoints"]
        if endpoint["conditions"]["ready"]
        for address in endpoint["addresses"]
    ]
    if not ready:
        raise socket.gaierror(socket.EAI_NONAME, f"{name} has no address")
    return ready


def getaddrinfo(host: Any, port: Any, *more: Any, **named: Any) -> Any:
    name = host.decode() if isinstance(host, bytes) else str(host)
    if not name.endswith(".svc"):
        return _plain(host, port, *more, **named)
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, int(port or 0))) for address in ready_addresses(name)]


class Loop(uvloop.Loop):
    """uvloop asks for names without the socket module, and when it connects, without asking itself."""

    async def getaddrinfo(self, host: Any, port: Any, **more: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        if not name.endswith(".svc"):
            return await super().getaddrinfo(host, port, **more)
        return await asyncio.to_thread(getaddrinfo, name, port)

    # one signature for all of its overloads
    async def create_connection(  # type: ignore[override]
        self, factory: Any, host: Any = None, port: Any = None, **more: Any
    ) -> Any:
        if isinstance(host, str) and host.endswith(".svc"):
            host = (await asyncio.to_thread(ready_addresses, host))[0]
        return await super().create_connection(factory, host, port, **more)


if __name__ == "__main__":
    socket.getaddrinfo = getaddrinfo
    # what new_event_loop makes, and what the gateway's own loop is made from
    uvloop.Loop = Loop  # type: ignore[misc]
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
