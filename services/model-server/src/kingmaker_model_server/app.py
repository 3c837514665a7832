"""Where the server is put together, and where its one background task, the load, has its owner."""

import asyncio
import contextlib
import functools
import logging
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from prometheus_client import CollectorRegistry

from kingmaker_model_server import api, platform_api
from kingmaker_model_server.hot_path import HotPath
from kingmaker_model_server.loading import load
from kingmaker_model_server.metrics import Metrics
from kingmaker_model_server.predict import Predictor
from kingmaker_model_server.settings import Settings
from kingmaker_servicekit import metrics_endpoint

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(slots=True)
class Service:
    """The app to serve, and in `http` uvicorn's protocol for it.

    loading: the load's thread is at work, perhaps in a read or a call that cannot be interrupted;
    failure: why the model could not be loaded, upon which the server ends by itself.
    """

    app: FastAPI
    predictor: Predictor
    http: Any
    loading: bool = False
    failure: Exception | None = None


def build(settings: Settings, registry: CollectorRegistry) -> Service:
    """The service; nothing is loaded before the app starts, so that `live` answers from the first moment."""
    metrics = Metrics(registry)
    predictor = Predictor(settings.model_name, settings.max_body_bytes, metrics)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(_load(settings, service, metrics), name="load")
        yield
        metrics.ready.set(0)
        loading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await loading

    app = FastAPIOffline(
        title=f"Kingmaker model server: {settings.model_name}",
        description="One ONNX model version over the Open Inference Protocol V2 and V1.",
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    api.add_error_handlers(app)
    # first, for a platform's own route may be one of ours, such as "/"
    app.include_router(platform_api.router(predictor, settings.health_route, settings.predict_route))
    app.include_router(api.router(predictor))
    app.include_router(api.package_router(predictor))
    app.router.routes.extend(metrics_endpoint.build(registry, lambda: predictor.loaded is not None).routes)
    service = Service(
        app, predictor, HotPath(predictor, settings.predict_route).protocol() if settings.hot_path else "httptools"
    )
    return service


async def _load(settings: Settings, service: Service, metrics: Metrics) -> None:
    """Load in a thread, then begin to answer; a model that cannot be used ends the process."""
    started = time.perf_counter()
    service.loading = True
    try:
        loaded, report = await _in_daemon_thread(lambda: load(settings))
        service.loading = False
        service.predictor.load(loaded)
    except Exception as failure:  # __main__ tells a bad model from a fault of ours
        service.failure = failure
        service.loading = False
        signal.raise_signal(signal.SIGTERM)  # the one way out: the same drain as for an operator's signal
        return
    seconds = time.perf_counter() - started
    metrics.loaded(settings.model_name, loaded.version, report.sha256, seconds)
    logger.info(
        "model ready",
        extra={
            "model": settings.model_name,
            "version": loaded.version,
            "source": report.source,
            "sha256": report.sha256,
            "threads": report.threads,
            "load_s": round(seconds, 3),
        },
    )


async def _in_daemon_thread(work: Callable[[], T]) -> T:
    """The result of work, in a thread that does not keep the process: asyncio's own threads are waited for at exit."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def tell(outcome: Callable[[], None]) -> None:
        if not result.done():
            outcome()

    def run() -> None:
        try:
            value = work()
        except Exception as failure:  # handed over to whoever awaits
            done = functools.partial(result.set_exception, failure)
        else:
            done = functools.partial(result.set_result, value)
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, done)

    threading.Thread(target=run, name="load", daemon=True).start()
    return await result
