"""Redis clients that give up in time.

redis-py 8 retries ten times with a 5 s timeout by default, so a vanished Redis would hold a caller
for minutes. Ours retry once. A client for blocking reads is a client of its own: its socket timeout
must outlast the block.

One Redis, the master that Sentinels name, or a cluster: callers cannot tell. They keep to what all of them have:
several keys in one command only if they share a hash tag (xread and mget are split, see redis_cluster), no PUBLISH in
a pipeline, EVAL in place of transactions and registered scripts.
"""

from pathlib import Path
from typing import Any, cast

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import ConstantBackoff
from redis.credentials import CredentialProvider

from kingmaker_servicekit import redis_address
from kingmaker_servicekit.redis_address import BadPassword, Target, read_password
from kingmaker_servicekit.redis_cluster import ClusterClient

BLOCK_MS = 1000
"""How long a blocking read waits at the server."""


def connect(where: str | Target, timeout_s: float = 0.5) -> "Redis":
    """A client for short commands: connect and reply within timeout_s, one retry, bytes in and out."""
    return _client(where, timeout_s, timeout_s)


def connect_blocking(where: str | Target) -> "Redis":
    """A client for XREAD BLOCK and pub/sub. Block for at most BLOCK_MS."""
    return _client(where, 1.0, BLOCK_MS / 1000 + 4)


class _Credentials(CredentialProvider):
    """Asked for every new connection; a refused login closes its own, so the next attempt reads the file anew."""

    def __init__(self, username: str, file: Path) -> None:
        self._username = username
        self._file = file

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        try:
            password = read_password(self._file)
        except BadPassword as error:  # the file was there at the start: a secret that is just being replaced
            raise exceptions.AuthenticationError(str(error)) from None
        return (self._username, password) if self._username else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return self.get_credentials()


class _LeavesReplicas(AbstractConnection):
    """A server that was made a replica keeps its connections, so one that stays would never find the new master behind
    its address. redis-py does the same where Sentinels name the master."""

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return await super().read_response(*args, **kwargs)
        except exceptions.ReadOnlyError as error:
            await self.disconnect(nowait=True)
            raise exceptions.ConnectionError(str(error)) from None  # is tried again, on a new connection


class _PlainConnection(_LeavesReplicas, Connection):
    pass


class _TlsConnection(_LeavesReplicas, SSLConnection):
    pass


class _MasterClient(Redis):
    """Closes the Sentinels' connections with its own."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.asked: Sentinel | None = None

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await super().aclose(close_connection_pool)
        if self.asked is not None:
            await self.asked.aclose()


def _client(where: str | Target, connect_s: float, reply_s: float) -> "Redis":
    target = Target(redis_address.parse(where)) if isinstance(where, str) else where
    address = target.address
    common = _timeouts(connect_s, reply_s) | _tls(target) | {"decode_responses": False, "protocol": 3}
    common |= _login(address.username, address.password, target.username, target.password_file)
    if address.kind == "cluster":
        nodes = [ClusterNode(host, port) for host, port in address.hosts]
        # the commands the services use are there in both, which redis-py's types do not say
        return cast("Redis", ClusterClient(startup_nodes=nodes, **common))
    if address.kind == "sentinel":
        # asked while somebody waits: short, and each Sentinel once, for there are others to ask
        asking = _timeouts(min(connect_s, 0.5), 0.5, retries=0) | _tls(target)
        asking |= _login("", "", target.sentinel_username, target.sentinel_password_file)
        sentinel: Sentinel = Sentinel(list(address.hosts), sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
        client = sentinel.master_for(address.master, redis_class=_MasterClient, db=address.db, **common)
        client.asked = sentinel
        return cast("Redis", client)
    if address.kind == "socket":
        return Redis(unix_socket_path=address.path, db=address.db, **common)
    [(host, port)] = address.hosts
    single = Redis(host=host, port=port, db=address.db, **common)
    single.connection_pool.connection_class = _TlsConnection if address.tls else _PlainConnection
    return single


def _timeouts(connect_s: float, reply_s: float, retries: int = 1) -> dict[str, Any]:
    return {
        "socket_connect_timeout": connect_s,
        "socket_timeout": reply_s,
        "retry": Retry(ConstantBackoff(0.05), retries),
    }


def _login(username: str, password: str, acl_user: str, file: Path | None) -> dict[str, Any]:
    if file is not None:
        return {"credential_provider": _Credentials(acl_user, file)}
    return {"username": username or None, "password": password or None}


def _tls(target: Target) -> dict[str, Any]:
    if not target.address.tls:
        return {}
    return {
        "ssl": True,
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
        "ssl_ca_certs": _text(target.ca_file),
        "ssl_certfile": _text(target.cert_file),
        "ssl_keyfile": _text(target.key_file),
    }


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
