"""Send copies of answered requests to a shadow without making any client wait.

The champion's answer has already left when a copy is queued here. The queue is bounded: when the shadow
falls behind, copies are dropped and counted, because a late comparison is worth less than a slow client.
A fixed number of workers, each with one request in flight, is the whole load a shadow can cause.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from kingmaker_contracts.inference import Tensor
from kingmaker_contracts.problems import HTTP_STATUS, Code
from kingmaker_gateway.batch import Batch
from kingmaker_gateway.errors import UpstreamError, UpstreamTimeout
from kingmaker_gateway.metrics import Metrics, VariantMetrics
from kingmaker_gateway.settings import ShadowSettings
from kingmaker_gateway.signature import Signature
from kingmaker_gateway.upstream import Upstream

logger = logging.getLogger(__name__)


@dataclass(slots=True, frozen=True)
class Outcome:
    """What became of a copy. status: as an HTTP status; latency_s: of the copy itself."""

    status: int
    latency_s: float
    outputs: list[Tensor] | None


@dataclass(slots=True, frozen=True)
class Copy:
    """One request again. done: told the outcome, also of failures."""

    batch: Batch
    signature: Signature
    max_frame_rows: int
    done: Callable[[Outcome], None]


class Shadow:
    """The queue and the workers of one variant's copies."""

    def __init__(self, upstream: Upstream, settings: ShadowSettings, counts: VariantMetrics, metrics: Metrics) -> None:
        self._upstream = upstream
        self._timeout_s = settings.timeout_ms / 1000
        self._counts = counts
        self._metrics = metrics
        self._queue: asyncio.Queue[Copy] = asyncio.Queue(settings.queue_size)
        self._workers = [
            asyncio.create_task(self._work(), name=f"shadow {number}") for number in range(settings.connections)
        ]

    @property
    def upstream(self) -> Upstream:
        return self._upstream

    def offer(self, copy: Copy) -> None:
        """Queue a copy, or drop and count it. Never waits."""
        try:
            self._queue.put_nowait(copy)
        except asyncio.QueueFull:
            self._counts.shadow_dropped.inc()

    async def close(self) -> None:
        """Stop now; copies not sent are dropped and counted."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        self._counts.shadow_dropped.inc(self._queue.qsize())
        await self._upstream.close()

    async def _work(self) -> None:
        while True:
            copy = await self._queue.get()
            try:
                await self._send(copy)
            except Exception:
                self._metrics.loop_errors.labels("shadow").inc()
                logger.exception("a shadow copy failed unexpectedly")

    async def _send(self, copy: Copy) -> None:
        started = time.perf_counter()
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        outputs: list[Tensor] | None = None
        status = 200
        self._counts.shadow_sent.inc()
        try:
            outputs = await self._upstream.predict(copy.batch, copy.signature, copy.max_frame_rows, deadline)
        except UpstreamTimeout:
            status = HTTP_STATUS[Code.DEADLINE_EXCEEDED]
        except UpstreamError:
            status = HTTP_STATUS[Code.UPSTREAM_FAILED]
        if outputs is None:
            self._counts.shadow_failed.inc()
        copy.done(Outcome(status, time.perf_counter() - started, outputs))
