"""A copy of every object of one kind, kept up to date: list once, then watch from the version of the list.

The watch carries bookmarks, ends by itself after some minutes and goes on from the last version; silence is
taken for a dead connection. A version that is too old (410) means to list again. All of it is listed again every
ten minutes even so: copies of others have been found stale after an event got lost, with nothing to heal them.
A kind the cluster need not know is asked for again just as often.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from kingmaker_controller.errors import KubernetesError, KubernetesUnavailable
from kingmaker_controller.kube.api import Api, Kind, Object

logger = logging.getLogger(__name__)

_SHORT_S: Final = 1.0
"""A watch is asked to live this long at least."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds. silence_s: how long a watch may say nothing (an API server sends bookmarks about once a minute);
    watch_s: how long one watch lives; relist_s: how often everything is listed; first_s, last_s: back-off."""

    silence_s: float = 75.0
    watch_s: float = 290.0
    relist_s: float = 600.0
    first_s: float = 0.2
    last_s: float = 15.0


class Reflector:
    """on_change: told each object that is new or another than before, and with None each name that is gone;
    keep: the parts of an object worth the memory; is_optional: the cluster may not know this kind, or not let us see
    it, which leaves the copy empty."""

    def __init__(
        self,
        api: Api,
        kind: Kind,
        namespace: str,
        selector: str = "",
        *,
        on_change: Callable[[str, Object | None], None],
        keep: Callable[[Object], Object] | None = None,
        is_optional: bool = False,
        pace: Pace | None = None,
        dice: random.Random | None = None,
    ) -> None:
        self._api, self._kind, self._namespace, self._selector = api, kind, namespace, selector
        self._on_change, self._keep = on_change, keep or (lambda item: item)
        self._pace = pace or Pace()
        self._dice = dice or random.Random()  # noqa: S311 - spreads reconnections, guards nothing
        self._is_optional = is_optional
        self._objects: dict[str, Object] = {}
        self.synced = asyncio.Event()
        """Set once the first list is in."""
        self.exists = not is_optional
        """Whether the cluster knows this kind, as far as we were told."""

    @property
    def objects(self) -> dict[str, Object]:
        """By name. Not to be changed."""
        return self._objects

    def put(self, item: Object) -> None:
        """An object as a write returned it, unless a newer one is known. Only the watch says what is there: the
        answer may be late, and the object deleted, or another made under its name, since it was given."""
        known = self._objects.get(item["metadata"]["name"])
        if known is not None and _is_same(item, known) and not _is_older(item, known):
            self._take(item)

    async def run(self) -> None:
        """List and watch until cancelled."""
        failures = 0
        while True:
            try:
                version = await self._list()
                failures = 0
                await self._follow(version)
            except KubernetesUnavailable as error:
                logger.warning("cluster does not answer", extra={"kind": self._kind.kind, "error": str(error)})
                failures += 1
            except KubernetesError as error:
                if self._is_optional and error.status in (403, 404):
                    self._do_without(error)
                    await asyncio.sleep(self._pace.relist_s * self._dice.uniform(0.8, 1.0))
                    continue
                level = logging.INFO if error.status == 410 else logging.WARNING
                logger.log(level, "listing again", extra={"kind": self._kind.kind, "error": str(error)})
                failures += 1
            if failures:
                await asyncio.sleep(self._wait_s(failures - 1))

    async def _list(self) -> str:
        items, version = await self._api.list(self._kind, self._namespace, self._selector)
        names = {item["metadata"]["name"] for item in items}
        for name in [name for name in self._objects if name not in names]:
            self._drop(name)
        for item in items:
            known = self._objects.get(item["metadata"]["name"])
            if known is None or _version(known) != _version(item):
                self._take(item)
        self.exists = True
        self.synced.set()
        return version

    def _do_without(self, error: KubernetesError) -> None:
        if self.exists or not self.synced.is_set():
            logger.info("the cluster has none of these", extra={"kind": self._kind.kind, "error": str(error)})
        for name in list(self._objects):
            self._drop(name)
        self.exists = False
        self.synced.set()

    async def _follow(self, version: str) -> None:
        """Watch after watch until it is time to list again. Raises KubernetesError, also for 410."""
        until = time.monotonic() + self._pace.relist_s * self._dice.uniform(0.8, 1.0)
        failures = 0
        while (began := time.monotonic()) < until:
            try:
                watch = self._api.watch(
                    self._kind,
                    self._namespace,
                    version,
                    self._selector,
                    timeout_s=min(
                        self._pace.watch_s * self._dice.uniform(0.8, 1.0), max(1.0, until - time.monotonic())
                    ),
                    silence_s=self._pace.silence_s,
                )
                async for event in watch:
                    version = self._absorb(event) or version
                    failures = 0
                if time.monotonic() - began < _SHORT_S:  # as a proxy may end every one of them, in good order
                    await asyncio.sleep(self._wait_s(failures))
                    failures += 1
            except KubernetesUnavailable as error:
                logger.info("watch broke off", extra={"kind": self._kind.kind, "error": str(error)})
                await asyncio.sleep(self._wait_s(failures))
                failures += 1
            except KubernetesError as error:
                if error.status < 500 and error.status != 429:
                    raise
                await asyncio.sleep(self._wait_s(failures))
                failures += 1

    def _absorb(self, event: Object) -> str:
        """Take an event; the version to go on from. Raises KubernetesError for an ERROR."""
        item = event["object"]
        if event["type"] == "ERROR":
            raise KubernetesError(int(item.get("code", 0)), str(item.get("reason")), str(item.get("message")))
        if event["type"] == "DELETED":
            self._drop(item["metadata"]["name"])
        elif event["type"] != "BOOKMARK":
            known = self._objects.get(item["metadata"]["name"])
            if known is None or not _is_same(item, known) or not _is_older(item, known):
                self._take(item)
        return _version(item)

    def _take(self, item: Object) -> None:
        kept = self._keep(item)
        name = item["metadata"]["name"]
        if self._objects.get(name) != kept:
            self._objects[name] = kept
            self._on_change(name, kept)

    def _drop(self, name: str) -> None:
        if self._objects.pop(name, None) is not None:
            self._on_change(name, None)

    def _wait_s(self, failures: int) -> float:
        longest: float = min(self._pace.last_s, self._pace.first_s * 2 ** min(failures, 20))
        return longest * self._dice.uniform(0.5, 1.0)


def _version(item: Object) -> str:
    return str(item["metadata"]["resourceVersion"])


def _is_same(item: Object, known: Object) -> bool:
    """Whether two states are of one object, not of two that bore its name one after the other."""
    is_one: bool = item["metadata"].get("uid") == known["metadata"].get("uid")
    return is_one


def _is_older(item: Object, known: Object) -> bool:
    """Of two states of one object. Versions are numbers since Kubernetes 1.35 said so, and were before; should they
    not be, the newcomer wins."""
    mine, theirs = _version(item), _version(known)
    return mine.isdecimal() and theirs.isdecimal() and int(mine) < int(theirs)
