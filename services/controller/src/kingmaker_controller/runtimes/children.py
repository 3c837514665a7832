"""What the cluster holds beside Deployments: Services, disruption budgets, autoscalers, ServiceMonitors.

An object is as it should be when it says everything its manifest says. What others add is theirs to add (defaults,
a label, a port of their own), and applying again would not take it away. Only what matters is kept and compared: the
numbers an autoscaler writes into its status every few seconds are no news.
"""

from collections import defaultdict
from collections.abc import Awaitable, Iterable, Mapping
from typing import Any, Final

from kingmaker_contracts import keys
from kingmaker_controller.kube.api import (
    AUTOSCALER,
    DISRUPTION_BUDGET,
    SERVED_MODEL,
    SERVICE,
    SERVICE_MONITOR,
    Kind,
    Object,
)

WATCHED: Final = (SERVICE, DISRUPTION_BUDGET, AUTOSCALER, SERVICE_MONITOR)
_COMPARED: Final = ("labels", "ownerReferences")


class Children:
    """Kept up to date by `note`. Objects are known by kind and name."""

    def __init__(self) -> None:
        self._items: dict[tuple[str, str], Object] = {}
        self._names: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
        self._awaited: set[tuple[str, str]] = set()
        """Objects under way to the cluster, of which it has said nothing since."""

    def note(self, kind: Kind, name: str, item: Object | None) -> str:
        """An object is new, another than before, or gone. The model whose it is; "" when nothing about it matters."""
        key = (kind.kind, name)
        self._awaited.discard(key)
        known = self._items.get(key)
        if item is None:
            self._items.pop(key, None)
            return "" if known is None else self._forget(key, model_of(known))
        kept = substance(item)
        if known == kept:
            return ""
        self._items[key] = kept
        model = model_of(kept)
        self._names[model].add(key)
        return model

    async def await_answer(self, kind: Kind, name: str, writing: Awaitable[Object]) -> None:
        """Take an object as a write returned it, unless something else was noted meanwhile: a late answer may tell of
        an object as it was before an edit, or of one that is gone, and nobody would say so again."""
        key = (kind.kind, name)
        self._awaited.add(key)
        try:
            item = await writing
            if key in self._awaited:
                self.note(kind, name, item)
        finally:
            self._awaited.discard(key)

    def _forget(self, key: tuple[str, str], model: str) -> str:
        self._names[model].discard(key)
        if not self._names[model]:
            del self._names[model]
        return model

    def is_as(self, manifest: Object) -> bool:
        """Whether the cluster holds what a manifest says."""
        known = self._items.get((manifest["kind"], manifest["metadata"]["name"]))
        return known is not None and says(known, substance(manifest))

    def has(self, kind: Kind, name: str) -> bool:
        return (kind.kind, name) in self._items

    def of(self, model: str, kinds: Iterable[Kind]) -> list[tuple[Kind, str]]:
        """The objects of a model, of these kinds."""
        by_kind = {kind.kind: kind for kind in kinds}
        return [(by_kind[kind], name) for kind, name in sorted(self._names.get(model, ())) if kind in by_kind]


def model_of(item: Object) -> str:
    """`namespace/name` of the ServedModel that owns an object; "" for none."""
    meta = item["metadata"]
    owners = [o for o in meta.get("ownerReferences") or [] if o.get("kind") == SERVED_MODEL.kind]
    return keys.model_id(meta["namespace"], owners[0]["name"]) if owners else ""


def slim(item: Object) -> Object:
    """What a copy of the cluster keeps of such an object: `substance`, and how to tell old from new."""
    kept = substance(item)
    told = {key: item["metadata"][key] for key in ("uid", "resourceVersion")}
    return {**kept, "metadata": {**kept["metadata"], **told}}


def substance(item: Object) -> Object:
    """The parts of an object that a manifest speaks of."""
    meta = item["metadata"]
    about = {key: meta[key] for key in ("name", "namespace", *_COMPARED) if key in meta}
    return {"metadata": about, "spec": item.get("spec") or {}}


def says(live: Any, manifest: Any) -> bool:
    """Whether something says all that a manifest says. Items of a list may stand among others, in any order."""
    if isinstance(manifest, Mapping):
        return isinstance(live, Mapping) and all(key in live and says(live[key], manifest[key]) for key in manifest)
    if isinstance(manifest, list):
        return isinstance(live, list) and all(any(says(one, wanted) for one in live) for wanted in manifest)
    return bool(live == manifest)
