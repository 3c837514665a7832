"""Follow the routing records in Redis, and keep the last good ones for as long as Redis is away.

Announcements over pub/sub make a change fast; polling makes it certain. A record is applied only when it
is well-formed and newer (epoch, revision) than the one in force. A record that is gone changes nothing:
a flushed Redis looks exactly like that, and the controller will write it anew. That a model was deleted is said by a
withdrawal of its own.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from kingmaker_contracts import keys, profile, wire
from kingmaker_contracts.labels import MODEL
from kingmaker_contracts.profile import Profile
from kingmaker_contracts.routing import RoutingRecord, Withdrawal
from kingmaker_contracts.wire import BadRecord
from kingmaker_gateway.metrics import Metrics
from kingmaker_gateway.snapshot import Snapshot, SnapshotFile, StoredProfile

logger = logging.getLogger(__name__)

Adopt = Callable[[RoutingRecord, dict[str, Profile]], None]
"""Told of a record to put in force, with the profiles known so far by sha256."""

Awaits = Callable[[RoutingRecord, dict[str, Profile]], bool]
"""Whether a record should be put in force a little later; asked again until it says no."""

Withdraw = Callable[[str], None]
"""Told the name of a model that was deleted."""

_RESUBSCRIBE_S = 0.5
_HEIR_LOOK_S = 0.05
_MAX_VARIANTS = 200


class Routes:
    """Owns the two tasks that read Redis. blocking: a client of its own for pub/sub."""

    def __init__(
        self,
        redis: Redis,
        blocking: Redis,
        *,
        namespace: str,
        poll_s: float,
        settle_s: float,
        snapshot: SnapshotFile | None,
        metrics: Metrics,
        adopt: Adopt,
        awaits: Awaits,
        withdraw: Withdraw,
    ) -> None:
        self._redis = redis
        self._blocking = blocking
        self._namespace = namespace
        self._poll_s = poll_s
        self._settle_s = settle_s
        self._snapshot = snapshot
        self._metrics = metrics
        self._adopt = adopt
        self._awaits = awaits
        self._withdraw = withdraw
        self._records: dict[str, RoutingRecord] = {}
        self._profiles: dict[tuple[str, str], tuple[bytes, Profile]] = {}
        self._seen: dict[str, bytes] = {}
        self._unsaved = False
        self._complaints: dict[tuple[str, str], str] = {}
        self._wake = asyncio.Event()
        self._read_at: float | None = None
        self._empty_since: float | None = None
        self._redis_up: bool | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False
        metrics.routing_age.set_function(self._age)

    @property
    def records(self) -> dict[str, RoutingRecord]:
        """In force, by namespace/name."""
        return self._records

    @property
    def is_empty_for_good(self) -> bool:
        """Whether Redis has long said that there is no model: a wiped one is written anew within seconds."""
        return self._empty_since is not None and time.monotonic() - self._empty_since >= self._settle_s

    def start(self) -> None:
        if self._snapshot is not None:
            self._restore(self._snapshot)
        self._tasks = [
            asyncio.create_task(self._poll(), name="routes poll"),
            asyncio.create_task(self._listen(), name="routes listen"),
        ]

    async def close(self) -> None:
        self._stopping = True  # the Redis client can swallow a cancellation that comes while it reads
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _restore(self, file: SnapshotFile) -> None:
        snapshot = file.load()
        if snapshot is None:
            return
        for stored in snapshot.profiles:
            self._learn(stored.model, stored.sha256, stored.body.encode())
        for record in snapshot.records:
            model = keys.model_id(record.namespace, record.name)
            try:
                _check(record, self._namespace, record.name)
            except BadRecord as error:
                self._ignore(model, "malformed", str(error))
                continue
            self._apply(model, record)
        logger.info("started from the snapshot", extra={"models": len(self._records)})

    async def _poll(self) -> None:
        while not self._stopping:
            try:
                await self._read_all()
                self._told(is_up=True, reason="")
            except (RedisError, OSError) as error:
                self._told(is_up=False, reason=str(error))
            except Exception:
                self._metrics.loop_errors.labels("routes").inc()
                logger.exception("reading the routing records failed unexpectedly")
            try:
                async with asyncio.timeout(self._poll_s):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    async def _listen(self) -> None:
        while not self._stopping:
            try:
                async with self._blocking.pubsub(ignore_subscribe_messages=True) as channel:
                    await channel.subscribe(keys.ROUTING_CHANNEL)
                    self._wake.set()
                    while not self._stopping:
                        if await channel.get_message(timeout=1.0) is not None:
                            self._wake.set()
            except (RedisError, OSError):
                await asyncio.sleep(_RESUBSCRIBE_S)
            except Exception:
                self._metrics.loop_errors.labels("announcements").inc()
                logger.exception("listening for announcements failed unexpectedly")
                await asyncio.sleep(_RESUBSCRIBE_S)

    async def _read_all(self) -> None:
        try:
            await self._read_each()
        except Exception:  # what was applied before Redis went away is needed on disk the more
            await self._save()
            raise
        await self._save()

    async def _read_each(self) -> None:
        members = await self._redis.smembers(keys.MODELS)
        models = sorted(_bytes(member).decode("utf-8", "replace") for member in members)
        for model in self._records.keys() - set(models):
            if await self._is_withdrawn(model):
                self._forget(model)
        is_empty = not self._records
        for model in models:
            namespace, _, name = model.partition("/")
            if namespace == self._namespace and name:
                is_empty = False
                self._unsaved |= await self._read(model, name)
        if not is_empty:
            self._empty_since = None
        elif self._empty_since is None:
            self._empty_since = time.monotonic()

    async def _is_withdrawn(self, model: str) -> bool:
        """Whether a model that is not there was deleted, and not lost by Redis."""
        try:
            raw = await self._redis.get(keys.withdrawal(*keys.split_model_id(model)))
            return raw is not None and wire.read_json(raw, Withdrawal).epoch >= self._records[model].epoch
        except (ResponseError, BadRecord) as error:
            self._complain(model, "withdrawal", str(error))
            return False

    def _forget(self, model: str) -> None:
        record = self._records.pop(model)
        self._seen.pop(model, None)
        for key in [key for key in self._profiles if key[0] == model]:
            del self._profiles[key]
        self._complaints = {what: said for what, said in self._complaints.items() if what[0] != model}
        self._metrics.routing_revision.remove_by_labels({MODEL: record.name})
        self._withdraw(record.name)
        self._unsaved = True
        if not self._records:
            self._empty_since = time.monotonic() - self._settle_s  # said, not inferred: there is nothing to wait for
        logger.info("model withdrawn", extra={"model": model, "epoch": record.epoch, "revision": record.revision})

    async def _read(self, model: str, name: str) -> bool:
        """One model's record; whether anything changed."""
        try:
            value = await self._redis.get(keys.routing(self._namespace, name))
        except ResponseError as error:  # another type, or not ours to read; the other models are none the worse
            raw = None
            self._complain(model, "unreadable", str(error))
        else:
            raw = None if value is None else _bytes(value)
            if raw is None:
                self._complain(model, "gone", "the record is gone from Redis")
        current = self._records.get(model)
        if raw is not None and raw != self._seen.get(model):
            try:
                record = wire.read_json(raw, RoutingRecord)
                _check(record, self._namespace, name)
            except BadRecord as error:
                self._seen[model] = raw
                self._ignore(model, "malformed", str(error))
            else:
                if current is None or record.order > current.order:
                    await self._fetch_profiles(model, record)
                    if self._awaits(record, self._known(model)):
                        asyncio.get_running_loop().call_later(_HEIR_LOOK_S, self._wake.set)  # not seen: it is met again
                        return False
                    self._apply(model, record)
                    self._seen[model] = raw  # only now: Redis may have failed half-way
                    return True
                self._seen[model] = raw
                if record != current:
                    self._ignore(model, "lower", f"found (epoch, revision) {record.order}, in force {current.order}")
        current = self._records.get(model)
        if current is not None and await self._fetch_profiles(model, current):
            self._apply(model, current)
            return True
        return False

    async def _fetch_profiles(self, model: str, record: RoutingRecord) -> bool:
        """Profiles the record names and we lack; whether one was found."""
        raws: dict[str, bytes | str] = {}
        for sha256 in {variant.profile for variant in record.variants if variant.profile}:
            if (model, sha256) not in self._profiles:
                try:
                    raw = await self._redis.get(keys.profile(record.namespace, record.name, sha256))
                except ResponseError as error:
                    self._complain(model, f"profile {sha256[:12]}", str(error))
                    continue
                if raw is not None:
                    raws[sha256] = raw
        # only now: if Redis had failed half-way, nobody would be told of those that were found before
        return sum(self._learn(model, sha256, _bytes(raw)) for sha256, raw in raws.items()) > 0

    def _learn(self, model: str, sha256: str, raw: bytes) -> bool:
        try:
            if profile.sha256_of(raw) != sha256:
                raise BadRecord("Profile: its bytes do not have the hash it is named by")
            self._profiles[model, sha256] = raw, wire.read_json(raw, Profile)
        except BadRecord as error:
            self._complain(model, f"profile {sha256[:12]}", str(error))
            return False
        return True

    def _apply(self, model: str, record: RoutingRecord) -> None:
        old = self._records.get(model)
        self._records[model] = record
        wanted = {variant.profile for variant in record.variants}
        for key in [key for key in self._profiles if key[0] == model and key[1] not in wanted]:
            del self._profiles[key]
        self._adopt(record, self._known(model))
        self._metrics.routing_revision.labels(model.partition("/")[2]).set(record.revision)
        if old is None or old.order != record.order:
            logger.info(
                "routing applied",
                extra={"model": model, "revision": record.revision, "epoch": record.epoch, "ranges": record.ranges},
            )

    def _known(self, model: str) -> dict[str, Profile]:
        return {sha: known for (owner, sha), (_, known) in self._profiles.items() if owner == model}

    async def _save(self) -> None:
        """Put what is in force on disk, unless it is there; what cannot be written is tried again at the next look."""
        if self._snapshot is None or not self._unsaved:
            return
        profiles = [StoredProfile(model, sha, raw.decode()) for (model, sha), (raw, _) in self._profiles.items()]
        try:
            await asyncio.to_thread(self._snapshot.save, Snapshot(list(self._records.values()), profiles))
        except OSError as error:
            self._complain("", "snapshot", str(error))
        else:
            self._unsaved = False

    def _ignore(self, model: str, reason: str, text: str) -> None:
        self._metrics.routing_ignored.labels(reason).inc()
        self._complain(model, reason, text)

    def _complain(self, model: str, what: str, text: str) -> None:
        """Log once for each new text."""
        digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        if self._complaints.get((model, what)) != digest:
            self._complaints[model, what] = digest
            logger.warning("not applied, keeping the last good", extra={"model": model, "what": what, "reason": text})

    def _told(self, is_up: bool, reason: str) -> None:
        if is_up:
            self._read_at = time.monotonic()
        elif not self.is_empty_for_good:
            self._empty_since = None  # it may have been wiped and gone before anybody filled it again
        if is_up is not self._redis_up:
            self._redis_up = is_up
            self._metrics.redis_up.set(is_up)
            if is_up:
                logger.info("redis is there")
            else:
                logger.warning("redis is away, keeping the last good routing", extra={"reason": reason})

    def _age(self) -> float:
        return -1.0 if self._read_at is None else time.monotonic() - self._read_at


