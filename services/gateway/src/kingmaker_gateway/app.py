"""Where the gateway is put together: every object is made here once and handed to those who need it."""

import contextlib
import importlib.metadata
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from kingmaker_gateway import api
from kingmaker_gateway.acks import Acknowledger
from kingmaker_gateway.aftermath import Aftermath
from kingmaker_gateway.feedback import FeedbackWriter
from kingmaker_gateway.guard import Guards
from kingmaker_gateway.hot_path import HotPath
from kingmaker_gateway.ids import Ids
from kingmaker_gateway.metrics import Metrics
from kingmaker_gateway.models import Models
from kingmaker_gateway.recorder import Recorder
from kingmaker_gateway.router import Router
from kingmaker_gateway.routes import Routes
from kingmaker_gateway.settings import Settings
from kingmaker_gateway.snapshot import SnapshotFile
from kingmaker_servicekit import metrics_endpoint, redis_client


@dataclass(slots=True, frozen=True)
class Gateway:
    """The two apps of one process. public: for clients, spoken to by the protocol http; everything else runs in its
    lifespan."""

    public: FastAPI
    http: Any
    admin: Starlette


def build(settings: Settings, registry: CollectorRegistry) -> Gateway:
    """Everything, wired; nothing runs until the public app's lifespan starts. Call it inside the event loop."""
    metrics = Metrics(registry)
    redis = redis_client.connect(settings.redis)
    events_redis = redis_client.connect(settings.redis, timeout_s=2.0)
    blocking = redis_client.connect_blocking(settings.redis)
    recorder = Recorder(events_redis, settings.recorder, settings.partition, metrics)
    models = Models(
        settings,
        metrics,
        random.Random(),  # noqa: S311 - spreads load
        on_frame=Aftermath(recorder).answered,
        record=recorder.offer,
    )
    snapshot = SnapshotFile(settings.snapshot_file) if settings.snapshot_file else None
    poll_s = settings.routes.poll_ms / 1000
    routes = Routes(
        redis,
        blocking,
        namespace=settings.namespace,
        poll_s=poll_s,
        settle_s=settings.routes.settle_ms / 1000,
        snapshot=snapshot,
        metrics=metrics,
        adopt=models.adopt,
        awaits=models.awaits,
    )
    acks = Acknowledger(
        redis,
        gateway_id=settings.gateway_id,
        partition=settings.partition,
        routes=routes,
        recorder=recorder,
        metrics=metrics,
    )
    router = Router(models, recorder, Ids(settings.partition), metrics)
    writer = FeedbackWriter(redis, settings.namespace, settings.feedback, metrics)

    guards = Guards.of(settings.auth, metrics)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            routes.start()
            recorder.start()
            acks.start()
            guards.start()
            yield
        finally:  # requests have been drained: first no new work, then the events of the old, then the last word
            await guards.close()
            await routes.close()
            await models.close()
            await recorder.close()
            await acks.close()
            for client in (redis, events_redis, blocking):
                await client.aclose()

    version = importlib.metadata.version("kingmaker-gateway")
    body_read_s = settings.limits.body_read_ms / 1000
    public = api.build(
        router, models, writer, body_read_s=body_read_s, version=version, lifespan=lifespan, guards=guards
    )
    # a gateway that knows that there is nothing to serve is as ready as it can be; an installation waits for that
    admin = metrics_endpoint.build(registry, lambda: models.is_ready or routes.is_empty_for_good)
    last_call_s = settings.last_call_ms / 1000
    hot_path = HotPath(router, models, body_read_s, guards.predict, last_call_s)
    http = hot_path.protocol() if settings.hot_path else "httptools"
    return Gateway(public, http, admin)
