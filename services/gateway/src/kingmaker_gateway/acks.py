"""Tell the others every second which routing this gateway applied, and the accounts of its event streams."""

import asyncio
import datetime
import logging

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from kingmaker_contracts import keys, wire
from kingmaker_contracts.acks import GatewayAck
from kingmaker_gateway.metrics import Metrics
from kingmaker_gateway.recorder import Recorder
from kingmaker_gateway.routes import Routes

logger = logging.getLogger(__name__)

INTERVAL_S = 1.0
LIFE_S = 60
LAST_LIFE_S = 3600
"""How long the last words of a stopped gateway are kept, so that its accounts can be closed."""


class Acknowledger:
    """Owns the task that writes `km:gateways:{id}`."""

    def __init__(
        self,
        redis: Redis,
        *,
        gateway_id: str,
        namespace: str,
        partition: int,
        routes: Routes,
        recorder: Recorder,
        metrics: Metrics,
    ) -> None:
        self._redis = redis
        self._id = gateway_id
        self._key = keys.gateway(gateway_id)
        self._kept_former = False
        self._namespace = namespace
        self._partition = partition
        self._routes = routes
        self._recorder = recorder
        self._metrics = metrics
        self._started_at = _now()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="acks")

    async def close(self) -> None:
        """Say the last word. Call it after the recorder's final flush."""
        self._stopping = True  # the Redis client can swallow a cancellation that comes while it reads
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._write(LAST_LIFE_S, ended=True)

    def ack(self, ended: bool = False) -> GatewayAck:
        records = self._routes.records
        return GatewayAck(
            producer=self._recorder.producer,
            partition=self._partition,
            started_at=self._started_at,
            updated_at=_now(),
            revisions={model: record.revision for model, record in records.items()},
            epochs={model: record.epoch for model, record in records.items()},
            accounts=self._recorder.accounts,
            ended=ended,
            namespace=self._namespace,
        )

    async def _run(self) -> None:
        while not self._stopping:
            try:
                await self._write(LIFE_S)
            except Exception:
                self._metrics.loop_errors.labels("acks").inc()
                logger.exception("the acknowledgement failed unexpectedly")
            await asyncio.sleep(INTERVAL_S)

    async def _write(self, life_s: int, ended: bool = False) -> None:
        try:
            if not self._kept_former:
                await self._keep_former()
                self._kept_former = True
            await self._redis.set(self._key, wire.write_json(self.ack(ended)), ex=life_s)
        except (RedisError, OSError) as error:
            logger.debug("acknowledgement not written", extra={"reason": str(error)})

    async def _keep_former(self) -> None:
        """What a killed life said last would be overwritten, and the rows it took along would never be counted."""
        raw = await self._redis.get(self._key)
        try:
            former = None if raw is None else wire.read_json(raw, GatewayAck)
        except wire.BadRecord:
            return
        if former is not None and former.producer != self._recorder.producer:
            kept = wire.write_json(msgspec.structs.replace(former, ended=True))
            await self._redis.set(keys.former_gateway(self._id, former.producer), kept, ex=LAST_LIFE_S)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
