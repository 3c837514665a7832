"""The ports of a local stack: free ones, or a row from a base so that they stay the same."""

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass

HOST = "127.0.0.1"
NAMES = ("gateway", "gateway_admin", "monitor", "controller", "mlflow", "redis")


@dataclass(slots=True, frozen=True)
class Ports:
    gateway: int
    gateway_admin: int
    monitor: int
    controller: int
    mlflow: int
    redis: int


class PortTaken(Exception):
    """A port of the asked-for row is in use."""


@contextlib.contextmanager
def hold(base: int | None) -> Iterator[Ports]:
    """Ports base, base + 1, ... in the order of NAMES; without a base any free ones. Raises PortTaken.

    Inside, they are bound and not listened on: the kernel gives them to nobody who asks for any port, and a service
    that is to have one, and sets SO_REUSEADDR as servers do, still gets it, also when it has to start again.
    """
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in NAMES]
        for offset, (name, sock) in enumerate(zip(NAMES, sockets, strict=True)):
            port = 0 if base is None else base + offset
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((HOST, port))
            except OSError:
                raise PortTaken(
                    f"port {port} ({name}) is taken by another process; choose another --port-base, or leave it out "
                    "to take free ports"
                ) from None
        yield Ports(*(sock.getsockname()[1] for sock in sockets))