def _bytes(value: bytes | str) -> bytes:
    """What the client returns; its types allow str for clients that decode, and ours does not."""
    return value if isinstance(value, bytes) else value.encode()


def _check(record: RoutingRecord, namespace: str, name: str) -> None:
    """What the types cannot say. Raises BadRecord."""
    if (record.namespace, record.name) != (namespace, name):
        raise BadRecord(f"RoutingRecord: it is of {record.namespace}/{record.name}, its key of {namespace}/{name}")
    if len(record.variants) > _MAX_VARIANTS:
        raise BadRecord(f"RoutingRecord: {len(record.variants)} variants, expected at most {_MAX_VARIANTS}")
    if record.sticky.source != "PredictionId" and not record.sticky.name:
        raise BadRecord(f"RoutingRecord: sticky source {record.sticky.source} needs a name")
    limits = record.limits
    if min(limits.deadline_ms, limits.max_body_bytes, limits.max_in_flight, limits.max_frame_rows) < 1:
        raise BadRecord("RoutingRecord: limits must be at least 1")
    for variant in record.variants:
        for endpoint in variant.endpoints:
            host, _, port = endpoint.rpartition(":")
            if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536 or not host.isascii():
                raise BadRecord(f"RoutingRecord: endpoint {endpoint!r} of {variant.name} is not host:port")
        if not variant.model_name.isascii() or any(c.isspace() or not c.isprintable() for c in variant.model_name):
            raise BadRecord(f"RoutingRecord: model_name {variant.model_name!r} of {variant.name} cannot stand in a URL")
