"""Routing, plan and profiles in Redis: read what stands there, replace it only by something newer.

Routing and plan change together in one script that compares (epoch, revision), so a leader that lost
its lease without noticing cannot put an old record back.
"""

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, Final, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from kingmaker_contracts import keys, wire
from kingmaker_contracts.acks import GatewayAck
from kingmaker_contracts.plan import Plan
from kingmaker_contracts.profile import Signature
from kingmaker_contracts.routing import RoutingRecord
from kingmaker_controller import leftovers
from kingmaker_controller.errors import StoreUnavailable
from kingmaker_controller.leftovers import Leftovers
from kingmaker_controller.rollout import signatures
from kingmaker_controller.rollout.facts import GatewayView

logger = logging.getLogger(__name__)

CALL_TIMEOUT_S: Final = 2.0

_REPLACE: Final = """
local stored = redis.call('GET', KEYS[1])
if stored and stored ~= ARGV[1] and stored ~= ARGV[2] then
  local good, record = pcall(cjson.decode, stored)
  local epoch = good and type(record) == 'table' and tonumber(record.epoch) or 0
  local revision = good and type(record) == 'table' and tonumber(record.revision) or 0
  local e, r = tonumber(ARGV[4]), tonumber(ARGV[5])
  if epoch > e or (epoch == e and revision >= r) then
    return {0, epoch, revision}
  end
end
redis.call('SET', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], ARGV[3])
return {1, 0, 0}
"""
"""KEYS: routing, plan. ARGV: new routing, a malformed value that may be overwritten, new plan, epoch, revision.
The index and the channel have slots of their own, so they follow outside of the script."""

_REMOVE: Final = """
local stored = redis.call('GET', KEYS[1])
if stored then
  local good, record = pcall(cjson.decode, stored)
  local epoch = good and type(record) == 'table' and tonumber(record.epoch) or 0
  local revision = good and type(record) == 'table' and tonumber(record.revision) or 0
  local e, seen = tonumber(ARGV[1]), tonumber(ARGV[2])
  if epoch > e or (epoch == e and seen and revision > seen) then return 0 end
end
redis.call('DEL', KEYS[1])
return {redis.call('GET', KEYS[2])}
"""
"""KEYS: routing, plan. ARGV: epoch, the highest revision to be removed or nothing. Returns the plan that stands there,
0 when nothing is removed."""

_REMOVE_PLAN: Final = """
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('DEL', KEYS[2]) end
"""
"""KEYS: routing, plan. Once what it names is seen to: a removal that was broken off before finds it again."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What stands there. malformed: why the routing value is unreadable; raw: that value; plan: as stored;
    is_indexed: the model is in keys.MODELS; profiles: those of the asked that are there."""

    record: RoutingRecord | None
    malformed: str = ""
    raw: bytes = b""
    plan: bytes | None = None
    is_indexed: bool = False
    profiles: frozenset[str] = frozenset()


class Overtaken(Exception):
    """A record that is as new as ours or newer stands there."""

    def __init__(self, epoch: int, revision: int) -> None:
        super().__init__(f"epoch {epoch}, revision {revision} is stored")
        self.epoch = epoch
        self.revision = revision


