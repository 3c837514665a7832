"""The ports of a local stack: free ones, or a row from a base so that they stay the same."""

import socket
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


def choose(base: int | None) -> Ports:
    """Ports base, base + 1, ... in the order of NAMES; without a base any free ones. Raises PortTaken.

    They are tried and let go again, so another program may still take one: the service that finds it
    taken then says so.
    """
    sockets: list[socket.socket] = []
    try:
        for offset, name in enumerate(NAMES):
            port = 0 if base is None else base + offset
            sock = socket.socket()
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((HOST, port))
            except OSError:
                raise PortTaken(
                    f"port {port} ({name}) is taken by another process; choose another --port-base, or leave it out "
                    "to take free ports"
                ) from None
        return Ports(*(sock.getsockname()[1] for sock in sockets))
    finally:
        for sock in sockets:
            sock.close()
