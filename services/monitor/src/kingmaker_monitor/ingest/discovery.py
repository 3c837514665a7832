"""What there is to read: the models of the namespace, their plans, and what gateways say they have sent."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar, cast

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from kingmaker_contracts import keys
from kingmaker_contracts.acks import EventAccount, GatewayAck
from kingmaker_contracts.plan import Plan
from kingmaker_contracts.wire import BadRecord, read_json
from kingmaker_monitor.ingest.decoding import Stream
from kingmaker_monitor.positions import Extent, of_info

logger = logging.getLogger(__name__)

T = TypeVar("T", Plan, GatewayAck)
Acks = dict[tuple[str, int], dict[str, EventAccount]]
"""By model and partition, then by producer."""


@dataclass(slots=True)
class Found:
    """plans: every model with a routing record or a plan of its own, None while it has no readable plan;
    ended: producers that have said their last words."""

    plans: dict[str, Plan | None] = field(default_factory=dict)
    acks: Acks = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)


class Discovery:
    """Asks Redis. Remembers which records were unreadable, to say so once each."""

    def __init__(self, redis: Redis, namespace: str) -> None:
        self._redis = redis
        self._namespace = namespace
        self._bad: dict[str, str] = {}

    async def look(self) -> Found:
        """Raises redis.RedisError."""
        found = Found()
        for raw in sorted(cast(set[bytes], await self._redis.smembers(keys.MODELS))):
            model = raw.decode(errors="replace")
            try:
                namespace, name = keys.split_model_id(model)
            except ValueError as error:
                self._complain(model, str(error))
                continue
            if namespace == self._namespace:
                found.plans[model] = await self._plan(model, namespace, name)
        if found.plans:
            await self._read_acks(found)
        return found

    async def profile(self, model: str, sha256: str) -> bytes | None:
        """The stored bytes of a profile. Raises redis.RedisError."""
        raw = await self._redis.get(keys.profile(*keys.split_model_id(model), sha256))
        return cast(bytes | None, raw)

    async def extents(self, streams: Iterable[Stream]) -> dict[Stream, Extent]:
        """How far the streams reach that exist. Raises redis.RedisError."""
        asked = list(streams)
        if not asked:
            return {}
        pipeline = self._redis.pipeline(transaction=False)
        for stream in asked:
            pipeline.xinfo_stream(stream.key)
        answers = await pipeline.execute(raise_on_error=False)
        found: dict[Stream, Extent] = {}
        for stream, answer in zip(asked, answers, strict=True):
            if isinstance(answer, ResponseError):
                if "no such key" not in str(answer):
                    self._complain(stream.key, str(answer))
            elif isinstance(answer, Exception):
                raise answer
            else:
                try:
                    found[stream] = of_info(answer)
                except (KeyError, ValueError, TypeError) as error:
                    self._complain(stream.key, f"XINFO STREAM tells too little, needs Redis 7 or Valkey: {error!r}")
        return found

    async def _plan(self, model: str, namespace: str, name: str) -> Plan | None:
        raw = await self._redis.get(keys.plan(namespace, name))
        return None if raw is None else self._read(f"plan of {model}", raw, Plan)

    async def _read_acks(self, found: Found) -> None:
        names = [key async for key in self._redis.scan_iter(match=keys.gateway_pattern(), count=500)]
        for name, raw in zip(names, await self._redis.mget(names) if names else [], strict=True):
            ack = None if raw is None else self._read(name.decode(errors="replace"), raw, GatewayAck)
            if ack is None:
                continue
            if ack.ended:
                found.ended.add(ack.producer)
            for model, account in ack.accounts.items():
                if model in found.plans:
                    found.acks.setdefault((model, ack.partition), {})[ack.producer] = account

    def _read(self, name: str, raw: bytes | str, kind: type[T]) -> T | None:
        try:
            record = read_json(raw, kind)
        except BadRecord as error:
            self._complain(name, str(error))
            return None
        if self._bad.pop(name, None) is not None:
            logger.info("record readable again", extra={"record": name})
        return record

    def _complain(self, name: str, error: str) -> None:
        if self._bad.get(name) != error:
            logger.warning("record unreadable, ignored", extra={"record": name, "error": error})
            self._bad[name] = error
