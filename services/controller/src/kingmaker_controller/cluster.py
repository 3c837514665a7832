"""Leading the ServedModels of one namespace: several controllers may run, the one that holds the Lease works.

The others keep their copies of the cluster up to date and wait in line. One that loses the Lease ends, and is
started again by its Deployment: nothing it had begun can go on by accident.
"""

import asyncio
import logging
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import httpx

from kingmaker_contracts import keys
from kingmaker_controller import api
from kingmaker_controller.errors import LeaseHeld, LeaseUnavailable, StoreUnavailable
from kingmaker_controller.ground import DRAIN_S, Ground, epochs, now, together
from kingmaker_controller.kube import reflector
from kingmaker_controller.kube.api import DEPLOYMENT, POD, SERVED_MODEL, SERVICE_MONITOR, Api, Kind, Object, connect
from kingmaker_controller.kube.events import Events
from kingmaker_controller.kube.lease import PACE, KubernetesLease
from kingmaker_controller.kube.records import KubernetesRecords, is_leaving
from kingmaker_controller.kube.reflector import Reflector
from kingmaker_controller.leader import Leader
from kingmaker_controller.loop import Loop, Pace
from kingmaker_controller.runtimes import applying, children, pods
from kingmaker_controller.runtimes.kubernetes import KubernetesRuntime
from kingmaker_controller.runtimes.manifests import OWN_SELECTOR, Owner
from kingmaker_controller.runtimes.packages import Packages
from kingmaker_controller.runtimes.podspec import Template
from kingmaker_controller.runtimes.registry import Registry, credentials
from kingmaker_controller.settings import KubernetesSettings
from kingmaker_controller.sources.kubernetes import KubernetesSource
from kingmaker_servicekit import serving
from kingmaker_servicekit.serving import Listener

logger = logging.getLogger(__name__)

AT_ONCE: Final = 8
IN_LINE_S: Final = 2.0
LAST_WORDS_S: Final = 2.0
REIGN_ENDS_S: Final = 10.0
"""What a reign gets to end its tasks, say its last words and give back the Lease."""


@dataclass(frozen=True, slots=True)
class Copies:
    """Of what the namespace holds."""

    models: Reflector
    deployments: Reflector
    pods: Reflector
    children: dict[str, Reflector]
    """By kind: everything else a variant or a model has."""

    async def keep(self) -> None:
        await together(*(copy.run() for copy in self._all()))

    async def synced(self) -> None:
        for copy in self._all():
            await copy.synced.wait()

    def _all(self) -> list[Reflector]:
        return [self.models, self.deployments, self.pods, *self.children.values()]


