"""Two servers behind one variant: one is killed, hangs, or leaves, under load, and no client notices."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pytest

from conftest import take_free_port
from kingmaker_contracts.routing import Limits
from kingmaker_gateway.addresses import Addresses
from kingmaker_gateway.endpoint import Endpoint
from kingmaker_gateway.settings import UpstreamSettings
from tests.fakes.fake_model_server import FakeModelServer, Fault, score_of

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Bench, Kit, Pair


@asynccontextmanager
async def two_servers(valkey: Any, pair: "Pair", kit: "Kit", **upstream: Any) -> AsyncIterator[SimpleNamespace]:
    """A gateway with the champion behind two addresses. upstream: settings."""
    async with (
        FakeModelServer(kit.champion_inputs, bias=1.0, name="lr-upstream", port=take_free_port()) as second,
        kit.running(kit.settings(valkey.url, upstream={"connections": 2, **upstream}), valkey.client) as bench,
    ):
        record = pair.record(limits=Limits(deadline_ms=3000))  # a hung server is given up after half of it
        lr, gbm = record.variants

        def served_by(*servers: FakeModelServer, revision: int) -> Any:
            own = msgspec.structs.replace(lr, endpoints=[server.address for server in servers])
            return msgspec.structs.replace(record, revision=revision, variants=[own, gbm])

        await bench.publish(served_by(pair.champion, second, revision=1), pair.profiles)
        await kit.until(lambda: pair.champion.connections > 0 and second.connections > 0)
        yield SimpleNamespace(bench=bench, first=pair.champion, second=second, served_by=served_by, pair=pair)


@pytest.fixture
async def two(valkey: Any, pair: "Pair", kit: "Kit") -> AsyncIterator[SimpleNamespace]:
    async with two_servers(valkey, pair, kit, eject_ms=300) as running:
        yield running


class Load:
    """Clients that ask one after another until they are stopped, and check every answer.

    Each has a connection of its own: in httpx's pool the quicker of two askers may take an idle connection from
    under the slower one time and again, and a test that asks beside this load would never get an answer.
    """

    def __init__(self, bench: "Bench", clients: int = 8) -> None:
        self.statuses: list[int] = []
        self._bench = bench
        self._stopped = False
        self._tasks = [asyncio.create_task(self._run(number)) for number in range(clients)]

    async def _run(self, number: int) -> None:
        body = {"instances": [{"distance": number, "carrier": "UA"}]}
        async with httpx.AsyncClient(base_url=self._bench.client.base_url, timeout=10) as client:
            while not self._stopped:
                answer = await client.post("/v1/models/flights:predict", json=body)
                self.statuses.append(answer.status_code)
                if answer.status_code == 200:
                    found = answer.json()["predictions"][0]["probabilities"][1]
                    assert found == pytest.approx(score_of([number, 2], 1.0))

    async def more(self, kit: "Kit", count: int) -> None:
        wanted = len(self.statuses) + count
        await kit.until(lambda: len(self.statuses) >= wanted, within_s=60)

    async def stop(self) -> list[int]:
        self._stopped = True
        await asyncio.gather(*self._tasks)
        return self.statuses


async def test_a_killed_server(two: SimpleNamespace, kit: "Kit") -> None:
    load = Load(two.bench)
    await load.more(kit, 100)
    await two.second.stop()
    await load.more(kit, 200)
    await two.second.start()
    calls = two.second.calls
    await kit.until(lambda: two.second.calls > calls + 5)  # it is found again
    assert set(await load.stop()) == {200}


async def test_a_server_that_dies_while_a_second_connection_is_opened_is_found_again(kit: "Kit") -> None:
    class Nobody:
        def replied(self, *_: Any) -> None: ...
        def lost(self, *_: Any) -> None: ...
        def changed(self) -> None: ...

    async with FakeModelServer(kit.champion_inputs, port=take_free_port()) as server:
        settings = UpstreamSettings(connections=2, backoff_first_ms=20)
        endpoint = Endpoint(server.address, settings, Nobody())
        endpoint.start()
        await kit.until(lambda: endpoint.has_idle and server._open)
        first = endpoint.take()
        assert first is not None
        endpoint.take()  # opens the second
        await server.stop()
        first.abort()
        await kit.until(lambda: not endpoint.is_up)
        await server.start()
        await kit.until(lambda: endpoint.is_up)
        await endpoint.close()


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.CLOSE])
async def test_a_server_that_hangs_or_hangs_up(two: SimpleNamespace, kit: "Kit", fault: Fault) -> None:
    load = Load(two.bench)
    await load.more(kit, 50)
    two.second.fault = fault
    await load.more(kit, 300)
    two.second.fault = Fault.NONE
    calls = two.second.calls
    await kit.until(lambda: two.second.calls > calls + 20)  # a probe found it well
    assert set(await load.stop()) == {200}


async def test_a_failing_server_is_left_alone(valkey: Any, pair: "Pair", kit: "Kit") -> None:
    settings = {"eject_failures": 3, "eject_ms": 600_000, "backoff_first_ms": 1}
    async with two_servers(valkey, pair, kit, **settings) as two:
        two.second.fault = Fault.CLOSE
        load = Load(two.bench, clients=1)
        await kit.until(lambda: two.second.calls == 3, within_s=20)
        await kit.until(lambda: two.second._open)  # there again, and it could be asked
        await load.more(kit, 60)
        assert two.second.calls == 3
        assert set(await load.stop()) == {200}


async def test_a_drained_server_leaves_without_an_error(two: SimpleNamespace, kit: "Kit") -> None:
    load = Load(two.bench)
    await load.more(kit, 50)
    await two.bench.publish(two.served_by(two.first, revision=2))
    await kit.until(lambda: not two.second._open)  # its connections are closed by the gateway, answers read
    calls = two.second.calls
    await load.more(kit, 50)
    assert two.second.calls == calls
    assert set(await load.stop()) == {200}


async def test_names_are_looked_up_again(kit: "Kit") -> None:
    """The one place without a real server: nobody can make the system's resolver change its mind."""
    answers: dict[str, list[str] | OSError] = {"pods": ["10.0.0.1", "10.0.0.2"]}

    class Resolver:
        async def getaddrinfo(self, host: str, port: int, **_: Any) -> list[Any]:
            found = answers[host]
            if isinstance(found, OSError):
                raise found
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    told: list[list[str]] = []
    addresses = Addresses(0.01, told.append, Resolver().getaddrinfo)
    addresses.use(["127.0.0.1:80", "pods:8000"])
    await kit.until(lambda: told[-1:] == [["127.0.0.1:80", "10.0.0.1:8000", "10.0.0.2:8000"]])
    answers["pods"] = OSError("no such host")
    await asyncio.sleep(0.05)
    assert told[-1] == ["127.0.0.1:80", "10.0.0.1:8000", "10.0.0.2:8000"]
    answers["pods"] = ["10.0.0.3"]
    await kit.until(lambda: told[-1] == ["127.0.0.1:80", "10.0.0.3:8000"])
    addresses.stop()
