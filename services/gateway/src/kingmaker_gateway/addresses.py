"""The addresses behind the names of a variant's endpoints, looked up again every few seconds.

A headless Service is one name with an address for each ready pod; balancing needs the pods. A look-up that
fails changes nothing: yesterday's addresses beat none.
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
    after each change; look_up: the loop's getaddrinfo."""

    def __init__(
        self, resolve_s: float, on_change: Callable[[list[str]], None], look_up: Callable[..., Awaitable[Any]]
    ) -> None:
        self._getaddrinfo = look_up
        self._resolve_s = resolve_s
        self._on_change = on_change
        self._wanted: tuple[str, ...] = ()
        self._found: dict[str, list[str]] = {}
        self._task: asyncio.Task[None] | None = None

    def use(self, endpoints: Sequence[str]) -> None:
        if tuple(endpoints) == self._wanted:
            return
        self._wanted = tuple(endpoints)
        names = [endpoint for endpoint in endpoints if not _is_address(endpoint)]
        self._found = {name: self._found.get(name, []) for name in names}
        self._tell()
        self.stop()
        if names:
            self._task = asyncio.create_task(self._follow(names), name="resolve endpoints")

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def _tell(self) -> None:
        flat = [address for endpoint in self._wanted for address in self._found.get(endpoint, [endpoint])]
        if flat or not self._wanted:  # until a new name is known, the old addresses stand in
            self._on_change(list(dict.fromkeys(flat)))

    async def _follow(self, names: list[str]) -> None:
        while True:
            before = {name: set(found) for name, found in self._found.items()}
            await asyncio.gather(*(self._look_up(name) for name in names))
            if any(set(self._found[name]) != before[name] for name in names):
                self._tell()
            await asyncio.sleep(self._resolve_s)

    async def _look_up(self, name: str) -> None:
        host, _, port = name.rpartition(":")
        try:
            async with asyncio.timeout(self._resolve_s):
                found = await self._getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
        except (OSError, ValueError) as error:  # OSError: also a time-out; ValueError: no name at all
            logger.debug("name not resolved", extra={"endpoint": name, "reason": str(error)})
            return
        self._found[name] = [
            f"[{address!s}]:{port}" if family == socket.AF_INET6 else f"{address!s}:{port}"
            for family, _, _, _, (address, *_) in found
        ]


def _is_address(endpoint: str) -> bool:
    try:
        ipaddress.ip_address(endpoint.rpartition(":")[0].strip("[]"))
    except ValueError:
        return False
    return True
