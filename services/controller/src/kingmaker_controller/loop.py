"""The loop: look at resources, what runs and Redis, decide, and carry the decision out, model by model.

Order within one reconcile: the status is durable before Redis sees the record it speaks of, and Redis has
the record before anything is started or stopped for it. A model is due when something about it was reported,
and at every sweep, so nothing is lost when a report is.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import msgspec

from kingmaker_contracts import keys
from kingmaker_controller.errors import LeaderLost, LeaseUnavailable, StatusOutdated, StoreUnavailable
from kingmaker_controller.leader import Leader
from kingmaker_controller.metrics import Metrics
from kingmaker_controller.queue import WorkQueue
from kingmaker_controller.redis_store import Overtaken, RedisStore, Stored
from kingmaker_controller.rollout.facts import (
    DRAIN_S,
    Desired,
    GatewayView,
    Identity,
    Outcome,
    RedisView,
    age_s,
)
from kingmaker_controller.rollout.reconcile import reconcile
from kingmaker_controller.roster import Model, Records, Roster
from kingmaker_controller.runtimes import Runtime
from kingmaker_controller.sources import Reading, Source

logger = logging.getLogger(__name__)

_ACK_LOOK_S: Final = 0.2
_ACK_PATIENCE_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Pace:
    """poll_s: the longest between two steps; sweep_s: how often every model is due, 0 for each step; drain_s: see
    `reconcile`; at_once: models reconciled at the same time."""

    poll_s: float
    sweep_s: float = 0.0
    drain_s: float = DRAIN_S
    at_once: int = 1


class Loop:
    """Built once in `app`; `run` until cancelled. now: the wall clock, UTC."""

    def __init__(
        self,
        *,
        source: Source,
        runtime: Runtime,
        store: RedisStore,
        state: Records,
        leader: Leader,
        metrics: Metrics,
        wake: asyncio.Event,
        now: Callable[[], datetime],
        pace: Pace,
    ) -> None:
        self._source, self._runtime, self._store = source, runtime, store
        self._state, self._leader, self._metrics = state, leader, metrics
        self._wake, self._now, self._pace = wake, now, pace
        self._queue = WorkQueue()
        self._swept = -math.inf
        self._reading: Reading | None = None
        self._roster = Roster(state, now, self._queue)
        self._is_redis_up: bool | None = None

    @property
    def models(self) -> dict[str, Model]:
        """Models the source holds or held when it was last readable, by `namespace/name`."""
        return self._roster.models

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
                async with asyncio.timeout(self._queue.wait_s(time.monotonic(), self._pace.poll_s)):
                    await self._wake.wait()
                await asyncio.sleep(min(0.02, self._pace.poll_s / 10))  # several reports at once make one step
            except TimeoutError:
                pass

    async def step(self) -> None:
        """One look at everything. What fails for one model is counted and logged, and met again later."""
        await self._leader.hold(self._now())
        self._reading = self._source.poll() or self._reading
        if self._reading is not None:
            await self._take(self._reading)
        now = time.monotonic()
        for model_id in self._runtime.changed():
            self._queue.add(model_id, now)
        if now - self._swept >= self._pace.sweep_s:
            self._swept = now
            for model_id in self.models:
                self._queue.sweep(model_id, now)
        due = [self.models[model_id] for model_id in self._queue.take(now) if model_id in self.models]
        if due:
            gateways, error = await self._gateways()
            slots = asyncio.Semaphore(self._pace.at_once)
            await _all(self._guarded(model, gateways.get(model.id, ()), error, slots) for model in due)
        for model_id in list(self._roster.leaving):
            if not await self._send_off(model_id):
                break  # one wait a step for a Redis that hangs, not one a model

    async def _take(self, reading: Reading) -> None:
        """A source says what is new once; what could not be saved is taken again in the next step."""
        try:
            for gone in await self._roster.take(reading):
                self._metrics.forget(gone)
            self._reading = None
        except Exception:
            self._metrics.reconcile_errors.inc()
            logger.exception("what the source says was not taken in; the next step tries again")

    async def _send_off(self, model_id: str) -> bool:
        """Routing goes first; the processes follow once it is gone. False when Redis does not answer."""
        namespace, name = keys.split_model_id(model_id)
        try:
            await self._store.remove(namespace, name, self._leader.epoch)
        except StoreUnavailable:
            return False
        self._runtime.apply(model_id, [])
        del self._roster.leaving[model_id]
        return True

    # one model

    async def _guarded(
        self, model: Model, gateways: tuple[GatewayView, ...], error: str, slots: asyncio.Semaphore
    ) -> None:
        async with slots:
            await self._leader.hold(self._now())
            self._metrics.reconciles.inc()
            try:
                with self._metrics.reconcile_seconds.time():
                    await self._reconcile(model, gateways, error)
            except LeaderLost:
                raise
            except StatusOutdated as outdated:
                logger.info("status was written by another", extra={"model": model.id, "detail": str(outdated)})
                await self._meet_again(model)
            except Exception:
                self._metrics.reconcile_errors.inc()
                logger.exception("reconcile failed", extra={"model": model.id})
                self._queue.failed(model.id, time.monotonic())
            else:
                self._queue.succeeded(model.id)
                self._plan_next_look(model)

    async def _meet_again(self, model: Model) -> None:
        """Start from what stands there now, if that still is our business."""
        try:
            await self._leader.confirm()
            model.stored = await self._state.reload(model.stored)
            routing = model.stored.status.routing
            if routing is not None and routing.epoch > self._leader.epoch:
                await self._leader.raise_above(routing.epoch, self._now())
        except (StatusOutdated, LeaseUnavailable) as error:
            logger.warning("status cannot be read again", extra={"model": model.id, "error": str(error)})
        self._queue.failed(model.id, time.monotonic())

    def _plan_next_look(self, model: Model) -> None:
        """Gateways take notice of a new revision within a second or two: look again soon, and no longer than that."""
        programmed = next((c for c in model.stored.status.conditions if c.type == "Programmed"), None)
        is_fresh = model.last is not None and age_s(model.last.updated_at, self._now()) < _ACK_PATIENCE_S
        leaving = any(v.phase == "Draining" for v in model.stored.status.variants)
        if leaving or (is_fresh and programmed is not None and programmed.status != "True"):
            self._queue.add_after(model.id, time.monotonic() + _ACK_LOOK_S)

    async def _reconcile(self, model: Model, gateways: tuple[GatewayView, ...], error: str) -> None:
        """error: why Redis did not answer in this step already, "" when it did."""
        stored = Stored(None)
        if not error:  # one wait a step for a Redis that hangs, not one a model
            try:
                stored = await self._store.read(*keys.split_model_id(model.id), _profiles(model))
                await self._read_inputs(model, stored)
            except StoreUnavailable as unavailable:
                error = str(unavailable)
        self._note_redis(not error, error)
        if stored.record is not None and stored.record.epoch > self._leader.epoch:
            await self._leader.raise_above(stored.record.epoch, self._now())
            logger.warning("epoch raised above a stored record", extra={"model": model.id, "epoch": self._leader.epoch})
        if stored.record is not None and stored.record == model.last:
            model.known = stored.record  # it was written, though the answer that said so may have got lost
        view = RedisView(not error, error, stored.record, model.known, stored.malformed, gateways, model.inputs)
        outcome = self._decide(model, view)
        await self._keep(model, outcome)
        if view.reachable:
            if stored.record is not None and stored.record != model.last:
                model.known = stored.record  # reported if it was foreign; not twice
            await self._write(model, outcome, stored)
        self._runtime.apply(model.id, outcome.wanted)

    async def _read_inputs(self, model: Model, stored: Stored) -> None:
        """What the variants take, once for each profile that is there."""
        model.inputs = {sha256: told for sha256, told in model.inputs.items() if sha256 in _profiles(model)}
        for sha256 in stored.profiles - model.inputs.keys():
            told = await self._store.inputs(*keys.split_model_id(model.id), sha256)
            if told is not None:
                model.inputs[sha256] = told

    def _decide(self, model: Model, view: RedisView) -> Outcome:
        return reconcile(
            desired=Desired(model.resource, model.faults, model.stored.generation, _seen(model)),
            previous=model.stored.status,
            observed=self._runtime.observe(model.id, _pinned(model)),
            redis=view,
            last=model.last,
            now=self._now(),
            epoch=self._leader.epoch,
            drain_s=self._pace.drain_s,
        )

    async def _keep(self, model: Model, outcome: Outcome) -> None:
        """Make the decision durable before anything follows from it; a status without news is not written."""
        for event in outcome.events:
            logger.info("decided", extra={"model": model.id, "reason": event.reason, "detail": event.message})
        if outcome.status != model.stored.status or outcome.events:
            stored = replace(model.stored, status=outcome.status)
            await self._state.save(stored, outcome.events, self._now())
            model.stored = stored
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
                await self._store.replace(routing, plan, stored)
                self._queue.add(model.id, time.monotonic())  # the next step says Programmed
                self._wake.set()
            model.known = routing
        except StoreUnavailable as error:
            self._note_redis(False, str(error))
        except Overtaken as overtaken:
            logger.warning("routing record overtaken", extra={"model": model.id, "found": str(overtaken)})
            await self._leader.confirm()
            self._queue.add(model.id, time.monotonic())
            self._wake.set()

    # Redis

    async def _gateways(self) -> tuple[dict[str, tuple[GatewayView, ...]], str]:
        """Acknowledgements by model, and why there are none."""
        try:
            return await self._store.gateways(list(self.models)), ""
        except StoreUnavailable as error:
            return {}, str(error)

    def _note_redis(self, is_up: bool, error: str) -> None:
        if is_up != self._is_redis_up:
            if not is_up:
                logger.error("Redis does not answer; trying again until it does", extra={"error": error})
            elif self._is_redis_up is not None:
                logger.info("Redis answers again")
            self._is_redis_up = is_up


async def _all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """All of it; once one fails, the others are broken off, for nobody waits for them any more."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _seen(model: Model) -> int:
    return model.document.generation or 0 if model.document is not None else 0


def _pinned(model: Model) -> frozenset[Identity]:
    return frozenset(Identity(v.name, v.model) for v in model.stored.status.variants if v.version)


def _profiles(model: Model) -> frozenset[str]:
    return frozenset(v.profile for v in model.stored.status.variants if v.profile)
