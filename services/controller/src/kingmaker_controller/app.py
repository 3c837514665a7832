"""Where everything is built and connected, and the order in which it starts and stops.

`local` leads a file and child processes, `cluster` what a Kubernetes API holds; this is what both stand on.
"""

import asyncio
import signal
from collections.abc import Mapping
from pathlib import Path

from kingmaker_controller import cluster, local
from kingmaker_controller.errors import BadSettings
from kingmaker_controller.ground import Ground
from kingmaker_controller.local import Programs
from kingmaker_controller.metrics import Metrics
from kingmaker_controller.redis_store import RedisStore
from kingmaker_controller.settings import PREFIX, Settings
from kingmaker_servicekit import metrics_endpoint, redis_client, serving

__all__ = ["Programs", "run"]


async def run(settings: Settings, programs: Programs, environ: Mapping[str, str]) -> None:
    """Serve until SIGTERM or SIGINT. Raises ControllerError and PortTaken, before anything was changed, and
    CancelledError for a signal that comes before the listener has taken them over."""
    _cancel_on_signals()
    token = _token(settings.token_file)
    registry = metrics_endpoint.new_registry()
    listening = serving.bind(settings.host, settings.port)
    store = RedisStore(redis_client.connect(settings.redis))
    ground = Ground(settings, token, registry, Metrics(registry), store, listening)
    try:
        if settings.kubernetes is not None:
            await cluster.lead(ground, settings.kubernetes, environ)
        else:
            await local.lead(ground, programs, environ)
    finally:
        listening.close()
        await store.close()


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
