"""The clients every service is given, against a Sentinel and a cluster that lose a server."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from redis.exceptions import RedisError
from redis.typing import KeyT, StreamIdT

from conftest import Valkey
from kingmaker_servicekit import redis_client
from tests.redis.servers import RIGHTS, Cluster, Watched

FLIGHTS, LOANS = "km:{default/flights}:events:0", "km:{default/loans}:events:0"
FIRST, SECOND, THIRD = (f"km:{{default/{name}}}:x" for name in ("flights", "loans", "rain"))


async def eventually(call: Callable[[], Awaitable[Any]], seconds: float = 20.0) -> Any:
    """What a call gives once Redis takes it, as a service's loop would ask again."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await call()
        except (RedisError, OSError):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


async def next_message(channel: Any, seconds: float = 20.0) -> bytes | None:
    """The first that is none of a subscription's own."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        message = await channel.get_message(timeout=0.2)
        if message is not None:
            return bytes(message["data"])
    return None


async def test_a_sentinel_names_the_master_and_later_its_successor(watched: Watched) -> None:
    short, blocking = redis_client.connect(watched.url), redis_client.connect_blocking(watched.url)
    await short.set("before", "1")
    async with blocking.pubsub(ignore_subscribe_messages=True) as channel:
        await channel.subscribe("km:routing")
        await short.publish("km:routing", "default/flights")
        assert await next_message(channel) == b"default/flights"
    watched.master.client.wait(1, 1000)
    await asyncio.to_thread(watched.fail_over)
    assert await eventually(lambda: short.get("before")) == b"1"
    await eventually(lambda: short.xadd(FLIGHTS, {"b": "1"}))
    assert [*(await eventually(lambda: blocking.xread({FLIGHTS: "0"}, block=100)))] == [FLIGHTS.encode()]
    assert watched.replica.client.xlen(FLIGHTS) >= 1
    await short.aclose()
    await blocking.aclose()


async def test_keys_of_many_slots_are_written_and_read_as_with_one_redis(cluster: Cluster) -> None:
    client = redis_client.connect(cluster.url)
    pipeline = client.pipeline(transaction=False)
    for key in (FIRST, SECOND, THIRD):
        pipeline.set(key, key)
    assert await pipeline.execute() == [True] * 3
    assert len({cluster.nodes[0].client.execute_command("CLUSTER", "KEYSLOT", k) for k in (FIRST, SECOND, THIRD)}) == 3
    assert await client.mget([SECOND, "km:missing", FIRST]) == [SECOND.encode(), None, FIRST.encode()]
    found = {key async for key in client.scan_iter("km:{default/*}:x", count=100)}
    assert found == {key.encode() for key in (FIRST, SECOND, THIRD)}
    await client.aclose()


async def test_a_key_of_another_type_is_none_among_many_as_with_one_redis(cluster: Cluster, valkey: Valkey) -> None:
    for url in (cluster.url, valkey.url):
        client = redis_client.connect(url)
        for key in (FIRST, SECOND):
            await client.delete(key)
        await client.set(FIRST, "a")
        await client.lpush(SECOND, "no text")
        assert await client.mget([FIRST, SECOND]) == [b"a", None]
        await client.delete(SECOND)
        await client.aclose()


async def test_scripts_run_where_their_models_keys_are(cluster: Cluster) -> None:
    client = redis_client.connect(cluster.url)
    with pytest.raises(RedisError, match="use EVAL"):
        client.pipeline(transaction=True)
    script = "redis.call('SET', KEYS[1], ARGV[1]); return {redis.call('EXISTS', KEYS[2]), 'x'}"
    for name in ("flights", "loans", "rain"):
        names = [f"km:{{default/{name}}}:routing", f"km:{{default/{name}}}:plan"]
        assert await client.eval(script, 2, *names, "1") == [0, b"x"]
    mixed = client.pipeline(transaction=False)
    mixed.eval("return ARGV[1]", 1, FIRST, "a")
    mixed.eval("return ARGV[1]", 1, SECOND, "b")
    mixed.xinfo_stream("km:{default/loans}:nothing")
    first, second, missing = await mixed.execute(raise_on_error=False)
    assert (first, second) == (b"a", b"b")
    assert "no such key" in str(missing)
    await client.aclose()


async def test_a_blocking_read_of_many_slots_ends_with_what_comes(cluster: Cluster) -> None:
    client, reader = redis_client.connect(cluster.url), redis_client.connect_blocking(cluster.url)
    for key in (FLIGHTS, LOANS):
        await client.delete(key)
    streams: dict[KeyT, StreamIdT] = {FLIGHTS: "0", LOANS: "0"}
    assert not await reader.xread(streams, block=20)
    waiting = asyncio.ensure_future(reader.xread(streams, count=10, block=5000))
    written = await client.xadd(LOANS, {"b": "1"})
    assert await waiting == {LOANS.encode(): [[(written, {b"b": b"1"})]]}
    await client.xadd(FLIGHTS, {"b": "2"})
    assert {*(await reader.xread(streams, block=5000))} == {FLIGHTS.encode(), LOANS.encode()}
    await client.aclose()
    await reader.aclose()


async def test_announcements_reach_who_listens_at_another_node(cluster: Cluster) -> None:
    client, listener = redis_client.connect(cluster.url), redis_client.connect_blocking(cluster.url)
    async with listener.pubsub(ignore_subscribe_messages=True) as channel:
        await channel.subscribe("km:routing")
        for node in cluster.nodes[:3]:
            node.client.publish("km:routing", "x")
            assert await next_message(channel) == b"x"
        await client.publish("km:routing", "y")
        assert await next_message(channel) == b"y"
    await client.aclose()
    await listener.aclose()


async def test_an_acl_user_of_a_cluster_needs_two_rights_more(cluster: Cluster) -> None:
    for node in cluster.nodes:
        more = ["+cluster|slots", "+command"]
        node.client.execute_command("ACL", "SETUSER", "gateway", "on", ">secret", *RIGHTS["gateway"], *more)
    url = cluster.url.replace("://", "://gateway:secret@")
    client, blocking = redis_client.connect(url), redis_client.connect_blocking(url)
    assert await client.smembers("km:models") == set()
    await client.xadd(LOANS, {"b": "1"})
    async with blocking.pubsub() as channel:
        await channel.subscribe("km:routing")
    await client.aclose()
    await blocking.aclose()
    assert [node.client.acl_log() for node in cluster.nodes] == [[]] * 4


async def test_a_cluster_that_is_away_is_a_redis_that_is_away(free_port: int) -> None:
    client = redis_client.connect(f"redis+cluster://127.0.0.1:{free_port}")
    pipeline = client.pipeline()
    pipeline.get("x")
    for call in (client.get("x"), pipeline.execute(), client.xread({"x": "0"}, block=10)):
        with pytest.raises(RedisError):
            await asyncio.wait_for(call, 10)
    with pytest.raises(RedisError):
        async with client.pubsub() as channel:
            await channel.subscribe("km:routing")
    await client.aclose()


async def test_a_replica_that_takes_over_is_found_by_every_client(cluster: Cluster) -> None:
    short, blocking = redis_client.connect(cluster.url), redis_client.connect_blocking(cluster.url)
    listening = redis_client.connect_blocking(cluster.url)

    async def heard() -> Any:
        async with listening.pubsub(ignore_subscribe_messages=True) as channel:
            await channel.subscribe("km:routing")
            await short.publish("km:routing", "x")
            return await next_message(channel)

    async def written() -> list[Any]:
        pipeline = short.pipeline(transaction=False)
        for key in (FLIGHTS, LOANS):
            pipeline.xadd(key, {"b": "1"})
        results = await pipeline.execute(raise_on_error=False)
        if any(isinstance(result, Exception) for result in results):
            raise RedisError(str(results))
        return results

    assert await heard() and await written() and await blocking.xread({FLIGHTS: "0", LOANS: "0"}, block=100)
    cluster.primary.client.wait(1, 1000)
    await asyncio.to_thread(cluster.fail_over)
    assert len(await eventually(written)) == 2
    assert {*(await eventually(lambda: blocking.xread({FLIGHTS: "0", LOANS: "0"}, block=100)))} == {
        FLIGHTS.encode(),
        LOANS.encode(),
    }
    assert await eventually(heard)
    for client in (short, blocking, listening):
        await client.aclose()
