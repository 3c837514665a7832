"""Name servers that do not answer cost a bounded number of threads, and only the names they are asked for."""

import asyncio
import gc
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from kingmaker_gateway.addresses import Addresses
from kingmaker_gateway.resolver import THREADS, Resolver

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Kit


class NameServers:
    """A system's resolver: it blocks, at names called dead... until they speak again, at those called slow... until
    there is an answer for each question."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.known: dict[str, str] = {}
        self.speak = threading.Event()
        self.answers = threading.Semaphore(0)
        self._askers: set[threading.Thread] = set()

    @property
    def askers(self) -> int:
        """Threads that asked and are still there."""
        return sum(thread.is_alive() for thread in tuple(self._askers))

    def getaddrinfo(self, host: str, port: Any, *_: Any) -> list[Any]:
        self._askers.add(threading.current_thread())
        self.asked.append(host)
        if host.startswith("dead"):
            self.speak.wait(60)
        if host.startswith("slow"):
            self.answers.acquire(timeout=60)
        if host not in self.known:
            raise socket.gaierror(socket.EAI_NONAME, "no such host")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (self.known[host], 0))]


class Counted:
    """A resolver's getaddrinfo, and how often it was called; on_leave: somebody has stopped waiting."""

    def __init__(self, resolver: Resolver, on_leave: Callable[[], Any] = lambda: None) -> None:
        self._resolver = resolver
        self._on_leave = on_leave
        self.times = 0

    async def __call__(self, *query: Any, **hints: Any) -> Any:
        self.times += 1
        try:
            return await self._resolver.getaddrinfo(*query, **hints)
        except asyncio.CancelledError:
            self._on_leave()
            raise


@pytest.fixture
def servers() -> Iterator[NameServers]:
    servers = NameServers()
    yield servers
    servers.speak.set()


@pytest.fixture
async def resolver(servers: NameServers, kit: "Kit") -> AsyncIterator[Resolver]:
    resolver = Resolver(servers.getaddrinfo)
    yield resolver
    servers.speak.set()
    servers.answers.release(100)
    resolver.close()
    await kit.until(lambda: servers.askers == 0)


async def all_that_was_asked(servers: NameServers, resolver: Resolver) -> list[str]:
    """In the end: what waits in line is asked before the last name."""
    servers.speak.set()
    with pytest.raises(socket.gaierror):
        await resolver.getaddrinfo("the last", None)
    return servers.asked


async def test_a_silent_name_is_asked_once_however_many_rounds_go_by(
    servers: NameServers, resolver: Resolver, kit: "Kit"
) -> None:
    look_up = Counted(resolver)
    addresses = Addresses(0.01, lambda _: None, look_up)
    addresses.use(["dead:80"])
    await kit.until(lambda: look_up.times > 5)
    addresses.stop()
    assert await all_that_was_asked(servers, resolver) == ["dead", "the last"]


async def test_an_answer_later_than_a_round_counts(servers: NameServers, resolver: Resolver, kit: "Kit") -> None:
    """Each comes just after a round has given up."""
    look_up = Counted(resolver, on_leave=servers.answers.release)
    servers.known["slow"] = "10.0.0.1"
    told: list[list[str]] = []
    addresses = Addresses(0.05, told.append, look_up)
    addresses.use(["slow:80"])
    await kit.until(lambda: told == [["10.0.0.1:80"]])
    asked = len(servers.asked)
    await kit.until(lambda: len(servers.asked) > asked)  # and it is followed again
    addresses.stop()


