"""Where the gateway is put together: every object is made here once and handed to those who need it."""

import contextlib
import importlib.metadata
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.types import Lifespan

from kingmaker_gateway import api
from kingmaker_gateway.acks import Acknowledger
from kingmaker_gateway.desk import Desk
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


@dataclass(slots=True, frozen=True)
class _RedisClients:
    """plain: answers soon or not at all; events: has time for a large batch; blocking: waits for announcements."""

    plain: Redis
    events: Redis
    blocking: Redis

    async def close(self) -> None:
        for client in (self.plain, self.events, self.blocking):
            await client.aclose()


def build(settings: Settings, registry: CollectorRegistry) -> Gateway:
    """Everything, wired; nothing runs until the public app's lifespan starts. Call it inside the event loop."""
    metrics = Metrics(registry)
    redis = _RedisClients(
        plain=redis_client.connect(settings.redis),
        events=redis_client.connect(settings.redis, timeout_s=2.0),
        blocking=redis_client.connect_blocking(settings.redis),
    )
    recorder = Recorder(redis.events, settings.recorder, settings.partition, metrics)
    desk = Desk(recorder)
    models = Models(
        settings,
        metrics,
        random.Random(),  # noqa: S311 - spreads load
        deliver=desk.deliver,
        record=recorder.offer,
    )
    routes = _routes(settings, redis, models, metrics)
    acks = Acknowledger(
        redis.plain,
        gateway_id=settings.gateway_id,
        namespace=settings.namespace,
        partition=settings.partition,
        routes=routes,
        recorder=recorder,
        metrics=metrics,
    )
    guards = Guards.of(settings.auth, metrics)
    router = Router(models, desk, Ids(settings.partition), metrics)
    public = api.build(
        router,
        models,
        FeedbackWriter(redis.plain, settings.namespace, settings.feedback, metrics),
        body_read_s=settings.limits.body_read_ms / 1000,
        version=importlib.metadata.version("kingmaker-gateway"),
        guards=guards,
        lifespan=_lifespan(routes, recorder, acks, guards, models, redis),
    )
    # a gateway that knows that there is nothing to serve is as ready as it can be; an installation waits for that
    admin = metrics_endpoint.build(registry, lambda: models.is_ready or routes.is_empty_for_good)
    return Gateway(public, _protocol(settings, router, models, guards), admin)


def _routes(settings: Settings, redis: _RedisClients, models: Models, metrics: Metrics) -> Routes:
    return Routes(
        redis.plain,
        redis.blocking,
        namespace=settings.namespace,
        poll_s=settings.routes.poll_ms / 1000,
        settle_s=settings.routes.settle_ms / 1000,
        snapshot=SnapshotFile(settings.snapshot_file) if settings.snapshot_file else None,
        metrics=metrics,
        adopt=models.adopt,
        awaits=models.awaits,
        withdraw=models.withdraw,
    )


def _lifespan(  # noqa: PLR0917 - what runs, in the order of its start, and what it stands on
    routes: Routes, recorder: Recorder, acks: Acknowledger, guards: Guards, models: Models, redis: _RedisClients
) -> Lifespan[FastAPI]:
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
            await redis.close()

    return lifespan


def _protocol(settings: Settings, router: Router, models: Models, guards: Guards) -> Any:
    """How the public port is spoken to."""
    if not settings.hot_path:
        return "httptools"
    body_read_s, last_call_s = settings.limits.body_read_ms / 1000, settings.last_call_ms / 1000
    return HotPath(router, models, body_read_s, guards.predict, last_call_s).protocol()
