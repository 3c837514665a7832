"""The loop: look at file, processes and Redis, decide, and carry the decision out, model by model.

Order within one step: the status is on disk before Redis sees the record it speaks of, and Redis has
the record before processes are started or stopped for it. Every look is cheap and repeated, so nothing
is lost when one fails.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Final

import msgspec

from kingmaker_contracts import keys, served_model
from kingmaker_contracts.routing import RoutingRecord
from kingmaker_contracts.served_model import Fault, InvalidResource, ServedModel
from kingmaker_contracts.status import RoutingStatus, Status
from kingmaker_controller.errors import LeaderLost, StoreUnavailable
from kingmaker_controller.leader import Leader
from kingmaker_controller.metrics import Metrics
from kingmaker_controller.redis_store import Overtaken, RedisStore, Stored
from kingmaker_controller.rollout.facts import Desired, Event, GatewayView, Outcome, RedisView, stamp
from kingmaker_controller.rollout.reconcile import reconcile
from kingmaker_controller.runtimes import Runtime
from kingmaker_controller.sources import Reading, Source
from kingmaker_controller.state import State, StoredModel

logger = logging.getLogger(__name__)

LEASE_LOOK_S: Final = 1.0
LEASE_RENEW_S: Final = 10.0


class Model:
    """One model between two steps. known: what this controller wrote or already reported; see RedisView."""

    def __init__(self, stored: StoredModel, resource: ServedModel | None) -> None:
        self.stored = stored
        self.resource = resource
        self.faults: tuple[Fault, ...] = ()
        self.last: RoutingRecord | None = None
        self.known: RoutingRecord | None = None

    @property
    def id(self) -> str:
        return self.stored.model


class Loop:
    """Built once in `app`; `run` until cancelled. now: the wall clock, UTC."""

    def __init__(
        self,
        *,
        source: Source,
        runtime: Runtime,
        store: RedisStore,
        state: State,
        leader: Leader,
        metrics: Metrics,
        wake: asyncio.Event,
        now: Callable[[], datetime],
        poll_s: float,
    ) -> None:
        self._source, self._runtime, self._store = source, runtime, store
        self._state, self._leader, self._metrics = state, leader, metrics
        self._wake, self._now, self._poll_s = wake, now, poll_s
        self._models: dict[str, Model] = {}
        self._leaving: dict[str, StoredModel] = {}
        self._is_redis_up: bool | None = None
        self._lease_looked = self._lease_renewed = time.monotonic()
        self._restore()

    @property
    def models(self) -> dict[str, Model]:
        """Models the source holds or held when it was last readable, by `namespace/name`."""
        return self._models

    async def run(self) -> None:
        """Step at every poll and whenever something was reported. Raises LeaderLost."""
        while True:
            self._wake.clear()
            try:
                await self.step()
            except LeaderLost:
                raise
            except Exception:
                self._metrics.reconcile_errors.inc()
                logger.exception("step failed; the next one tries again")
            try:
                async with asyncio.timeout(self._poll_s):
                    await self._wake.wait()
                await asyncio.sleep(self._poll_s / 10)  # several reports at once make one step
            except TimeoutError:
                pass

    async def step(self) -> None:
        """One look at everything. What fails for one model is counted and logged, and met again at the next step."""
        self._hold_lease()
        reading = self._source.poll()
        if reading is not None:
            self._take(reading)
        gateways, error = await self._gateways()
        for model in list(self._models.values()):
            with self._metrics.reconcile_seconds.time():
                await self._guarded(model, gateways.get(model.id, ()), error)
        for model_id in list(self._leaving):
            await self._send_off(model_id)

    def _hold_lease(self) -> None:
        now = time.monotonic()
        if now - self._lease_renewed > LEASE_RENEW_S:
            self._leader.renew(self._now())
            self._lease_looked = self._lease_renewed = now
        elif now - self._lease_looked > LEASE_LOOK_S:
            self._leader.confirm()
            self._lease_looked = now

    # what the source says

    def _restore(self) -> None:
        for stored in self._state.models().values():
            if stored.removed:
                self._leaving[stored.model] = stored
            else:
                self._models[stored.model] = Model(stored, _accepted(stored))

    def _take(self, reading: Reading) -> None:
        for model_id, document in reading.models.items():
            model = self._models.get(model_id) or self._welcome(model_id)
            model.faults = document.faults
            if document.resource is None:
                continue
            plain = document.resource.spec.model_dump(mode="json", by_alias=True)
            accepted = model.resource.spec.model_dump(mode="json", by_alias=True) if model.resource else None
            if plain != accepted:
                data = document.resource.model_dump(mode="json", by_alias=True)
                model.stored = replace(model.stored, generation=model.stored.generation + 1, resource=data)
                model.resource = document.resource
                self._state.save(model.stored, [], self._now())
        absent = [model_id for model_id in self._models if model_id not in reading.models]
        for model_id in absent:
            if reading.faults:  # it cannot be told whether this model is gone: keep it
                self._models[model_id].faults = reading.faults
            else:
                self._dismiss(model_id)
        for fault in reading.faults:
            logger.error("resource file is faulty", extra={"fault": str(fault)})

    def _welcome(self, model_id: str) -> Model:
        stored = self._leaving.pop(model_id, None)
        if stored is None:
            stored = self._state.models().get(model_id)
        if stored is None:
            stored = StoredModel(model_id, stamp(self._now()), 0, None, Status(), removed=False)
        model = Model(replace(stored, removed=False), None)
        self._models[model_id] = model
        return model

    def _dismiss(self, model_id: str) -> None:
        """Forget a model but for the number of its last revision, which a later life must exceed."""
        model = self._models.pop(model_id)
        routing = model.stored.status.routing
        rest = RoutingStatus(routing.revision, routing.epoch, 100, "", []) if routing else None
        stored = replace(model.stored, removed=True, resource=None, status=Status(routing=rest))
        self._state.save(stored, [Event("ModelRemoved", f"{model_id} is not in the source any more")], self._now())
        self._leaving[model_id] = stored
        self._metrics.forget(model_id)
        logger.info("model removed", extra={"model": model_id})

    async def _send_off(self, model_id: str) -> None:
        """Routing goes first; the processes follow once it is gone."""
        namespace, name = keys.split_model_id(model_id)
        try:
            await self._store.remove(namespace, name, self._leader.epoch)
        except StoreUnavailable:
            return
        self._runtime.apply(model_id, [])
        del self._leaving[model_id]

    # one model

    async def _guarded(self, model: Model, gateways: tuple[GatewayView, ...], error: str) -> None:
        self._metrics.reconciles.inc()
        try:
            await self._reconcile(model, gateways, error)
        except LeaderLost:
            raise
        except Exception:
            self._metrics.reconcile_errors.inc()
            logger.exception("reconcile failed", extra={"model": model.id})

    async def _reconcile(self, model: Model, gateways: tuple[GatewayView, ...], error: str) -> None:
        """error: why Redis did not answer in this step already, "" when it did."""
        stored = Stored(None)
        if not error:  # one wait a step for a Redis that hangs, not one a model
            try:
                stored = await self._store.read(*keys.split_model_id(model.id), _profiles(model))
            except StoreUnavailable as unavailable:
                error = str(unavailable)
        self._note_redis(not error, error)
        if stored.record is not None and stored.record.epoch > self._leader.epoch:
            self._leader.raise_above(stored.record.epoch, self._now())
            logger.warning("epoch raised above a stored record", extra={"model": model.id, "epoch": self._leader.epoch})
        view = RedisView(not error, error, stored.record, model.known, stored.malformed, gateways)
        outcome = self._decide(model, view)
        self._keep(model, outcome)
        if view.reachable:
            if stored.record is not None and stored.record != model.last:
                model.known = stored.record  # reported if it was foreign; not twice
            await self._write(model, outcome, stored)
        self._runtime.apply(model.id, outcome.wanted)

    def _decide(self, model: Model, view: RedisView) -> Outcome:
        return reconcile(
            desired=Desired(model.resource, model.faults, model.stored.generation),
            previous=model.stored.status,
            observed=self._runtime.observe(model.id),
            redis=view,
            last=model.last,
            now=self._now(),
            epoch=self._leader.epoch,
        )

    def _keep(self, model: Model, outcome: Outcome) -> None:
        """Make the decision durable before anything follows from it; a status without news is not written."""
        for event in outcome.events:
            logger.info("decided", extra={"model": model.id, "reason": event.reason, "detail": event.message})
        if outcome.status != model.stored.status or outcome.events:
            model.stored = replace(model.stored, status=outcome.status)
            self._state.save(model.stored, outcome.events, self._now())
            weights = {v.name: v.weight for v in outcome.routing.variants} if outcome.routing else {}
            self._metrics.show(model.id, outcome.status, weights)
        model.last = outcome.routing

    async def _write(self, model: Model, outcome: Outcome, stored: Stored) -> None:
        """Profiles, then routing and plan, each only when Redis has something else."""
        routing, plan = outcome.routing, outcome.plan
        if routing is None or plan is None:
            return
        namespace, name = routing.namespace, routing.name
        try:
            for sha256 in _profiles(model) - stored.profiles:
                raw = self._runtime.profile(model.id, sha256)
                if raw is not None:
                    await self._store.put_profile(namespace, name, sha256, raw)
            if stored.record != routing or stored.plan != msgspec.json.encode(plan) or not stored.is_indexed:
                await self._store.replace(routing, plan, stored.raw)
                self._wake.set()  # the next step says Programmed
            model.known = routing
        except StoreUnavailable as error:
            self._note_redis(False, str(error))
        except Overtaken as overtaken:
            logger.warning("routing record overtaken", extra={"model": model.id, "found": str(overtaken)})
            self._leader.confirm()
            self._wake.set()

    # Redis

    async def _gateways(self) -> tuple[dict[str, tuple[GatewayView, ...]], str]:
        """Acknowledgements by model, and why there are none."""
        try:
            return await self._store.gateways(list(self._models)), ""
        except StoreUnavailable as error:
            return {}, str(error)

    def _note_redis(self, is_up: bool, error: str) -> None:
        if is_up != self._is_redis_up:
            if not is_up:
                logger.error("Redis does not answer; trying again until it does", extra={"error": error})
            elif self._is_redis_up is not None:
                logger.info("Redis answers again")
            self._is_redis_up = is_up


def _profiles(model: Model) -> frozenset[str]:
    return frozenset(v.profile for v in model.stored.status.variants if v.profile)


def _accepted(stored: StoredModel) -> ServedModel | None:
    """The last accepted resource; None when this version of the controller would not accept it."""
    if stored.resource is None:
        return None
    try:
        return served_model.parse(stored.resource)
    except InvalidResource as error:
        logger.error("stored resource is not valid any more", extra={"model": stored.model, "faults": str(error)})
        return None
