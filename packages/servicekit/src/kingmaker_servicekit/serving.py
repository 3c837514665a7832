"""Listen on one or more ports in one event loop, and drain on SIGTERM or SIGINT.

Sockets are bound before anything else is started, so a taken port is a clear refusal and not a
half-started service. On a signal every listener stops accepting, requests in flight get `drain_s`
to finish, then the lifespan handlers run and the process ends with code 0. A second signal ends it at once.
"""

import asyncio
import contextlib
import errno
import gc
import logging
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from kingmaker_servicekit.accepting import BACKLOG, Acceptor

logger = logging.getLogger(__name__)


class PortTaken(OSError):
    """Somebody else listens there."""


@dataclass(slots=True, frozen=True)
class Listener:
    """One app on one socket. http: uvicorn's protocol class or its name; lifespan: whether the app has one; tls:
    files of a certificate and its key."""

    name: str
    app: Any
    socket: socket.socket
    http: Any = "httptools"
    lifespan: bool = False
    tls: tuple[Path, Path] | None = None

    @property
    def address(self) -> str:
        host, port = self.socket.getsockname()[:2]
        return f"{host}:{port}"


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one. Raises PortTaken, which names the address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio sends without delay on such alone
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(
                error.errno, f"port {port} on {host} is taken by another process; choose another port"
            ) from None
        raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from None
    sock.setblocking(False)
    return sock


class _Server(uvicorn.Server):
    """uvicorn's server without its own signal handlers, for all listeners have one owner of signals, and with acceptors
    of our own in place of the event loop's servers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[])
        self.servers = [Acceptor(sock, self._make_protocol, self.config.ssl) for sock in sockets or []]  # type: ignore[misc]

    def _make_protocol(self) -> HttpToolsProtocol:
        protocol = cast("type[HttpToolsProtocol]", self.config.http_protocol_class)
        return protocol(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)


async def serve(listeners: Sequence[Listener], drain_s: float = 5.0) -> None:
    """Serve until SIGTERM or SIGINT, then drain. The last listener stops first (metrics outlive nothing)."""
    servers = [_Server(_config(listener, drain_s)) for listener in listeners]

    def stop() -> None:
        for server in servers:
            server.force_exit = server.should_exit
            server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    tasks = [
        asyncio.create_task(server.serve(sockets=[listener.socket]), name=listener.name)
        for server, listener in zip(servers, listeners, strict=True)
    ]
    _settle_heap()
    for listener in listeners:
        logger.info("listening", extra={"listener": listener.name, "address": listener.address})
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for server in servers:  # not stop(): the listener that is drained first must not hurry the others
            server.should_exit = True
        await asyncio.gather(*tasks)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    if any(not server.started for server in servers):
        raise RuntimeError("a listener did not start; its lifespan failed")


def leave() -> NoReturn:
    """End the process with code 0 when all is drained and said, and leave the event loop unclosed.

    Closing it waits for every name lookup under way, which nothing can cancel: while a name server did not answer, a
    drained gateway took another 52 s to end, and in a pod would have been killed.
    """
    logging.shutdown()
    os._exit(0)


def _settle_heap() -> None:
    """Spare the garbage collector what lives as long as the process.

    Modules and apps are some 300,000 objects, which a full collection walks while every request waits; and a busy
    event loop makes and drops objects by the thousand a second, nearly all of them freed by reference counts alone.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def _config(listener: Listener, drain_s: float) -> uvicorn.Config:
    return uvicorn.Config(
        listener.app,
        http=listener.http,
        ws="none",
        lifespan="on" if listener.lifespan else "off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(drain_s)),
        timeout_keep_alive=75,
        backlog=BACKLOG,
        ssl_certfile=None if listener.tls is None else str(listener.tls[0]),
        ssl_keyfile=None if listener.tls is None else str(listener.tls[1]),
    )
