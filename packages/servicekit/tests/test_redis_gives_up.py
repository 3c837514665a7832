"""A Redis that is away or hangs never holds a caller for long."""

import asyncio
import contextlib
import os
import signal

import pytest
import redis.asyncio
from redis.exceptions import RedisError

from conftest import Valkey
from kingmaker_servicekit import redis_client


async def test_a_refused_connection_is_an_error_at_once(free_port: int) -> None:
    client = redis_client.connect(f"redis://127.0.0.1:{free_port}")
    with pytest.raises(RedisError):
        await asyncio.wait_for(client.ping(), 20)
    await client.aclose()


async def test_a_hanging_server_is_given_up(own_valkey: Valkey) -> None:
    client = redis_client.connect(own_valkey.url, timeout_s=0.1)
    await _answered(client)
    assert own_valkey._process is not None
    os.kill(own_valkey._process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(RedisError):
            await asyncio.wait_for(client.ping(), 20)
    finally:
        os.kill(own_valkey._process.pid, signal.SIGCONT)
    await client.aclose()


async def _answered(client: "redis.asyncio.Redis") -> None:
    """So that there is a connection. On a busy machine the first answers may be too late for so short a patience."""
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(RedisError):
                await client.ping()
                return


async def test_a_blocking_read_outlasts_its_block(valkey: Valkey) -> None:
    client = redis_client.connect_blocking(valkey.url)
    assert await client.xread({"nothing": "0"}, block=redis_client.BLOCK_MS) in ([], {}, None)
    await client.aclose()
