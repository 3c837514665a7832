"""Making the cluster hold what a variant needs, with as few requests as can be: what is right already is left alone.

A Deployment carries a hash of all that was applied with it, so that a new leader need not apply anything to know.
Its generation tells an edit by somebody else; the other objects are compared with their manifests.
"""

from collections.abc import Mapping, Set
from typing import Final

from kingmaker_controller.kube.api import (
    AUTOSCALER,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    KINDS,
    MANAGER,
    SERVICE,
    Api,
    Object,
)
from kingmaker_controller.rollout.facts import WantedVariant
from kingmaker_controller.runtimes import manifests
from kingmaker_controller.runtimes.children import Children
from kingmaker_controller.runtimes.manifests import Owner
from kingmaker_controller.runtimes.podspec import Pin, Template

TOUCHED: Final = "kingmaker.dev/touched"
"""Not of the cluster: a mark in the copy of a Deployment whose spec others have had their hands in."""
_MANAGERS: Final = frozenset({MANAGER, manifests.REPLICAS_MANAGER})
_REMOVED: Final = (DEPLOYMENT, AUTOSCALER, SERVICE, DISRUPTION_BUDGET)


class Applier:
    """deployments: the copy of the cluster's, by name; children: of everything else."""

    def __init__(self, api: Api, template: Template, deployments: Mapping[str, Object], children: Children) -> None:
        self._api, self._template = api, template
        self._deployments, self._children = deployments, children
        self._generations: dict[str, int] = {}

    def forget(self, name: str) -> None:
        """A Deployment is gone."""
        self._generations.pop(name, None)

    async def variant(self, owner: Owner, wanted: WantedVariant, pin: Pin) -> None:
        """Everything a variant needs. Raises KubernetesError."""
        items = manifests.objects(owner, wanted, pin, self._template)
        name = items[-1]["metadata"]["name"]
        existing = self._deployments.get(name)
        is_new = existing is None or _mark(existing) != _mark(items[-1])
        scales_itself = any(item["kind"] == AUTOSCALER.kind for item in items)
        if not scales_itself and self._children.has(AUTOSCALER, name):
            await self._api.delete(AUTOSCALER, owner.namespace, name)
        deployment = existing
        for item in items:
            if item["kind"] != DEPLOYMENT.kind:
                await self._child(item, anyway=is_new)
            elif is_new or (existing is not None and self._is_touched_since(existing)):
                deployment = await self._api.apply(DEPLOYMENT, owner.namespace, item)
        if deployment is not None:
            if not scales_itself and deployment["spec"].get("replicas") != wanted.replicas:
                change = manifests.replicas(owner, wanted)
                manager = manifests.REPLICAS_MANAGER
                deployment = await self._api.apply(DEPLOYMENT, owner.namespace, change, manager=manager)
            self._generations[name] = int(deployment["metadata"]["generation"])

    async def surroundings(self, owner: Owner, wanted: WantedVariant) -> None:
        """What a variant needs to be found and not evicted; its pods stay as they are. Raises KubernetesError."""
        for item in manifests.surroundings(owner, wanted):
            await self._child(item)

    async def monitor(self, owner: Owner) -> None:
        """Raises KubernetesError."""
        await self._child(manifests.monitor(owner, self._template))

    async def remove(self, model: str, names: Set[str], deployments: Set[str]) -> None:
        """Objects of variants that are not wanted any more. names: those that are; deployments: of the model, and
        not on their way out. Raises KubernetesError."""
        namespace = model.partition("/")[0]
        found = [(DEPLOYMENT, name) for name in sorted(deployments)] + self._children.of(model, _REMOVED)
        for kind, name in found:
            if name not in names:
                await self._api.delete(kind, namespace, name)

    async def _child(self, manifest: Object, *, anyway: bool = False) -> None:
        if anyway or not self._children.is_as(manifest):
            kind, meta = KINDS[manifest["kind"]], manifest["metadata"]
            writing = self._api.apply(kind, meta["namespace"], manifest)
            await self._children.await_answer(kind, meta["name"], writing)

    def _is_touched_since(self, existing: Object) -> bool:
        """Whether somebody else had a hand in a Deployment since it was applied."""
        meta = existing["metadata"]
        generation = int(meta["generation"])
        if meta["name"] not in self._generations and not meta.get(TOUCHED):
            self._generations[meta["name"]] = generation  # as a predecessor left it
        return self._generations.get(meta["name"]) != generation


def slim(item: Object) -> Object:
    """The parts of a Deployment that the runtime looks at."""
    meta = item["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "generation", "labels", "annotations", "ownerReferences")
    about = {key: meta[key] for key in (*kept, "deletionTimestamp") if key in meta}
    if is_touched(item):
        about[TOUCHED] = True
    return {
        "metadata": about,
        "spec": {"replicas": (item.get("spec") or {}).get("replicas", 1)},
        "status": {"conditions": (item.get("status") or {}).get("conditions") or []},
    }


def is_touched(item: Object) -> bool:
    """Whether somebody else owns fields of the spec. Who writes by a subresource, as an autoscaler does, is no one."""
    return any(
        entry.get("manager") not in _MANAGERS
        and not entry.get("subresource")
        and "f:spec" in (entry.get("fieldsV1") or {})
        for entry in item["metadata"].get("managedFields") or []
    )


def _mark(deployment: Object) -> str:
    """Of all that was applied with it."""
    return str((deployment["metadata"].get("annotations") or {}).get(manifests.APPLIED, ""))