class RedisStore:
    """redis: a client with short timeouts, bytes in and out. Every method raises StoreUnavailable."""

    def __init__(self, redis: "Redis") -> None:
        self._redis = redis
        self._leftovers = Leftovers(redis)

    async def read(self, namespace: str, name: str, profiles: frozenset[str]) -> Stored:
        """The stored records of one model, and which of these profiles are there."""
        wanted = sorted(profiles)
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.get(keys.routing(namespace, name))
        pipeline.get(keys.plan(namespace, name))
        pipeline.sismember(keys.MODELS, keys.model_id(namespace, name))
        for sha256 in wanted:
            pipeline.exists(keys.profile(namespace, name, sha256))
        raw, plan, is_indexed, *present = await _bounded(pipeline.execute())
        there = frozenset(sha256 for sha256, found in zip(wanted, present, strict=True) if found)
        if raw is None:
            return Stored(None, plan=plan, is_indexed=bool(is_indexed), profiles=there)
        try:
            record = wire.read_json(raw, RoutingRecord)
        except wire.BadRecord as error:
            return Stored(None, str(error), raw, plan, bool(is_indexed), there)
        return Stored(record, "", b"", plan, bool(is_indexed), there)

    async def gateways(self, models: list[str]) -> dict[str, tuple[GatewayView, ...]]:
        """Acknowledgements by model, of gateways that serve its namespace; unreadable ones are left out."""
        found = await _bounded(self._scan())
        acks: list[tuple[str, GatewayAck]] = []
        for key, raw in found:
            try:
                acks.append((key.decode(), wire.read_json(raw, GatewayAck)))
            except wire.BadRecord as error:
                logger.warning("gateway ack unreadable", extra={"key": repr(key), "error": str(error)})
        return {
            model: tuple(
                GatewayView(key, ack.updated_at, ack.epochs.get(model, 0), ack.revisions.get(model, 0))
                for key, ack in acks
                if ack.namespace in (None, keys.split_model_id(model)[0])
            )
            for model in models
        }

    async def indexed(self) -> list[str]:
        """Every model that has a routing record, as `namespace/name`; what is no text is nobody's."""
        found = await _bounded(self._redis.smembers(keys.MODELS))
        return sorted(member.decode(errors="replace") for member in found)

    async def put_profile(self, namespace: str, name: str, sha256: str, raw: bytes) -> None:
        await _bounded(self._redis.set(keys.profile(namespace, name, sha256), raw, nx=True))

    async def inputs(self, namespace: str, name: str, sha256: str) -> dict[str, str] | None:
        """What a model takes: type by name, as its profile says. None: there is no profile; nothing: it cannot be
        read."""
        raw = await _bounded(self._redis.get(keys.profile(namespace, name, sha256)))
        try:
            found = wire.read_json(raw, Signature).inputs if raw else []
        except wire.BadRecord as error:
            logger.warning("profile unreadable", extra={"sha256": sha256, "error": str(error)})
            return {}
        return {feature.name: signatures.type_of(feature.datatype, feature.shape) for feature in found} if raw else None

    async def replace(self, record: RoutingRecord, plan: Plan, stored: Stored) -> None:
        """Write both in place of what was read, index and announce them. Raises Overtaken when something as new stands
        there."""
        namespace, name = record.namespace, record.name
        names = [keys.routing(namespace, name), keys.plan(namespace, name)]
        arguments: list[bytes | str | int] = [
            wire.write_json(record),
            stored.raw,
            wire.write_json(plan),
            record.epoch,
            record.revision,
        ]
        done, epoch, revision = await self._run(_REPLACE, names, arguments)
        if not done:
            raise Overtaken(int(epoch), int(revision))
        former, profiles = (leftovers.profiles_of(one) for one in (stored.plan, wire.write_json(plan)))
        if not stored.is_indexed or former != profiles:  # before the index tells that all is done
            await _bounded(self._leftovers.of_versions(namespace, name, former, profiles))
        await self._announce(namespace, name, is_there=True)

    async def remove(self, namespace: str, name: str, epoch: int, seen: int | None = None) -> bool:
        """Take the model's routing and plan away; False when a leader of a higher epoch owns them, or when they are
        newer than the revision that was seen, for the model was made again."""
        names = [keys.routing(namespace, name), keys.plan(namespace, name)]
        removed = await self._run(_REMOVE, names, [epoch, "" if seen is None else seen])
        if not removed:
            return False
        await _bounded(self._leftovers.of_model(namespace, name, leftovers.profiles_of(removed[0]), epoch))
        await self._run(_REMOVE_PLAN, names, [])
        await self._announce(namespace, name, is_there=False)
        return True

    async def close(self) -> None:
        await self._redis.aclose()

    async def _run(self, script: str, names: list[str], arguments: list[bytes | str | int]) -> Any:
        """Sent whole: a cluster's client would load it at every node, which an ACL need not allow."""
        return await _bounded(cast(Any, self._redis.eval(script, len(names), *names, *cast(Any, arguments))))

    async def _announce(self, namespace: str, name: str, is_there: bool) -> None:
        model = keys.model_id(namespace, name)
        await _bounded((self._redis.sadd if is_there else self._redis.srem)(keys.MODELS, model))
        await _bounded(self._redis.publish(keys.ROUTING_CHANNEL, model))

    async def _scan(self) -> list[tuple[bytes, bytes]]:
        found = [key async for key in self._redis.scan_iter(keys.gateway_pattern(), count=1000)]
        values = await self._redis.mget(found) if found else []
        return [(key, value) for key, value in zip(found, values, strict=True) if isinstance(value, bytes)]


async def _bounded(call: Awaitable[Any]) -> Any:
    """A call with an end: the client's own timeouts hold for each attempt, this one for all of it."""
    try:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            return await call
    except (RedisError, OSError, TimeoutError) as error:
        raise StoreUnavailable(str(error) or type(error).__name__) from error
