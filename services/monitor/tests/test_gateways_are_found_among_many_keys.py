"""A Redis shared with others is not searched every second, and no gateway is missed for it."""

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import pytest
from redis.asyncio import Redis

from kingmaker_contracts import keys
from kingmaker_contracts.acks import EventAccount, GatewayAck
from kingmaker_contracts.wire import write_json
from kingmaker_monitor.ingest.discovery import SEARCH_AGAIN_S, SEARCH_S, Discovery

if TYPE_CHECKING:
    from services.monitor.tests.conftest import Process, World

OTHERS = 3_000


class Searching:
    """A Discovery on a Redis full of other people's keys, with a clock of its own."""

    def __init__(self, client: Any, redis: Redis, world: "World") -> None:
        self.client, self.world, self.now = client, world, 1000.0
        client.mset({f"session:{n}": "x" for n in range(OTHERS)})
        self._discovery = Discovery(redis, "default", lambda: self.now)

    def ack(self, producer: str, sent: int = 10, key: str = "", *, ended: bool = False) -> None:
        account = EventAccount(sent, 0, 1, sent)
        ack = GatewayAck(producer, 0, "", "", {}, {}, {self.world.model: account}, ended=ended)
        self.client.set(key or keys.gateway(producer), write_json(ack))

    async def look(self, *writing: str, later: float = 1.0) -> dict[str, int]:
        """Rows sent, by producer."""
        self.now += later
        self.found = await self._discovery.look(writing)
        acks = self.found.acks.get((self.world.model, 0), {})
        return {producer: account.sent for producer, account in acks.items()}

    @property
    def searches(self) -> int:
        """How often all keys were gone through."""
        calls = self.client.info("commandstats").get("cmdstat_scan", {}).get("calls", 0)
        return round(calls / (OTHERS / 500))


@pytest.fixture
async def searching(valkey: Any, publish: Callable[..., None], world: "World") -> AsyncIterator[Searching]:
    publish(valkey.client, world.plan())
    valkey.client.config_resetstat()
    async with Redis.from_url(valkey.url) as redis:
        yield Searching(valkey.client, redis, world)


async def test_known_gateways_are_asked_by_name(searching: Searching) -> None:
    searching.ack("a")
    searching.ack("b")
    assert await searching.look() == {"a": 10, "b": 10}
    for sent in range(11, 40):
        searching.ack("a", sent)
        assert await searching.look("a", "b") == {"a": sent, "b": 10}
    assert searching.searches == 1
    await searching.look("a", "b")
    assert searching.searches == 2, "after half a minute all keys are gone through again"


async def test_a_gateway_that_wrote_is_found_at_the_next_look(searching: Searching) -> None:
    searching.ack("a")
    await searching.look(later=SEARCH_AGAIN_S)
    searching.ack("b")
    assert await searching.look("a", later=SEARCH_AGAIN_S) == {"a": 10}
    assert await searching.look("a", "b") == {"a": 10, "b": 10}
    assert searching.searches == 2


async def test_a_gateway_that_wrote_nothing_is_found_within_half_a_minute(searching: Searching) -> None:
    await searching.look()
    searching.ack("a")
    assert await searching.look() == {}
    assert await searching.look(later=SEARCH_S) == {"a": 10}


async def test_the_last_words_of_a_killed_life_are_found_beside_its_next_one(searching: Searching) -> None:
    searching.ack("gw-1", key=keys.gateway("pod"))
    await searching.look(later=SEARCH_AGAIN_S)
    searching.ack("gw-1", 17, key=keys.former_gateway("pod", "gw-1"), ended=True)
    searching.ack("gw-2", 3, key=keys.gateway("pod"))
    assert await searching.look("gw-1", later=SEARCH_AGAIN_S) == {"gw-1": 17, "gw-2": 3}
    assert searching.found.ended == {"gw-1"}


async def test_one_that_is_missed_is_searched_for_every_other_second(searching: Searching) -> None:
    searching.ack("a")
    await searching.look()
    for _ in range(10):
        assert await searching.look("a", "gone") == {"a": 10}
    assert searching.searches == 1 + 10 / SEARCH_AGAIN_S
    searching.client.delete(keys.gateway("a"))
    assert await searching.look() == {}


def test_what_a_gateway_wrote_counts_though_it_is_gone(
    new_process: "Callable[..., Process]", publish: Callable[..., None], valkey: Any, world: "World"
) -> None:
    valkey.client.mset({f"session:{n}": "x" for n in range(OTHERS)})
    publish(valkey.client, world.plan(), world.batch(1), world.batch(3))
    publish(valkey.client, world.batch(1, 7, producer="gw-2", first=500))
    monitor = new_process(valkey.url)
    monitor.start()
    monitor.until(lambda: monitor.evidence().events.stored == 27)
    producers = monitor.until(
        lambda: (
            (found := monitor.get("/api/models/flights").json()["pipeline"]["producers"])
            and all(one["closed"] for one in found)
            and found
        )
    )
    assert {one["producer"]: (one["stored"], one["lost"]) for one in producers} == {"gw-1": (20, 10), "gw-2": (7, 0)}
