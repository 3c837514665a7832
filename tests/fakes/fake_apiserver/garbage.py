"""What a cluster's garbage collector does: objects whose owners are all gone go too, some time later, and so does
what was in a namespace that is gone."""

import threading

from tests.fakes.fake_apiserver.cluster import Cluster, Write
from tests.fakes.fake_apiserver.errors import ApiError
from tests.fakes.fake_apiserver.kinds import Kind
from tests.fakes.fake_apiserver.store import Object


class GarbageCollector:
    """A thread that looks whenever something was removed or marked for removal."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._stopped.clear()
        self._thread = threading.Thread(target=self._run, name="garbage-collector", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._cluster.store.wake()
        if self._thread is not None:
            self._thread.join(5)

    def _run(self) -> None:
        seen = 0
        while not self._stopped.is_set():
            now = self._cluster.store.revision
            if now != seen:
                self.collect()
            seen = now
            self._cluster.store.wait_beyond(now, 0.2)

    def collect(self) -> None:
        """One look at everything."""
        store = self._cluster.store
        with store.changed:
            items = store.everything()
            alive = {item["metadata"]["uid"] for _, item in items}
            namespaces = {item["metadata"]["name"] for item in store.all("namespaces")}
            for storage, item in items:
                meta = item["metadata"]
                owners = meta.get("ownerReferences") or []
                finalizers = meta.get("finalizers") or []
                if meta.get("deletionTimestamp") and {"foregroundDeletion", "orphan"} & set(finalizers):
                    self._finish(storage, item, items)
                elif (owners and not any(owner["uid"] in alive for owner in owners)) or (
                    meta.get("namespace", "") not in namespaces | {""}
                ):
                    self._delete(storage, item)

    def _finish(self, storage: str, owner: Object, items: list[tuple[str, Object]]) -> None:
        uid, meta = owner["metadata"]["uid"], owner["metadata"]
        dependents = [
            (s, item)
            for s, item in items
            if any(reference["uid"] == uid for reference in item["metadata"].get("ownerReferences") or [])
        ]
        if "orphan" in meta["finalizers"]:
            for s, item in dependents:
                left = [r for r in item["metadata"]["ownerReferences"] if r["uid"] != uid]
                self._cluster.store.put(s, {**item, "metadata": {**item["metadata"], "ownerReferences": left}})
        else:
            for s, item in dependents:
                if not item["metadata"].get("deletionTimestamp"):
                    self._delete(s, item)
            if any(self._still_there(s, item) for s, item in dependents):
                return
        left = [f for f in meta["finalizers"] if f not in ("foregroundDeletion", "orphan")]
        kind = self._kind(storage)
        body = {**owner, "metadata": {**meta, "finalizers": left}}
        self._cluster.update(kind, meta.get("namespace", ""), meta["name"], body, Write("garbage-collector"))

    def _still_there(self, storage: str, item: Object) -> bool:
        return (
            self._cluster.store.get(storage, item["metadata"].get("namespace", ""), item["metadata"]["name"])
            is not None
        )

    def _delete(self, storage: str, item: Object) -> None:
        meta = item["metadata"]
        try:
            self._cluster.delete(self._kind(storage), meta.get("namespace", ""), meta["name"], {})
        except ApiError as error:
            if error.code != 404:
                raise

    def _kind(self, storage: str) -> Kind:
        return next(kind for kind in self._cluster.kinds if kind.storage == storage)
