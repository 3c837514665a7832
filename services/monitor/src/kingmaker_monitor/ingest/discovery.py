"""What there is to read: the models of the namespace, their plans, and what gateways say they have sent.

Streams follow from the models, so one is read whether or not its gateway still lives. Acks are looked for among all
keys, which a Redis shared with others may have millions of: that is done now and then, and at once when a gateway that
wrote has no ack among those known. In between the known ones are asked by name.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Final, TypeVar, cast

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from kingmaker_contracts import keys
from kingmaker_contracts.acks import EventAccount, GatewayAck
from kingmaker_contracts.plan import Plan
from kingmaker_contracts.wire import BadRecord, read_json
from kingmaker_monitor.ingest.decoding import Stream
from kingmaker_monitor.positions import Extent, of_info
from kingmaker_servicekit.redis_errors import is_wrong_type

logger = logging.getLogger(__name__)

SEARCH_S: Final = 30.0
"""How often acks are looked for among all keys: a gateway that has written nothing yet shows after this long."""
SEARCH_AGAIN_S: Final = 2.0
"""And while one is missed: well within the time after which its life counts as over (`lives.GRACE_S`)."""
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
    """Asks Redis. Remembers which records were unreadable, to say so once each. clock: monotonic seconds."""

    def __init__(self, redis: Redis, namespace: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis = redis
        self._namespace = namespace
        self._clock = clock
        self._bad: dict[str, str] = {}
        self._gateways: list[bytes] = []
        """Keys of acks that were there when last asked."""
        self._searched = -SEARCH_S

    async def look(self, writing: Collection[str] = ()) -> Found:
        """writing: producers whose lives are not known to be over, so that there should be acks of them. Raises
        redis.RedisError."""
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
            await self._find_acks(found, writing)
        return found

    async def profile(self, model: str, sha256: str) -> bytes | None:
        """The stored bytes of a profile. Raises redis.RedisError."""
        return await self._get(keys.profile(*keys.split_model_id(model), sha256))

    async def extents(self, streams: Iterable[Stream]) -> dict[Stream, Extent | None]:
        """How far the streams reach that exist; None for one whose key holds something else, which a read of many
        streams would fail by. Raises redis.RedisError."""
        asked = list(streams)
        if not asked:
            return {}
        pipeline = self._redis.pipeline(transaction=False)
        for stream in asked:
            pipeline.xinfo_stream(stream.key)
        answers = await pipeline.execute(raise_on_error=False)
        found: dict[Stream, Extent | None] = {}
        for stream, answer in zip(asked, answers, strict=True):
            if isinstance(answer, ResponseError):
                if is_wrong_type(answer):
                    found[stream] = None
                if "no such key" not in str(answer):
                    self._complain(stream.key, str(answer))
            elif isinstance(answer, Exception):
                raise answer
            else:
                try:
                    found[stream] = of_info(answer)
                    self._is_readable(stream.key)
                except (KeyError, ValueError, TypeError) as error:
                    self._complain(stream.key, f"XINFO STREAM tells too little, needs Redis 7 or Valkey: {error!r}")
        return found

    async def _plan(self, model: str, namespace: str, name: str) -> Plan | None:
        raw = await self._get(keys.plan(namespace, name))
        return None if raw is None else self._read(f"plan of {model}", raw, Plan)

    async def _find_acks(self, found: Found, writing: Collection[str]) -> None:
        age = self._clock() - self._searched
        if age < SEARCH_S:
            heard = await self._read_acks(found)
            if age < SEARCH_AGAIN_S or heard.issuperset(writing):
                return
            found.acks, found.ended = {}, set()
        self._gateways = [key async for key in self._redis.scan_iter(match=keys.gateway_pattern(), count=500)]
        self._searched = self._clock()
        await self._read_acks(found)

    async def _read_acks(self, found: Found) -> set[str]:
        """Those of the known keys; the producers they are of."""
        answers = await self._redis.mget(self._gateways) if self._gateways else []
        there = {name: raw for name, raw in zip(self._gateways, answers, strict=True) if raw is not None}
        self._gateways, heard = list(there), set()
        for name, raw in there.items():
            ack = self._read(name.decode(errors="replace"), raw, GatewayAck)
            if ack is None:
                continue
            heard.add(ack.producer)
            if ack.ended:
                found.ended.add(ack.producer)
            for model, account in ack.accounts.items():
                if model in found.plans:
                    found.acks.setdefault((model, ack.partition), {})[ack.producer] = account
        return heard

    def _read(self, name: str, raw: bytes | str, kind: type[T]) -> T | None:
        try:
            record = read_json(raw, kind)
        except BadRecord as error:
            self._complain(name, str(error))
            return None
        self._is_readable(name)
        return record

    async def _get(self, key: str) -> bytes | None:
        """None also when the key holds no string: one such key must not keep the other models from being read."""
        try:
            return cast(bytes | None, await self._redis.get(key))
        except ResponseError as error:
            if not is_wrong_type(error):
                raise
            self._complain(key, str(error))
            return None

    def _is_readable(self, name: str) -> None:
        if self._bad.pop(name, None) is not None:
            logger.info("record readable again", extra={"record": name})

    def _complain(self, name: str, error: str) -> None:
        if self._bad.get(name) != error:
            logger.warning("record unreadable, ignored", extra={"record": name, "error": error})
            self._bad[name] = error
