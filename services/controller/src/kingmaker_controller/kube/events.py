"""Decisions as Kubernetes Events: one object for one reason and note, counted when it comes again.

The name of an Event follows from what it says, so a repeat finds its predecessor, also after a change of
leaders. Events are for people; they are sent when there is time, and given up, counted, when there are too many.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from kingmaker_controller.errors import KubernetesError
from kingmaker_controller.kube.api import EVENT, Api, Object
from kingmaker_controller.rollout.facts import Event

logger = logging.getLogger(__name__)

QUEUE_SIZE: Final = 2000
_MAX_NOTE_BYTES: Final = 1000
_WARNINGS: Final = frozenset(
    {"InvalidSpec", "VariantFailed", "RoutingNotProgrammed", "SignatureMismatch", "WeightDriftCorrected"}
)


class Events:
    """holder: who reports; on_dropped: called for each Event that is given up."""

    def __init__(self, api: Api, namespace: str, holder: str, on_dropped: Callable[[], None]) -> None:
        self._api, self._namespace, self._holder = api, namespace, holder[:128]
        self._on_dropped = on_dropped
        self._queue: asyncio.Queue[Object] = asyncio.Queue(QUEUE_SIZE)
        self._sending: Object | None = None
        """What `run` had taken when it was cancelled: it may not have arrived."""

    def tell(self, regarding: Object, event: Event, now: datetime) -> None:
        """regarding: apiVersion, kind, name, namespace, uid of the object. Returns at once."""
        try:
            self._queue.put_nowait(_body(regarding, event, now, self._namespace, self._holder))
        except asyncio.QueueFull:
            self._on_dropped()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            body = self._sending = await self._queue.get()
            try:
                await self._send(body)
            except KubernetesError as error:
                self._on_dropped()
                logger.warning("event not sent", extra={"reason": body["reason"], "error": str(error)})
            self._sending = None

    async def flush(self, within_s: float) -> None:
        """Send what waits, for the last words of a controller that stops."""
        try:
            async with asyncio.timeout(within_s):
                if self._sending is not None:
                    await self._send(self._sending)
                    self._sending = None
                while not self._queue.empty():
                    await self._send(self._queue.get_nowait())
        except (KubernetesError, TimeoutError) as error:
            logger.warning("last events not sent", extra={"error": str(error)})

    async def _send(self, body: Object) -> None:
        try:
            await self._api.create(EVENT, self._namespace, body)
        except KubernetesError as error:
            if error.status != 409:
                raise
            name = body["metadata"]["name"]
            known = await self._api.get(EVENT, self._namespace, name)
            count = int((known.get("series") or {}).get("count", 1)) + 1
            series = {"count": count, "lastObservedTime": body["eventTime"]}
            await self._api.merge(EVENT, self._namespace, name, {"series": series})


def _body(regarding: Object, event: Event, now: datetime, namespace: str, holder: str) -> Object:
    note = event.message
    if len(note.encode()) > _MAX_NOTE_BYTES:
        note = note.encode()[: _MAX_NOTE_BYTES - 3].decode(errors="ignore") + "..."
    mark = "\0".join((regarding["uid"], event.reason, note))
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.kind,
        "metadata": {
            "name": f"{regarding['name']}.{hashlib.blake2b(mark.encode(), digest_size=8).hexdigest()}",
            "namespace": namespace,
        },
        "eventTime": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": "kingmaker.dev/controller",
        "reportingInstance": holder,
        "action": "Reconcile",
        "reason": event.reason,
        "note": note,
        "type": "Warning" if event.reason in _WARNINGS else "Normal",
        "regarding": regarding,
    }
