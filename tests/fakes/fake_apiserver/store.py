"""Where objects are: one counter of revisions, and the history a watch reads, which can be compacted away."""

import threading
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from tests.fakes.fake_apiserver.errors import expired
from tests.fakes.fake_apiserver.structural import copied

Object = dict[str, Any]
Key = tuple[str, str]


class Change(NamedTuple):
    """One write. before: None for a creation; after: None for a removal, whose last state is `before`, with the
    revision of its removal."""

    revision: int
    storage: str
    before: Object | None
    after: Object | None


class WatchEvent(NamedTuple):
    type: Literal["ADDED", "MODIFIED", "DELETED"]
    revision: int
    object: Object


class Store:
    """Objects by storage, namespace and name. Stored objects are never changed in place, so readers may keep them."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.revision = 1
        self._objects: dict[str, dict[Key, Object]] = {}
        self._history: list[Change] = []
        self._oldest = 1
        self.removals = 0

    def get(self, storage: str, namespace: str, name: str) -> Object | None:
        return self._objects.get(storage, {}).get((namespace, name))

    def all(self, storage: str, namespace: str | None = None) -> list[Object]:
        """Objects in the order of namespace and name; namespace None means every one."""
        kept = self._objects.get(storage, {})
        return [kept[key] for key in sorted(kept) if namespace is None or key[0] == namespace]

    def everything(self) -> list[tuple[str, Object]]:
        return [(storage, item) for storage, kept in self._objects.items() for item in kept.values()]

    def put(self, storage: str, item: Object) -> Object:
        """Keep item under a new revision, which it then carries."""
        with self.changed:
            self.revision += 1
            item = copied(item)
            item["metadata"]["resourceVersion"] = str(self.revision)
            kept = self._objects.setdefault(storage, {})
            key = (item["metadata"].get("namespace", ""), item["metadata"]["name"])
            self._note(Change(self.revision, storage, kept.get(key), item))
            kept[key] = item
            return item

    def remove(self, storage: str, namespace: str, name: str) -> Object:
        with self.changed:
            self.revision += 1
            item = copied(self._objects[storage].pop((namespace, name)))
            item["metadata"]["resourceVersion"] = str(self.revision)
            self.removals += 1
            self._note(Change(self.revision, storage, item, None))
            return item

    def _note(self, change: Change) -> None:
        self._history.append(change)
        if len(self._history) > 50_000:
            self._forget(25_000)
        self.changed.notify_all()

    def _forget(self, count: int) -> None:
        if count:
            self._oldest = self._history[count - 1].revision
            del self._history[:count]

    def compact(self) -> None:
        """Forget all history: a watch from any revision before this one is answered 410."""
        with self.changed:
            self._history.clear()
            self._oldest = self.revision
            self.changed.notify_all()

    def since(self, revision: int) -> list[Change]:
        """Every change after revision. Raises ApiError 410 when some of them are forgotten."""
        with self.changed:
            if revision < self._oldest:
                raise expired(revision, self._oldest)
            low, high = 0, len(self._history)
            while low < high:
                middle = (low + high) // 2
                low, high = (middle + 1, high) if self._history[middle].revision <= revision else (low, middle)
            return self._history[low:]

    def wait_beyond(self, revision: int, seconds: float) -> None:
        """Return when the store is newer than revision, when somebody was woken, or after seconds."""
        with self.changed:
            if self.revision <= revision:
                self.changed.wait(seconds)

    def wake(self) -> None:
        """Let everybody who waits look again."""
        with self.changed:
            self.changed.notify_all()


def as_event(change: Change, matches: Callable[[Object], bool]) -> WatchEvent | None:
    """What a watch with a selector sees of a change: leaving the selection looks like a removal."""
    was = change.before is not None and matches(change.before)
    if change.after is None:
        return WatchEvent("DELETED", change.revision, change.before) if was and change.before else None
    if matches(change.after):
        return WatchEvent("MODIFIED" if was else "ADDED", change.revision, change.after)
    if was and change.before:
        left = {**change.before, "metadata": {**change.before["metadata"], "resourceVersion": str(change.revision)}}
        return WatchEvent("DELETED", change.revision, left)
    return None
