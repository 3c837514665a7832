"""Where everything is built and connected, and the order in which it starts and stops."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kingmaker_contracts import keys
from kingmaker_controller import api
from kingmaker_controller.errors import BadSettings, StoreUnavailable
from kingmaker_controller.leader import Leader
from kingmaker_controller.loop import Loop, Pace
from kingmaker_controller.metrics import Metrics
from kingmaker_controller.redis_store import RedisStore
from kingmaker_controller.runtimes.fetching import Fetcher
from kingmaker_controller.runtimes.processes import SERVER_PREFIX, Commands, ProcessRuntime
from kingmaker_controller.runtimes.replica import Backoff
from kingmaker_controller.settings import PREFIX, Settings
from kingmaker_controller.sources.files import FileSource
from kingmaker_controller.state import State
from kingmaker_servicekit import metrics_endpoint, redis_client, serving
from kingmaker_servicekit.serving import Listener

logger = logging.getLogger(__name__)

DRAIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Programs:
    """What is started as child processes; tests put stand-ins here."""

    fetch: tuple[str, ...] = (sys.executable, "-m", "kingmaker_model_server.fetch")
    server: tuple[str, ...] = (sys.executable, "-m", "kingmaker_model_server")


async def run(settings: Settings, programs: Programs, environ: Mapping[str, str]) -> None:
    """Serve until SIGTERM or SIGINT. Raises ControllerError and PortTaken, before anything was changed, and
    CancelledError for a signal that comes before the listener has taken them over."""
    _cancel_on_signals()
    token = _token(settings.token_file)
    state = State(settings.state_dir)
    try:
        listening = serving.bind(settings.host, settings.port)
        try:
            await _lead(settings, programs, environ, state=state, token=token, listening=listening)
        finally:
            listening.close()
    finally:
        state.close()


async def _lead(
    settings: Settings,
    programs: Programs,
    environ: Mapping[str, str],
    *,
    state: State,
    token: str,
    listening: socket.socket,
) -> None:
    store = RedisStore(redis_client.connect(settings.redis_url))
    leader = Leader(state, f"pid {os.getpid()} on {socket.gethostname()}")
    registry = metrics_endpoint.new_registry()
    metrics = Metrics(registry)
    try:
        epoch = await leader.acquire(await _epochs(state, store), _now())
        logger.info("leading", extra={"epoch": epoch, "file": str(settings.file)})
        metrics.leader.set(1)
        wake = asyncio.Event()
        runtime = _runtime(settings, programs, environ, metrics, wake)
        try:
            loop = Loop(
                source=FileSource(settings.file),
                runtime=runtime,
                store=store,
                state=state,
                leader=leader,
                metrics=metrics,
                wake=wake,
                now=_now,
                pace=Pace(settings.poll_ms / 1000),
            )
            app = api.build(loop, state, token, registry, is_ready=lambda: leader.epoch > 0)
            await _serve_while(Listener("api", app, listening), loop.run(), leader.keep(_now))
        finally:
            await runtime.close()
            metrics.leader.set(0)
            await leader.release()
    finally:
        await store.close()


async def _serve_while(listener: Listener, *work: Coroutine[Any, Any, None]) -> None:
    """The listener and all work end together; whatever fails first is raised."""
    tasks = [asyncio.create_task(serving.serve([listener], DRAIN_S), name="serve")]
    tasks += [asyncio.create_task(each) for each in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def _runtime(
    settings: Settings, programs: Programs, environ: Mapping[str, str], metrics: Metrics, wake: asyncio.Event
) -> ProcessRuntime:
    env = {key: value for key, value in environ.items() if not key.startswith(PREFIX)}
    # Python holds its output back when it goes to a file; the last words of a dying server must be there
    env["PYTHONUNBUFFERED"] = "1"
    chosen = settings.runtime
    backoff = Backoff(chosen.backoff_first_s, chosen.backoff_last_s)
    folder = settings.state_dir.resolve()
    fetcher = Fetcher(
        programs.fetch,
        folder / "models",
        settings.file.resolve().parent,
        settings.registry_uri,
        {key: value for key, value in env.items() if not key.startswith(SERVER_PREFIX)},
        chosen.fetch_timeout_s,
    )
    commands = Commands(programs.server, env, settings.log_format, folder / "logs", chosen.stop_grace_s, backoff)

    def on_death(model: str, variant: str) -> None:
        metrics.restarts.labels(model, variant).inc()

    return ProcessRuntime(fetcher, commands, wake.set, on_death)


async def _epochs(state: State, store: RedisStore) -> list[int]:
    """Every epoch anyone may have seen. Without Redis the statuses and the lease must do; a record with a
    higher one raises ours when it is met."""
    models = state.models()
    epochs = [m.status.routing.epoch for m in models.values() if m.status.routing]
    with contextlib.suppress(StoreUnavailable):
        for model in models:
            stored = await store.read(*keys.split_model_id(model), frozenset())
            epochs += [stored.record.epoch] if stored.record else []
        acknowledged = await store.gateways(list(models))
        epochs += [gateway.epoch for gateways in acknowledged.values() for gateway in gateways]
    return epochs


def _token(path: Path) -> str:
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"{PREFIX}TOKEN_FILE: {path} cannot be read: {error}") from error
    if not token:
        raise BadSettings(f"{PREFIX}TOKEN_FILE: {path} is empty")
    return token


def _cancel_on_signals() -> None:
    """Until `serving.serve` installs its own handlers; a start may wait for Redis for a while."""
    task = asyncio.current_task()
    for number in (signal.SIGTERM, signal.SIGINT):
        if task is not None:
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)


def _now() -> datetime:
    return datetime.now(UTC)
