"""The addresses behind the names of a variant's endpoints, looked up again every few seconds.

A headless Service is one name with an address for each ready pod; balancing needs the pods. A look-up that
fails changes nothing: yesterday's addresses beat none. Each name is followed by itself, so one whose name server is
silent keeps nobody from hearing of the others.
"""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

logger = logging.getLogger(__name__)


class Addresses:
    """endpoints: host:port, host a name or an address. on_change: told all addresses, as soon as there are any and
    after each change; look_up: the loop's getaddrinfo, which must bear being asked again for a name under way."""

    def __init__(
        self, resolve_s: float, on_change: Callable[[list[str]], None], look_up: Callable[..., Awaitable[Any]]
    ) -> None:
        self._getaddrinfo = look_up
        self._resolve_s = resolve_s
        self._on_change = on_change
        self._wanted: tuple[str, ...] = ()
        self._found: dict[str, list[str]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def use(self, endpoints: Sequence[str]) -> None:
        if tuple(endpoints) == self._wanted:
            return
        self._wanted = tuple(endpoints)
        names = [endpoint for endpoint in endpoints if not _is_address(endpoint)]
        self._found = {name: self._found.get(name, []) for name in names}
        self._tell()
        self.stop()
        self._tasks = [asyncio.create_task(self._follow(name), name=f"resolve {name}") for name in self._found]

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks = []

    def _tell(self) -> None:
        flat = [address for endpoint in self._wanted for address in self._found.get(endpoint, [endpoint])]
        if flat or not self._wanted:  # until a new name is known, the old addresses stand in
            self._on_change(list(dict.fromkeys(flat)))

    async def _follow(self, name: str) -> None:
        while True:
            pause_s = self._resolve_s
            try:
                async with asyncio.timeout(self._resolve_s) as patience:
                    found = await self._look_up(name)
            except (OSError, ValueError) as error:  # OSError: also a time-out; ValueError: no name at all
                logger.debug("name not resolved", extra={"endpoint": name, "reason": str(error)})
                if patience.expired():
                    pause_s = 0  # its answer may still come, and is not to be missed
            else:
                is_other = set(found) != set(self._found[name])
                self._found[name] = found
                if is_other:
                    self._tell()
            await asyncio.sleep(pause_s)

    async def _look_up(self, name: str) -> list[str]:
        host, _, port = name.rpartition(":")
        if not 0 <= int(port) < 2**16:
            raise ValueError(f"found port {port}, expected one up to 65535")
        found = await self._getaddrinfo(host, None, type=socket.SOCK_STREAM)  # one question for all ports of a host
        return [
            f"[{address!s}]:{port}" if family == socket.AF_INET6 else f"{address!s}:{port}"
            for family, _, _, _, (address, *_) in found
        ]


def _is_address(endpoint: str) -> bool:
    try:
        ipaddress.ip_address(endpoint.rpartition(":")[0].strip("[]"))
    except ValueError:
        return False
    return True