class _Stage:
    """What is built once; `view` is what the API shows, None before this controller leads."""

    def __init__(
        self, ground: Ground, settings: KubernetesSettings, client: Api, http: httpx.AsyncClient, registry: Registry
    ) -> None:
        self.ground, self.settings, self.client = ground, settings, client
        self.holder = f"{settings.holder or socket.gethostname()}_{secrets.token_hex(4)}"
        self.wake = asyncio.Event()
        self.view: api.View | None = None
        self.source = KubernetesSource(lambda: self.copies.models)
        template = Template(
            settings.image,
            ground.settings.registry_uri or "",
            settings.image_pull_policy,
            settings.image_pull_secrets,
            settings.registry_secret,
            ground.settings.log_format,
            settings.service_monitor_labels,
            settings.service_monitor_interval,
            settings.listen_address,
        )
        self.copies = Copies(
            self._copy(SERVED_MODEL, self._note_model, keep=_without_managed_fields),
            self._copy(DEPLOYMENT, self._note_deployment, OWN_SELECTOR, applying.slim),
            self._copy(POD, self._note_pod, OWN_SELECTOR, pods.slim),
            {
                kind.kind: self._copy(kind, partial(self._note_child, kind), OWN_SELECTOR, children.slim)
                for kind in children.WATCHED
            },
        )
        self.runtime = KubernetesRuntime(
            client,
            registry,
            Packages(http),
            template,
            self.copies.deployments.objects,
            owner_of=self._owner_of,
            has_monitors=lambda: settings.service_monitors and self.copies.children[SERVICE_MONITOR.kind].exists,
            on_change=self.wake.set,
        )
        self.events = Events(client, settings.namespace, self.holder, ground.metrics.events_dropped.inc)
        self.records = KubernetesRecords(client, self.copies.models, self.events)
        self.leader = Leader(KubernetesLease(client, settings.namespace, settings.lease), self.holder, PACE)

    def _copy(self, kind: Kind, on_change: Any, selector: str = "", keep: Any = None) -> Reflector:
        pace = reflector.Pace(silence_s=self.settings.watch_silence_s)
        return Reflector(
            self.client,
            kind,
            self.settings.namespace,
            selector,
            on_change=on_change,
            keep=keep,
            is_optional=kind is SERVICE_MONITOR,
            pace=pace,
        )

    def _note_model(self, name: str, item: Object | None) -> None:
        self.source.note(name, item)
        self.wake.set()

    def _note_deployment(self, name: str, item: Object | None) -> None:
        self.runtime.note_deployment(name, item)

    def _note_pod(self, name: str, item: Object | None) -> None:
        self.runtime.note_pod(name, item)

    def _note_child(self, kind: Kind, name: str, item: Object | None) -> None:
        self.runtime.note_child(kind, name, item)

    def _owner_of(self, model: str) -> Owner | None:
        namespace, name = keys.split_model_id(model)
        item = self.copies.models.objects.get(name)
        return None if item is None or is_leaving(item) else Owner(name, namespace, item["metadata"]["uid"])

    async def reign(self) -> None:
        """Wait in line, then lead until cancelled. Raises LeaderLost."""
        await self.copies.synced()
        epoch = await self._wait_in_line()
        logger.info("leading", extra={"epoch": epoch, "holder": self.holder})
        self.ground.metrics.leader.set(1)
        try:
            chosen = self.settings
            loop = Loop(
                source=self.source,
                runtime=self.runtime,
                store=self.ground.store,
                state=self.records,
                leader=self.leader,
                metrics=self.ground.metrics,
                wake=self.wake,
                now=now,
                pace=Pace(self.ground.settings.poll_ms / 1000, chosen.sweep_s, chosen.drain_s, AT_ONCE),
            )
            self.view = api.View(loop, self.records)
            await together(
                loop.run(),
                self.leader.keep(now),
                self.runtime.run(),
                self.records.run(),
                self.events.run(),
                self._sweep_orphans(),
            )
        finally:
            self.view = None
            self.ground.metrics.leader.set(0)
            await self.events.flush(LAST_WORDS_S)
            await self.leader.release()

    async def _wait_in_line(self) -> int:
        told = ""
        while True:
            try:
                models = self.records.models().values()
                return await self.leader.acquire(await epochs(models, self.ground.store), now())
            except (LeaseHeld, LeaseUnavailable) as error:
                if type(error).__name__ != told:
                    told = type(error).__name__
                    logger.info("waiting in line", extra={"reason": str(error)})
            await asyncio.sleep(IN_LINE_S)

    async def _sweep_orphans(self) -> None:
        """Routing of models that were deleted while nobody led is taken away, again and again until Redis says so."""
        namespace = self.settings.namespace
        while True:
            try:
                for model in await self.ground.store.indexed():
                    where, _, name = model.partition("/")
                    if where == namespace and name not in self.copies.models.objects:
                        await self._sweep_orphan(where, name)
            except StoreUnavailable as error:
                logger.debug("orphans not looked for", extra={"error": str(error)})
            await asyncio.sleep(60.0)

    async def _sweep_orphan(self, namespace: str, name: str) -> None:
        """Unless it is made again meanwhile, by this same leader even: its record is newer then."""
        record = (await self.ground.store.read(namespace, name, frozenset())).record
        if name in self.copies.models.objects:
            return
        seen = record.revision if record is not None else 0
        if await self.ground.store.remove(namespace, name, self.leader.epoch, seen):
            logger.info("orphaned routing removed", extra={"model": keys.model_id(namespace, name)})


async def lead(ground: Ground, settings: KubernetesSettings, environ: Mapping[str, str]) -> None:
    """Until a signal. environ: may hold MLflow's credentials. Raises BadSettings and LeaderLost."""
    client = await connect(settings.kubeconfig, ground.metrics.api_request)
    http = httpx.AsyncClient(trust_env=False)
    try:
        registry = Registry(ground.settings.registry_uri or "", http, credentials(environ))
        stage = _Stage(ground, settings, client, http, registry)
        app = api.build(lambda: stage.view, ground.token, ground.registry, stage.copies.models.synced.is_set)
        listener = Listener("api", app, ground.listening)
        try:
            work = serving.serve([listener], DRAIN_S), stage.copies.keep(), stage.reign()
            await together(*work, last_words_s=REIGN_ENDS_S)
        finally:
            await stage.runtime.close()
    finally:
        await http.aclose()
        await client.close()


def _without_managed_fields(item: Object) -> Object:
    metadata = {key: value for key, value in item["metadata"].items() if key != "managedFields"}
    return {**item, "metadata": metadata}
