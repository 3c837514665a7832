"""A cluster that answers like one Redis.

What differs is made up for here, so that no service knows: several keys of several slots in one command, and errors
that are no RedisError although the servers are merely away. redis-py's client also keeps a list of nodes that a
failed subscription never renews; here it does.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from redis import exceptions
from redis.asyncio.cluster import ClusterPipeline, ClusterPubSub, RedisCluster

from kingmaker_servicekit.redis_errors import is_wrong_type

_LOOK_S = 0.05
"""How often streams are looked at during a blocking read, at most."""
_REST = 10
"""And how many times as long as a look took to rest: 0.2 ms of processor time a slot, 30 ms for 200 models."""


@contextmanager
def _as_redis_errors() -> Iterator[None]:
    """No reachable node, or slots nobody has, are a Redis that is away."""
    try:
        yield
    except exceptions.RedisClusterException as error:
        raise exceptions.ConnectionError(str(error)) from error


class _Pipeline(ClusterPipeline):
    async def execute(self, raise_on_error: bool = True, allow_redirections: bool = True) -> list[Any]:
        with _as_redis_errors():
            return await super().execute(raise_on_error, allow_redirections)


class _PubSub(ClusterPubSub):
    """A message published at one node is passed on to all, so any node will do."""

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        with _as_redis_errors():
            try:
                await self.cluster.initialize()
                return await super().execute_command(*args, **kwargs)
            except (exceptions.ConnectionError, exceptions.TimeoutError):
                await self.cluster.aclose()  # ask for the nodes anew: the one that had the channel may be gone for good
                raise


class ClusterClient(RedisCluster):
    """redis-py's client with the differences hidden."""

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        with _as_redis_errors():
            return await super().execute_command(*args, **kwargs)

    def pipeline(self, transaction: Any | None = None, *_: Any) -> ClusterPipeline:
        """Raises DataError for a transaction: redis-py runs its commands in threads with loops of their own, whose
        connections then lie in the pool of this one. A script does it."""
        if transaction:
            raise exceptions.DataError("no transaction on a cluster; use EVAL")
        return _Pipeline(self)  # type: ignore[abstract]  # the attribute is set by its parent

    def pubsub(self, *_: Any, **kwargs: Any) -> ClusterPubSub:
        return _PubSub(self, **kwargs)

    async def mget(self, keys: Any, *args: Any) -> list[Any]:
        """One GET each, at all nodes at once."""
        pipeline = self.pipeline()
        for key in [*([keys] if isinstance(keys, (str, bytes)) else keys), *args]:
            pipeline.get(key)
        answers = await pipeline.execute(raise_on_error=False)
        for answer in answers:
            if isinstance(answer, Exception) and not is_wrong_type(answer):  # to MGET that is nothing
                raise answer
        return [None if isinstance(answer, Exception) else answer for answer in answers]

    async def xread(  # type: ignore[override]  # narrower than redis-py's: what is used
        self, streams: Mapping[Any, Any], count: int | None = None, block: int | None = None
    ) -> dict[bytes, Any]:
        """One XREAD for each slot, at all nodes at once, again and again while nothing is there.

        A read that blocks would need a connection for every model; looking costs each node one round trip.
        """
        clock = asyncio.get_running_loop().time
        until = clock() + (block or 0) / 1000
        while True:
            looked = clock()
            pipeline = self.pipeline()
            for part in self._by_slot(streams):
                pipeline.xread(part, count=count)
            found = _joined(await pipeline.execute())
            now = clock()
            if found or now >= until:
                return found
            pause = max(_LOOK_S, _REST * (now - looked))
            await asyncio.sleep(min(pause, until - now))
            if clock() >= until:  # the caller comes again at once, and that will be the next look
                return {}

    def _by_slot(self, streams: Mapping[Any, Any]) -> Iterable[dict[Any, Any]]:
        parts: dict[int, dict[Any, Any]] = {}
        for name, offset in streams.items():
            parts.setdefault(self.keyslot(name), {})[name] = offset
        return parts.values()


def _joined(answers: list[Any]) -> dict[bytes, Any]:
    return {name: entries for answer in answers if answer for name, entries in answer.items()}
