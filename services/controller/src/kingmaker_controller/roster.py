"""Who is served: every model with its resource and status, and those that are on their way out.

What a source says is compared with what was accepted before; a model that is gone keeps the number of its last
revision, which a later life must exceed.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from kingmaker_contracts import served_model
from kingmaker_contracts.routing import RoutingRecord
from kingmaker_contracts.served_model import Fault, InvalidResource, ServedModel
from kingmaker_contracts.status import RoutingStatus, Status
from kingmaker_controller.queue import WorkQueue
from kingmaker_controller.rollout.facts import Event, stamp
from kingmaker_controller.sources import Document, Reading
from kingmaker_controller.state import AuditEntry, StoredModel

logger = logging.getLogger(__name__)


class Records(Protocol):
    """Where statuses are durable: the local state file, or the status of Kubernetes objects."""

    def models(self) -> dict[str, StoredModel]: ...

    def find(self, model: str) -> StoredModel | None:
        """One of them, also one that was removed before if that is remembered."""
        ...

    async def save(self, stored: StoredModel, events: Sequence[Event], now: datetime) -> None:
        """Durable when it returns. Raises StatusOutdated when somebody else wrote it meanwhile."""
        ...

    async def reload(self, stored: StoredModel) -> StoredModel:
        """The model as it stands there now."""
        ...

    def audit(self, model: str, limit: int = 200) -> list[AuditEntry]: ...


class Model:
    """One model between two steps. known: what this controller wrote or already reported; see RedisView."""

    def __init__(self, stored: StoredModel, resource: ServedModel | None) -> None:
        self.stored = stored
        self.resource = resource
        self.document: Document | None = None
        self.faults: tuple[Fault, ...] = ()
        self.last: RoutingRecord | None = None
        self.known: RoutingRecord | None = None
        self.inputs: dict[str, dict[str, str]] = {}
        """By the sha256 of a profile: it never changes, so it is read once."""

    @property
    def id(self) -> str:
        return self.stored.model


class Roster:
    """models: by `namespace/name`, those the source holds or held when it was last readable; leaving: removed ones
    whose routing is still to be taken away."""

    def __init__(self, records: Records, now: Callable[[], datetime], queue: WorkQueue) -> None:
        self._records, self._now, self._queue = records, now, queue
        self.models: dict[str, Model] = {}
        self.leaving: dict[str, Model] = {}
        self._restore()

    def _restore(self) -> None:
        for stored in self._records.models().values():
            into = self.leaving if stored.removed else self.models
            into[stored.model] = Model(stored, _accepted(stored))

    async def take(self, reading: Reading) -> list[str]:
        """What a source says now; the models that are gone. Whatever is new about one puts it into the queue."""
        gone = []
        for model_id, document in reading.models.items():
            model = self.models.get(model_id)
            if model is not None and model.document is document:
                continue
            if model is not None and model.document is not None and model.document.uid != document.uid:
                gone.append(model_id)
                await self._dismiss(model_id)  # deleted, and made again before anybody looked
                model = None
            await self._take_one(model or self._welcome(model_id, document), document)
        absent = [model_id for model_id in self.models if model_id not in reading.models]
        for model_id in absent:
            if reading.faults:  # it cannot be told whether this model is gone: keep it
                self.models[model_id].faults = reading.faults
                self.models[model_id].document = None
                self._queue.add(model_id, time.monotonic())
            else:
                gone.append(model_id)
                await self._dismiss(model_id)
        for fault in reading.faults:
            logger.error("resource file is faulty", extra={"fault": str(fault)})
        return gone

    async def _take_one(self, model: Model, document: Document) -> None:
        await self._accept(model, document)
        model.document, model.faults = document, document.faults  # only now: what is not saved is taken once more
        self._queue.add(model.id, time.monotonic())

    async def _accept(self, model: Model, document: Document) -> None:
        if document.resource is None:
            return
        plain = document.resource.spec.model_dump(mode="json", by_alias=True)
        accepted = model.resource.spec.model_dump(mode="json", by_alias=True) if model.resource else None
        generation = document.generation
        if plain == accepted and generation in (None, model.stored.generation):
            return
        data = document.resource.model_dump(mode="json", by_alias=True)
        counted = model.stored.generation + 1 if generation is None else generation
        stored = replace(model.stored, generation=counted, resource=data)
        if generation is None:  # nobody else remembers it
            await self._records.save(stored, [], self._now())
        model.stored, model.resource = stored, document.resource

    def _welcome(self, model_id: str, document: Document) -> Model:
        leaving = self.leaving.pop(model_id, None)
        stored = self._records.find(model_id) or (leaving.stored if leaving else None)
        if stored is None:
            stored = StoredModel(model_id, stamp(self._now()), 0, None, Status(), removed=False)
        stored = replace(stored, removed=False, created_at=document.created_at or stored.created_at)
        model = Model(stored, _accepted(stored))
        if leaving is not None:
            model.known = leaving.known  # its predecessor's routing still stands there, and is nobody else's
        self.models[model_id] = model
        return model

    async def _dismiss(self, model_id: str) -> None:
        """Forget a model but for the number of its last revision, which a later life must exceed."""
        model = self.models[model_id]
        routing = model.stored.status.routing
        rest = RoutingStatus(routing.revision, routing.epoch, 100, "", []) if routing else None
        stored = replace(model.stored, removed=True, resource=None, status=Status(routing=rest))
        await self._records.save(
            stored, [Event("ModelRemoved", f"{model_id} is not in the source any more")], self._now()
        )
        del self.models[model_id]
        self._queue.forget(model_id)
        model.stored, model.resource = stored, None
        self.leaving[model_id] = model
        logger.info("model removed", extra={"model": model_id})


def _accepted(stored: StoredModel) -> ServedModel | None:
    """The last accepted resource; None when this version of the controller would not accept it."""
    if stored.resource is None:
        return None
    try:
        return served_model.parse(stored.resource)
    except InvalidResource as error:
        logger.error("stored resource is not valid any more", extra={"model": stored.model, "faults": str(error)})
        return None
