"""Variants as child processes: what Deployments do on Kubernetes, on one machine.

Each variant has one task that fetches its version and then keeps `replicas` model servers alive.
Processes are started from the event loop's thread, which must be the main one: they die with it.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import httpx

from kingmaker_contracts import keys
from kingmaker_controller.errors import FetchFailed
from kingmaker_controller.rollout.facts import Identity, Observed, Phase, WantedVariant
from kingmaker_controller.runtimes.fetching import Fetched, Fetcher
from kingmaker_controller.runtimes.podspec import body_limit
from kingmaker_controller.runtimes.replica import Backoff, Replica, Server

logger = logging.getLogger(__name__)

SERVER_PREFIX: Final = "KINGMAKER_MODEL_SERVER_"
_PROBE_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Commands:
    """How model servers are started and stopped. env: the environment they inherit; host: where they listen and where
    gateways are told to find them; logs: folder of their logs."""

    server: Sequence[str]
    env: Mapping[str, str]
    host: str
    log_format: str
    logs: Path
    stop_grace_s: float
    backoff: Backoff


class ProcessRuntime:
    """on_change is called whenever something is to be observed; on_death(model, variant) for every process that
    ended by itself."""

    def __init__(
        self,
        fetcher: Fetcher,
        commands: Commands,
        on_change: Callable[[], None],
        on_death: Callable[[str, str], None],
    ) -> None:
        self._fetcher = fetcher
        self._commands = commands
        self._on_change = on_change
        self._on_death = on_death
        self._http = httpx.AsyncClient(timeout=_PROBE_TIMEOUT_S, trust_env=False)
        self._variants: dict[tuple[str, Identity], _Variant] = {}
        self._stopping: set[asyncio.Task[None]] = set()
        commands.logs.mkdir(parents=True, exist_ok=True)

    def apply(self, model: str, wanted: Sequence[WantedVariant]) -> None:
        wanted_ones = {variant.identity: variant for variant in wanted}
        for key in [k for k in self._variants if k[0] == model and k[1] not in wanted_ones]:
            self._retire(key)
        for identity, variant in wanted_ones.items():
            running = self._variants.get((model, identity))
            if running is not None:
                running.adjust(variant)
            elif not variant.draining and variant.replicas:
                self._variants[model, identity] = _Variant(model, variant, self)

    def observe(self, model: str, pinned: Set[Identity]) -> dict[Identity, Observed]:  # noqa: ARG002 - all is known here
        return {identity: v.observed() for (owner, identity), v in self._variants.items() if owner == model}

    def changed(self) -> tuple[str, ...]:
        """None: every model is looked at in each step, there are few."""
        return ()

    def profile(self, model: str, sha256: str) -> bytes | None:
        own = (variant.profile(sha256) for (owner, _), variant in self._variants.items() if owner == model)
        return next((raw for raw in own if raw is not None), None)

    async def close(self) -> None:
        """Stop every process, all at once; returns when all are reaped."""
        for key in list(self._variants):
            self._retire(key)
        await asyncio.gather(*self._stopping, return_exceptions=True)
        await self._http.aclose()

    def _retire(self, key: tuple[str, Identity]) -> None:
        variant = self._variants.pop(key)
        task = asyncio.create_task(variant.stop(), name=f"stop {key[1].name}")
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    # what a variant needs of its runtime

    @property
    def fetcher(self) -> Fetcher:
        return self._fetcher

    @property
    def commands(self) -> Commands:
        return self._commands

    def note_change(self) -> None:
        self._on_change()

    def replica(self, model: str, variant: str, server: Server) -> Replica:
        return Replica(
            server,
            self._http,
            backoff=self._commands.backoff,
            on_change=self._on_change,
            on_death=lambda: self._on_death(model, variant),
        )


class _Variant:
    """One variant's processes and the task that owns them."""

    def __init__(self, model: str, wanted: WantedVariant, runtime: ProcessRuntime) -> None:
        self._model = model
        self._wanted = wanted
        self._runtime = runtime
        self._fetched: Fetched | None = None
        self._phase: Phase = "Fetching"
        self._message = ""
        self._reason = ""
        self._replicas: list[tuple[Replica, asyncio.Task[None]]] = []
        self._stopping: set[asyncio.Task[None]] = set()
        self._task = asyncio.create_task(self._begin(), name=f"variant {wanted.name}")

    def adjust(self, wanted: WantedVariant) -> None:
        """Take note of pins and replicas; more or fewer processes are started or stopped at once."""
        if not wanted.draining:
            keeps = wanted.asked is None and wanted.replicas < self._wanted.replicas
            self._wanted = replace(wanted, replicas=self._wanted.replicas) if keeps else wanted
            if self._fetched is not None:
                self._scale()

    def observed(self) -> Observed:
        restarts = sum(replica.restarts for replica, _ in self._replicas)
        if self._fetched is None:
            return Observed(self._phase, message=self._message, reason=self._reason)
        endpoints = tuple(replica.endpoint for replica, _ in self._replicas if replica.endpoint)
        phase, message = self._servers_phase(len(endpoints))
        manifest = self._fetched.manifest
        return Observed(
            phase,
            manifest.version,
            manifest.sha256,
            manifest.profile_sha256,
            endpoints,
            message,
            "ServerEnded" if phase == "Failed" else "",
            restarts,
            next((replica.inputs for replica, _ in self._replicas if replica.inputs), {}),
        )

    def profile(self, sha256: str) -> bytes | None:
        """What was fetched with it, if it is this one."""
        fetched = self._fetched
        return fetched.profile if fetched is not None and fetched.manifest.profile_sha256 == sha256 else None

    async def stop(self) -> None:
        """Cancel the work and end every process."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        while self._replicas:
            self._end(*self._replicas.pop())
        await asyncio.gather(*self._stopping, return_exceptions=True)
        self._runtime.note_change()

    async def _begin(self) -> None:
        """Fetch, again and again until it works, then start the servers."""
        log = self._log("fetch.log")
        failures = 0
        while self._fetched is None:
            if not failures:  # later attempts go on under what the last one said
                self._show("Fetching", "", "")
            try:
                fetched = await self._runtime.fetcher.fetch(self._wanted, log)
            except Exception as error:  # whatever it is: nobody else would try again
                is_known = isinstance(error, FetchFailed | OSError)
                reason = error.reason if isinstance(error, FetchFailed) else "FetchFailed"
                self._show("Failed", f"{reason}: {error if is_known else repr(error)}", reason)
                about = {"variant": self._wanted.name, "error": str(error)}
                logger.warning("fetch failed", extra=about, exc_info=None if is_known else error)
                await asyncio.sleep(self._runtime.commands.backoff.wait_s(failures))
                failures += 1
                continue
            self._fetched = fetched
        self._scale()
        self._runtime.note_change()

    def _scale(self) -> None:
        while len(self._replicas) > self._wanted.replicas:
            self._end(*self._replicas.pop())
        while len(self._replicas) < self._wanted.replicas:
            name = self._wanted.name
            replica = self._runtime.replica(self._model, name, self._server(len(self._replicas)))
            self._replicas.append((replica, asyncio.create_task(replica.run(), name=f"replica of {name}")))

    def _server(self, number: int) -> Server:
        assert self._fetched is not None  # noqa: S101 - replicas exist only after the fetch
        manifest, commands = self._fetched.manifest, self._runtime.commands
        name = keys.split_model_id(self._model)[1]
        settings = {
            "MODEL_DIR": str(self._fetched.folder),
            "MODEL_NAME": name,
            "VERSION": manifest.version,
            "EXPECTED_SHA256": manifest.sha256,
            "HOST": commands.host,
            "LOG_FORMAT": commands.log_format,
        }
        larger = {SERVER_PREFIX + key: str(value) for key, value in body_limit(self._wanted.limits).items()}
        env = {**larger, **commands.env, **{SERVER_PREFIX + key: value for key, value in settings.items()}}
        log = self._log("log" if number == 0 else f"{number}.log")
        metadata = "" if manifest.profile_sha256 else f"/v2/models/{name}"
        return Server(commands.server, env, f"{SERVER_PREFIX}PORT", commands.host, log, metadata)

    def _log(self, ending: str) -> Path:
        """Of this variant of this model alone: what a fetch found is read from its log."""
        return self._runtime.commands.logs / f"{self._model.replace('/', '.')}.{self._wanted.name}.{ending}"

    def _servers_phase(self, ready: int) -> tuple[Phase, str]:
        if not self._replicas:
            return "Pending", ""
        if ready:
            count = len(self._replicas)
            return "Ready", "" if ready == count else f"{ready} of {count} replicas are ready"
        phases = [replica.phase for replica, _ in self._replicas]
        phase: Phase = "Failed" if all(p == "Failed" for p in phases) else "Starting"
        return phase, next((r.message for r, _ in self._replicas if r.phase == phase), "")

    def _show(self, phase: Phase, message: str, reason: str) -> None:
        self._phase, self._message, self._reason = phase, message, reason
        self._runtime.note_change()

    def _end(self, replica: Replica, task: "asyncio.Task[None]") -> None:
        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await replica.stop(self._runtime.commands.stop_grace_s)

        ending = asyncio.create_task(end(), name="stop replica")
        self._stopping.add(ending)
        ending.add_done_callback(self._stopping.discard)
