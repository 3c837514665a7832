"""Leading a ServedModel file with child processes: the state is a folder, and whoever locks it leads."""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from kingmaker_controller import api
from kingmaker_controller.ground import DRAIN_S, Ground, epochs, now, together
from kingmaker_controller.leader import Leader
from kingmaker_controller.loop import Loop, Pace
from kingmaker_controller.runtimes.fetching import Fetcher
from kingmaker_controller.runtimes.processes import SERVER_PREFIX, Commands, ProcessRuntime
from kingmaker_controller.runtimes.replica import Backoff
from kingmaker_controller.settings import PREFIX
from kingmaker_controller.sources.files import FileSource
from kingmaker_controller.state import State
from kingmaker_servicekit import serving
from kingmaker_servicekit.serving import Listener

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Programs:
    """What is started as child processes; tests put stand-ins here."""

    fetch: tuple[str, ...] = (sys.executable, "-m", "kingmaker_model_server.fetch")
    server: tuple[str, ...] = (sys.executable, "-m", "kingmaker_model_server")


async def lead(ground: Ground, programs: Programs, environ: Mapping[str, str]) -> None:
    """Until a signal. Raises LeaseHeld at once when another controller works on this state, and LeaderLost."""
    settings = ground.settings
    assert settings.file is not None and settings.state_dir is not None  # noqa: S101, PT018 - settings made sure
    state = State(settings.state_dir)
    try:
        leader = Leader(state, f"pid {os.getpid()} on {socket.gethostname()}")
        epoch = await leader.acquire(await epochs(state.models().values(), ground.store), now())
        logger.info("leading", extra={"epoch": epoch, "file": str(settings.file)})
        ground.metrics.leader.set(1)
        wake = asyncio.Event()
        runtime = _runtime(ground, programs, environ, wake)
        try:
            loop = Loop(
                source=FileSource(settings.file),
                runtime=runtime,
                store=ground.store,
                state=state,
                leader=leader,
                metrics=ground.metrics,
                wake=wake,
                now=now,
                pace=Pace(settings.poll_ms / 1000),
            )
            view = api.View(loop, state)
            app = api.build(lambda: view, ground.token, ground.registry, is_ready=lambda: leader.epoch > 0)
            listener = Listener("api", app, ground.listening)
            await together(serving.serve([listener], DRAIN_S), loop.run(), leader.keep(now))
        finally:
            await runtime.close()
            ground.metrics.leader.set(0)
            await leader.release()
    finally:
        state.close()


def _runtime(ground: Ground, programs: Programs, environ: Mapping[str, str], wake: asyncio.Event) -> ProcessRuntime:
    env = {key: value for key, value in environ.items() if not key.startswith(PREFIX)}
    # Python holds its output back when it goes to a file; the last words of a dying server must be there
    env["PYTHONUNBUFFERED"] = "1"
    settings, chosen = ground.settings, ground.settings.runtime
    assert settings.file is not None and settings.state_dir is not None  # noqa: S101, PT018 - settings made sure
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
    commands = Commands(
        programs.server, env, chosen.host, settings.log_format, folder / "logs", chosen.stop_grace_s, backoff
    )

    def on_death(model: str, variant: str) -> None:
        ground.metrics.restarted(model, variant)

    return ProcessRuntime(fetcher, commands, wake.set, on_death)
