"""The event loop a gateway runs on: uvloop, with a resolver of the gateway's own behind getaddrinfo.

It serves those who call getaddrinfo themselves, which are those who follow the names of model servers. What connects
by name, as to Redis, goes on to use uvloop's threads: neither waits behind names only the other asks for.
"""

import socket
from typing import Any

import uvloop

from kingmaker_gateway.resolver import Found, Resolver


class EventLoop(uvloop.Loop):
    def __init__(self) -> None:
        super().__init__()
        self._resolver = Resolver(socket.getaddrinfo)

    async def getaddrinfo(
        self, host: Any, port: Any, *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> Found:
        return await self._resolver.getaddrinfo(host, port, family, type, proto, flags)

    def close(self) -> None:
        self._resolver.close()
        super().close()
