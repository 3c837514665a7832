"""A server that was demoted is left for the one that now stands behind its address."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import RedisError

from conftest import Valkey
from kingmaker_servicekit import redis_client

if TYPE_CHECKING:
    from redis.asyncio import Redis


class Door:
    """An address of its own that leads to `port`, as a Service or a name does: connections that are open stay."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, here = await asyncio.open_connection("127.0.0.1", self.port)
        await asyncio.gather(copy(reader, here), copy(there, writer), return_exceptions=True)


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.closing(writer):
        while data := await reader.read(65536):
            writer.write(data)


@asynccontextmanager
async def opened(door: Door) -> AsyncIterator[str]:
    server = await asyncio.start_server(door.pass_on, "127.0.0.1", 0)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def set_alone(client: "Redis") -> Any:
    return await client.set("followed", "1")


async def set_in_a_pipeline(client: "Redis") -> Any:
    pipeline = client.pipeline(transaction=False)
    pipeline.get("followed")
    pipeline.set("followed", "1")
    return (await pipeline.execute(raise_on_error=False))[-1]


async def set_in_a_script(client: "Redis") -> Any:
    return bool(await client.eval("return redis.call('SET', KEYS[1], ARGV[1])", 1, "followed", "1"))


@pytest.mark.parametrize("write", [set_alone, set_in_a_pipeline, set_in_a_script])
async def test_writes_go_to_the_successor_of_a_server_that_became_a_replica(
    own_valkey: Valkey, valkey: Valkey, free_port: int, write: Callable[["Redis"], Awaitable[Any]]
) -> None:
    door = Door(own_valkey.port)
    async with opened(door) as url:
        client = redis_client.connect(url, timeout_s=20)
        assert await write(client) is True
        own_valkey.client.replicaof("127.0.0.1", str(free_port))
        door.port = valkey.port
        assert await write(client) is True
        assert valkey.client.get("followed") == b"1"
        await client.aclose()


async def test_a_replica_without_a_successor_is_an_error_in_its_own_words(own_valkey: Valkey, free_port: int) -> None:
    client = redis_client.connect(own_valkey.url, timeout_s=20)
    own_valkey.client.replicaof("127.0.0.1", str(free_port))
    with pytest.raises(RedisError, match="read only replica"):
        await client.set("followed", "1")
    assert await client.get("followed") is None
    await client.aclose()
