"""Which models this monitor counts: its share by the hash of the name, and of those the ones whose lease it holds.

Two monitors that count one model would both write its evidence, each with a part of the truth. The lease is
a key with a time to live; its token rises with every holder, and every write of evidence compares the whole
lease in the same script, so a monitor that was stopped for a while and does not know that its lease is gone writes
nothing. The state file keeps the token too and refuses a round with a lower one.

The holder is named by its state file and not by its process: a monitor that was killed takes its own lease again
at once, for the file's lock proves that its former life is over. A copy of the file is somebody else: only a
life without a token may take a lease that carries its file's name. The name of the life stands behind it, for an
answer that got lost, or a question that was asked again meanwhile, leaves a lease of ours with a token never heard of.
"""

import hashlib
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from redis.asyncio import Redis

from kingmaker_contracts import keys
from kingmaker_servicekit.redis_errors import is_wrong_type

logger = logging.getLogger(__name__)

EVIDENCE_S: Final = 86_400
"""How long evidence is kept that no monitor renews, as of a model that was deleted: for people, nobody acts on it."""
_TAKE: Final = """
local held = redis.call('GET', KEYS[1])
local holder = held and string.match(held, '^(.*):')
if holder == ARGV[1] .. '.' .. ARGV[5] then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return {tonumber(string.match(held, ':(%d+)$')), held}
end
if held and (ARGV[2] ~= '0' or not holder or string.match(holder, '^[^.]*') ~= ARGV[1]) then
  return {0, held}
end
local token = math.max(tonumber(redis.call('GET', KEYS[2]) or '') or 0, tonumber(ARGV[4])) + 1
redis.call('SET', KEYS[2], token)
redis.call('SET', KEYS[1], ARGV[1] .. '.' .. ARGV[5] .. ':' .. token, 'PX', ARGV[3])
return {token, ''}
"""
"""KEYS: lease, token. ARGV: owner, own token (0: none yet), time to live, token of the state file, life of the owner.
Returns the token, 0 while another holds the lease."""
_WRITE: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[3])
return 1
"""
_RELEASE: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 0
"""


@dataclass(slots=True)
class _Held:
    """token: of our last lease of this model; until: monotonic seconds we may trust it to be ours."""

    token: int = 0
    until: float = 0.0
    other: str = ""


def is_ours(model: str, shard: int, shards: int) -> bool:
    """Whether a model, `namespace/name`, falls to this monitor. The same answer in every process and release."""
    digest = hashlib.blake2b(model.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % shards == shard


class Leases:
    """The leases of one state file. owner: its id; clock: monotonic seconds."""

    def __init__(
        self,
        redis: Redis,
        owner: str,
        *,
        seconds: float,
        shard: int = 0,
        shards: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = redis
        self._owner = owner
        self._life = uuid.uuid4().hex[:8]
        self._seconds = seconds
        self._shard = shard
        self._shards = shards
        self._clock = clock
        self._held: dict[str, _Held] = {}

    async def hold(self, models: Mapping[str, int]) -> dict[str, int]:
        """Take or renew the leases of these models, those of our share; gives tokens by model.

        models: the state file's token by model. Raises redis.RedisError.
        """
        wanted = [model for model in models if is_ours(model, self._shard, self._shards)]
        if not wanted:
            return {}
        asked = self._clock()  # before the question: the server's time to live began later than this
        pipeline = self._redis.pipeline(transaction=False)
        for model in wanted:
            mine = self._held.setdefault(model, _Held())
            names = _names(model)
            asking = (self._owner, mine.token, round(self._seconds * 1000), models[model], self._life)
            pipeline.eval(_TAKE, 2, *names, *asking)
        answers = await pipeline.execute(raise_on_error=False)
        tokens = {}
        for model, answer in zip(wanted, answers, strict=True):
            token, other = self._taken(model, answer)
            if self._note(model, token, other, asked):
                tokens[model] = token
        return tokens

    def is_held(self, model: str) -> bool:
        """Whether our lease of this model cannot have run out yet."""
        held = self._held.get(model)
        return held is not None and self._clock() < held.until

    def holder(self, model: str) -> str:
        """The other monitor that had the lease when last asked, "" when none had."""
        held = self._held.get(model)
        return "" if held is None else held.other

    async def write(self, model: str, key: str, value: bytes) -> bool:
        """Set a key if, and only if, our lease of the model stands. Raises redis.RedisError."""
        return bool(await self._eval(_WRITE, model, key, value, EVIDENCE_S))

    async def release(self) -> None:
        """Let others have them at once. Raises redis.RedisError."""
        for model, held in self._held.items():
            if held.until:
                held.until = 0.0
                await self._eval(_RELEASE, model)

    @staticmethod
    def _taken(model: str, answer: Any) -> tuple[int, bytes]:
        if not isinstance(answer, Exception):
            return int(answer[0]), answer[1]
        if not is_wrong_type(answer):
            raise answer
        return 0, f"nobody: a key of the lease holds another type, {_names(model)}".encode()

    def _note(self, model: str, token: int, other: bytes, asked: float) -> bool:
        held = self._held[model]
        name = "" if token else other.decode(errors="replace")
        if name != held.other:
            if name:
                logger.warning("another monitor counts this model", extra={"model": model, "holder": name})
            else:
                logger.info("the model is ours now", extra={"model": model, "token": token})
        held.other = name
        held.until = asked + self._seconds if token else 0.0
        if token:
            held.token = token
        return token > 0

    async def _eval(self, script: str, model: str, *more: Any) -> Any:
        """more: a key and arguments."""
        lease = keys.monitor_lease(*keys.split_model_id(model))
        mine = f"{self._owner}.{self._life}:{self._held[model].token}" if model in self._held else ""
        named = [lease, *more[:1]]
        return await cast(Any, self._redis.eval(script, len(named), *named, mine, *more[1:]))


def _names(model: str) -> list[str]:
    """The keys of a model's lease and of its token."""
    return [name(*keys.split_model_id(model)) for name in (keys.monitor_lease, keys.monitor_token)]
