"""What a model leaves in Redis when it is deleted, or its versions when they are replaced: it goes after a day.

A withdrawal tells gateways meanwhile that it was deleted.

Streams and profiles are not deleted at once: a resource that was deleted by mistake, or is made anew, finds what was
not read yet. A script sets their time and takes it away again only while the routing record says so too, so the last
words of a leader that lost its lease end nothing of a model that is there. (A profile that it may still hit is written
again: the leader looks for those in every sweep.)
"""

import logging
from collections.abc import Set
from typing import Any, Final, cast

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from kingmaker_contracts import keys, wire
from kingmaker_contracts.keys import MAX_PARTITIONS
from kingmaker_contracts.plan import Plan
from kingmaker_contracts.routing import Withdrawal

logger = logging.getLogger(__name__)

STAY_S: Final = 86_400
_SAY: Final = """
if redis.call('EXISTS', KEYS[1]) ~= tonumber(ARGV[1]) then return 0 end
if ARGV[1] == '1' then redis.call('DEL', KEYS[2]) else redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[3]) end
return 1
"""
"""KEYS: routing, withdrawal. ARGV: whether routing is there, the withdrawal, how long it stands."""
_SET_TIMES: Final = """
if redis.call('EXISTS', KEYS[1]) ~= tonumber(ARGV[1]) then return 0 end
for i = 2, #KEYS do
  if i <= 1 + tonumber(ARGV[2]) then
    redis.call('PERSIST', KEYS[i])
  elseif redis.call('TTL', KEYS[i]) == -1 then
    redis.call('EXPIRE', KEYS[i], ARGV[3])
  end
end
return 1
"""
"""KEYS: routing, those that stay, those that go. ARGV: whether routing is there, how many stay, seconds until they
go."""


class Leftovers:
    """Of every model. Methods raise redis.RedisError; but where the right to do this is missing, as with ACLs of an
    earlier release, things stay for ever as they did then, which is said once."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._is_refused = False

    async def of_model(self, namespace: str, name: str, profiles: Set[str], epoch: int) -> None:
        """The model is gone, by the word of this epoch's leader: its streams and these profiles are to go."""
        said = wire.write_json(Withdrawal(namespace, name, epoch))
        await self._say(_SAY, [keys.routing(namespace, name), keys.withdrawal(namespace, name)], 0, said, STAY_S)
        go = [*_streams(namespace, name), *_profiles(namespace, name, profiles)]
        await self._set_times(namespace, name, is_there=False, stay=[], go=go)

    async def of_versions(self, namespace: str, name: str, former: Set[str], profiles: Set[str]) -> None:
        """The model is there with these profiles: what of the former ones it has no more is to go."""
        await self._say(_SAY, [keys.routing(namespace, name), keys.withdrawal(namespace, name)], 1)
        stay = [*_streams(namespace, name), *_profiles(namespace, name, profiles)]
        go = _profiles(namespace, name, former - profiles)
        await self._set_times(namespace, name, is_there=True, stay=stay, go=go)

    async def _set_times(self, namespace: str, name: str, *, is_there: bool, stay: list[str], go: list[str]) -> None:
        names = [keys.routing(namespace, name), *stay, *go]
        await self._say(_SET_TIMES, names, int(is_there), len(stay), STAY_S)

    async def _say(self, script: str, names: list[str], *arguments: Any) -> None:
        try:
            await cast(Any, self._redis.eval(script, len(names), *names, *arguments))
        except ResponseError as error:
            if not self._is_refused:
                logger.warning("what models leave in Redis stays there", extra={"error": str(error)})
            self._is_refused = True


def profiles_of(raw: bytes | None) -> frozenset[str]:
    """Those a stored plan names; none when it cannot be read."""
    try:
        variants = [] if raw is None else wire.read_json(raw, Plan).variants
    except wire.BadRecord:
        return frozenset()
    return frozenset(variant.profile for variant in variants if variant.profile is not None)


def _streams(namespace: str, name: str) -> list[str]:
    """All there can be: how many there are is a setting of the gateways'."""
    return [
        of(namespace, name, partition) for of in (keys.events, keys.feedback) for partition in range(MAX_PARTITIONS)
    ]


def _profiles(namespace: str, name: str, profiles: Set[str]) -> list[str]:
    return [keys.profile(namespace, name, sha256) for sha256 in sorted(profiles)]
