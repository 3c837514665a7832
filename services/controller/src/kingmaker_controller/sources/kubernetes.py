"""ServedModels as the cluster holds them, checked again by the rules of contracts.

The API server has checked most of it already; some it does not know (what is not supported yet), and some it only
warns of. Each generation is read once.
"""

from collections.abc import Callable
from typing import Final

from kingmaker_contracts import keys, served_model
from kingmaker_contracts.served_model import Fault, InvalidResource, ServedModel
from kingmaker_controller.kube.api import Object
from kingmaker_controller.kube.records import is_leaving
from kingmaker_controller.kube.reflector import Reflector
from kingmaker_controller.sources import Document, Reading

_SCHEME: Final = "models:/"


class KubernetesSource:
    """objects: the copy of the ServedModels. Tell it of changes with `note`."""

    def __init__(self, resources: Callable[[], Reflector]) -> None:
        self._resources = resources
        self._documents: dict[str, Document] = {}
        self._is_changed = True

    def note(self, name: str, item: Object | None) -> None:
        """An object is new, another than before, or gone. A status alone is no news."""
        document = self._documents.get(name)
        is_same = (
            document is not None
            and item is not None
            and not is_leaving(item)
            and (document.uid, document.generation) == (item["metadata"]["uid"], item["metadata"]["generation"])
        )
        if not is_same:
            self._documents.pop(name, None)
            self._is_changed = True

    def poll(self) -> Reading | None:
        resources = self._resources()
        if not self._is_changed or not resources.synced.is_set():
            return None
        self._is_changed = False
        models = {}
        for name, item in resources.objects.items():
            if not is_leaving(item):
                if name not in self._documents:
                    self._documents[name] = read(item)
                models[keys.model_id(item["metadata"]["namespace"], name)] = self._documents[name]
        return Reading(models)


def read(item: Object) -> Document:
    """One object. Metadata that means nothing to us is left out."""
    meta = item["metadata"]
    plain = {
        "apiVersion": item.get("apiVersion"),
        "kind": item.get("kind"),
        "metadata": {"name": meta["name"], "namespace": meta["namespace"]},
        "spec": item.get("spec"),
    }
    faults: tuple[Fault, ...] = ()
    resource: ServedModel | None = None
    try:
        resource = served_model.parse(plain)
        faults = tuple(_local_paths(resource))
    except InvalidResource as error:
        faults = tuple(error.faults)
    about = (meta["generation"], meta["uid"], str(meta.get("creationTimestamp") or ""))
    return Document(None if faults else resource, faults, *about)


def _local_paths(resource: ServedModel) -> list[Fault]:
    """A path means nothing in a cluster."""
    spec = resource.spec
    named = [("spec.champion.model", spec.champion.model)]
    named += [(f"spec.challengers[{i}].model", c.model or "") for i, c in enumerate(spec.challengers)]
    message = "on Kubernetes a model is models:/NAME/VERSION or models:/NAME@ALIAS"
    return [Fault(path, message) for path, model in named if not model.startswith(_SCHEME)]