async def test_a_name_is_followed_though_no_thread_was_to_be_had_at_first(
    servers: NameServers, resolver: Resolver, kit: "Kit", monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container may have as many as it is allowed."""
    refused, start = list[threading.Thread](), threading.Thread.start

    def refuse_twice(thread: threading.Thread) -> None:
        if thread.name.startswith("resolver") and len(refused) < 2:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_twice)
    servers.known["pods"] = "10.0.0.1"
    told: list[list[str]] = []
    addresses = Addresses(0.05, told.append, resolver.getaddrinfo)
    addresses.use(["pods:80"])
    await kit.until(lambda: told == [["10.0.0.1:80"]])
    assert len(refused) == 2
    addresses.stop()


async def test_a_silent_name_keeps_no_other_of_its_variant_from_being_followed(
    servers: NameServers, resolver: Resolver, kit: "Kit"
) -> None:
    servers.known["pods"] = "10.0.0.1"
    told: list[list[str]] = []
    addresses = Addresses(60.0, told.append, resolver.getaddrinfo)
    addresses.use(["dead:80", "pods:80"])
    await kit.until(lambda: told == [["10.0.0.1:80"]], within_s=20)  # long before a round ends
    addresses.stop()
    addresses = Addresses(0.01, told.append, resolver.getaddrinfo)
    addresses.use(["dead:80", "pods:80"])
    servers.known["pods"] = "10.0.0.2"
    await kit.until(lambda: told[-1] == ["10.0.0.2:80"])
    assert servers.asked.count("dead") == 1
    addresses.stop()


async def test_variants_that_come_and_go_do_not_ask_a_silent_name_again(
    servers: NameServers, resolver: Resolver, kit: "Kit"
) -> None:
    look_up = Counted(resolver)
    for _ in range(20):
        look_up.times = 0
        addresses = Addresses(60.0, lambda _: None, look_up)
        addresses.use(["dead:80", "dead:81"])
        await kit.until(lambda: look_up.times == 2)
        addresses.stop()
    assert await all_that_was_asked(servers, resolver) == ["dead", "the last"]


async def test_more_silent_names_than_threads_leave_other_work_alone(
    servers: NameServers, resolver: Resolver, kit: "Kit"
) -> None:
    names = [f"dead{n}" for n in range(3 * THREADS)]
    servers.known = dict.fromkeys(names, "10.0.0.1")
    answers = [asyncio.create_task(resolver.getaddrinfo(name, None)) for name in names]
    await kit.until(lambda: len(servers.asked) == THREADS)
    assert servers.askers == THREADS
    assert await asyncio.to_thread(lambda: "done") == "done"
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0) as server:
        _, writer = await asyncio.open_connection("localhost", server.sockets[0].getsockname()[1])
        writer.close()
    assert len(servers.asked) == THREADS
    servers.speak.set()
    assert len(await asyncio.gather(*answers)) == len(names)
    assert sorted(servers.asked) == sorted(names)


async def test_what_a_look_up_raises_reaches_who_waits_and_troubles_nobody_else(
    servers: NameServers, resolver: Resolver, kit: "Kit"
) -> None:
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    patient = asyncio.create_task(resolver.getaddrinfo("dead", None))
    hurried = asyncio.create_task(resolver.getaddrinfo("dead", None))
    alone = asyncio.create_task(resolver.getaddrinfo("dead too", None))
    await kit.until(lambda: len(servers.asked) == 2)
    hurried.cancel()
    alone.cancel()
    servers.speak.set()
    with pytest.raises(socket.gaierror):
        await patient
    resolver_of_the_system = Resolver()
    with pytest.raises(UnicodeError):
        await resolver_of_the_system.getaddrinfo("a..b", None)
    resolver_of_the_system.close()
    resolver.close()
    await kit.until(lambda: servers.askers == 0)  # they keep nothing alive any more
    assert (hurried.cancelled(), alone.cancelled()) == (True, True)
    del hurried, alone
    gc.collect()
    assert not complaints


async def test_threads_go_with_the_resolver(servers: NameServers, resolver: Resolver, kit: "Kit") -> None:
    asked = [asyncio.create_task(resolver.getaddrinfo(name, None)) for name in ("dead", "nobody")]
    await kit.until(asked[1].done)
    assert servers.askers == 2
    resolver.close()
    await kit.until(lambda: servers.askers == 1)  # the idle one
    servers.speak.set()
    await kit.until(lambda: servers.askers == 0)
    assert all(isinstance(error, socket.gaierror) for error in await asyncio.gather(*asked, return_exceptions=True))


_ENDS_WITH_A_LOOK_UP_OUT = """
import asyncio, threading
from kingmaker_gateway.resolver import Resolver

async def main():
    asked = threading.Event()
    def getaddrinfo(*_):
        asked.set()
        threading.Event().wait()
    waits = asyncio.create_task(Resolver(getaddrinfo).getaddrinfo("dead", None))
    while not asked.is_set():
        await asyncio.sleep(0.01)
    print("asked", flush=True)

asyncio.run(main())
"""


def test_a_look_up_under_way_keeps_no_process_from_ending() -> None:
    """Without anybody's help, as when a gateway cannot start."""
    command = [sys.executable, "-c", _ENDS_WITH_A_LOOK_UP_OUT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "asked\n", "")
