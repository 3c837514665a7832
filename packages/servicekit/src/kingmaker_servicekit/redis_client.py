"""Redis clients that give up in time.

redis-py 8 retries ten times with a 5 s timeout by default, so a vanished Redis would hold a caller
for minutes. Ours retry once. A client for blocking reads is a client of its own: its socket timeout
must outlast the block.
"""

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff

BLOCK_MS = 1000
"""How long a blocking read waits at the server."""


def connect(url: str, timeout_s: float = 0.5) -> "Redis":
    """A client for short commands: connect and reply within timeout_s, one retry, bytes in and out."""
    return _client(url, timeout_s, timeout_s)


def connect_blocking(url: str) -> "Redis":
    """A client for XREAD BLOCK and pub/sub. Block for at most BLOCK_MS."""
    return _client(url, 1.0, BLOCK_MS / 1000 + 4)


def _client(url: str, connect_s: float, reply_s: float) -> "Redis":
    return Redis.from_url(
        url,
        socket_connect_timeout=connect_s,
        socket_timeout=reply_s,
        retry=Retry(ConstantBackoff(0.05), 1),
        protocol=3,
        decode_responses=False,
    )
