"""Where the server is put together, and where its one background task, the load, has its owner."""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from kingmaker_model_server import api
from kingmaker_model_server.errors import BadModel
from kingmaker_model_server.loading import load
from kingmaker_model_server.metrics import Metrics
from kingmaker_model_server.predict import Predictor
from kingmaker_model_server.settings import Settings
from kingmaker_servicekit import metrics_endpoint

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Service:
    """The app to serve. failure: why the model could not be loaded; the server then ends by itself."""

    app: FastAPI
    predictor: Predictor
    failure: BadModel | None = None


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

    app = FastAPI(
        title=f"Kingmaker model server: {settings.model_name}",
        description="One ONNX model version over the Open Inference Protocol V2 and V1.",
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    api.add_error_handlers(app)
    app.include_router(api.router(predictor))
    app.router.routes.extend(metrics_endpoint.build(registry, lambda: predictor.loaded is not None).routes)
    service = Service(app, predictor)
    return service


async def _load(settings: Settings, service: Service, metrics: Metrics) -> None:
    """Load in a thread, then begin to answer; a model that cannot be used ends the process."""
    started = time.perf_counter()
    try:
        loaded, report = await asyncio.to_thread(load, settings)
    except BadModel as failure:
        service.failure = failure
        signal.raise_signal(signal.SIGTERM)  # the one way out: the same drain as for an operator's signal
        return
    seconds = time.perf_counter() - started
    service.predictor.load(loaded)
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
