"""What a variant is on Kubernetes: pure functions from what is wanted to the objects that are applied.

A variant is a Deployment, a headless Service and a PodDisruptionBudget, and an autoscaler if the spec asks for one.
Nothing of a pod says champion or challenger: promoting is a change of routing and restarts nobody. `podspec` says what
is in a pod.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from kingmaker_contracts import keys
from kingmaker_controller.kube.api import (
    AUTOSCALER,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    SERVED_MODEL,
    SERVICE,
    SERVICE_MONITOR,
    Kind,
    Object,
)
from kingmaker_controller.rollout.facts import Identity, WantedVariant
from kingmaker_controller.runtimes import podspec
from kingmaker_controller.runtimes.podspec import PORT, Pin, Template

MANAGED_BY: Final = "app.kubernetes.io/managed-by"
OWN_SELECTOR: Final = f"{MANAGED_BY}=kingmaker"
MODEL_LABEL: Final = "kingmaker.dev/model"
VARIANT_LABEL: Final = "kingmaker.dev/variant"
ID_LABEL: Final = "kingmaker.dev/id"
MODEL_STRING: Final = "kingmaker.dev/model-string"
VARIANT_NAME: Final = "kingmaker.dev/variant-name"
VERSION: Final = "kingmaker.dev/version"
SHA256: Final = "kingmaker.dev/sha256"
APPLIED: Final = "kingmaker.dev/applied"
"""Annotation of a Deployment: a hash of all objects of its variant, so that a new leader applies only what differs."""
REPLICAS_MANAGER: Final = "kingmaker-controller-replicas"
"""A field manager for spec.replicas alone. With one for everything, handing replicas over to an autoscaler would
give the field up and so reset it to 1 for a moment."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The ServedModel."""

    name: str
    namespace: str
    uid: str

    @property
    def model(self) -> str:
        return keys.model_id(self.namespace, self.name)


def name_of(model: str, identity: Identity) -> str:
    """The one name of a variant's objects: readable, a DNS label, and another one for another model string."""
    mark = hashlib.blake2b("\0".join((model, *identity)).encode(), digest_size=4).hexdigest()
    return f"km-{keys.split_model_id(model)[1]}-{identity.name}"[:50].rstrip("-") + f"-{mark}"


def endpoint_of(model: str, identity: Identity) -> str:
    """host:port of a variant's headless Service, as gateways of any namespace find it."""
    return f"{name_of(model, identity)}.{keys.split_model_id(model)[0]}.svc:{PORT}"


def identity_of(item: Object) -> Identity:
    """Whose Deployment this is. Raises KeyError for one we did not make."""
    annotations = item["metadata"]["annotations"]
    return Identity(annotations[VARIANT_NAME], annotations[MODEL_STRING])


def pin_of(item: Object) -> Pin:
    """What a Deployment of ours says its pods fetch."""
    annotations = item["metadata"]["annotations"]
    return Pin(annotations[VERSION], annotations.get(SHA256, ""))


def objects(owner: Owner, wanted: WantedVariant, pin: Pin, template: Template) -> list[Object]:
    """Everything a variant needs, in the order to apply it; the Deployment without its replicas."""
    asked = wanted.asked
    deployment = _deployment(owner, wanted, pin, template)
    found = surroundings(owner, wanted)
    if asked is not None and asked.autoscaling is not None and asked.replicas:
        found.append(_autoscaler(owner, wanted))
    deployment["metadata"]["annotations"][APPLIED] = mark_of([*found, deployment])
    return [*found, deployment]


def surroundings(owner: Owner, wanted: WantedVariant) -> list[Object]:
    """What pods need around them, whatever the spec says of the pods themselves."""
    return [_service(owner, wanted), _disruption_budget(owner, wanted)]


def replicas(owner: Owner, wanted: WantedVariant) -> Object:
    """The Deployment with nothing but its replicas, for a field manager of its own."""
    return {**_head(DEPLOYMENT, owner, name_of(owner.model, wanted.identity)), "spec": {"replicas": wanted.replicas}}


def monitor(owner: Owner, template: Template) -> Object:
    """One ServiceMonitor for all variants of a model."""
    head = _head(SERVICE_MONITOR, owner, f"km-{owner.name}")
    labels = {**template.monitor_labels, MODEL_LABEL: _label(owner.name), MANAGED_BY: "kingmaker"}
    head["metadata"] |= _about(owner, labels)
    return {
        **head,
        "spec": {
            "selector": {"matchLabels": {MANAGED_BY: "kingmaker", MODEL_LABEL: _label(owner.name)}},
            "endpoints": [{"port": "http", "path": "/metrics", "interval": template.monitor_interval}],
        },
    }


def mark_of(items: list[Object]) -> str:
    """A hash of what is applied; the same for the same content, whatever the order of keys."""
    raw = msgspec.json.encode(items, order="deterministic")
    return hashlib.blake2b(raw, digest_size=8).hexdigest()


def _head(kind: Kind, owner: Owner, name: str) -> Object:
    metadata: Object = {"name": name, "namespace": owner.namespace}
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}


def _about(owner: Owner, labels: Mapping[str, str]) -> Object:
    reference = {"apiVersion": SERVED_MODEL.api_version, "kind": SERVED_MODEL.kind, "name": owner.name}
    return {"labels": dict(labels), "ownerReferences": [{**reference, "uid": owner.uid, "controller": True}]}


def _labels(owner: Owner, wanted: WantedVariant) -> dict[str, str]:
    return {
        MANAGED_BY: "kingmaker",
        "app.kubernetes.io/name": "kingmaker-model-server",
        "app.kubernetes.io/component": "model-server",
        MODEL_LABEL: _label(owner.name),
        VARIANT_LABEL: wanted.name,
        **_selector(owner, wanted),
    }


def _selector(owner: Owner, wanted: WantedVariant) -> dict[str, str]:
    return {ID_LABEL: name_of(owner.model, wanted.identity)}


def _label(name: str) -> str:
    return name[:63].rstrip("-")


def _child(kind: Kind, owner: Owner, wanted: WantedVariant) -> Object:
    head = _head(kind, owner, name_of(owner.model, wanted.identity))
    head["metadata"] |= _about(owner, _labels(owner, wanted))
    return head


def _service(owner: Owner, wanted: WantedVariant) -> Object:
    return {
        **_child(SERVICE, owner, wanted),
        "spec": {
            "clusterIP": "None",
            "selector": _selector(owner, wanted),
            "ports": [{"name": "http", "port": PORT, "targetPort": "http", "protocol": "TCP"}],
        },
    }


def _disruption_budget(owner: Owner, wanted: WantedVariant) -> Object:
    return {
        **_child(DISRUPTION_BUDGET, owner, wanted),
        "spec": {
            "maxUnavailable": 1,  # not minAvailable: that would let nobody drain a node with a single pod on it
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": _selector(owner, wanted)},
        },
    }


def _autoscaler(owner: Owner, wanted: WantedVariant) -> Object:
    assert wanted.asked is not None and wanted.asked.autoscaling is not None  # noqa: S101, PT018 - the caller looked
    scaling = wanted.asked.autoscaling
    name = name_of(owner.model, wanted.identity)
    target = {"type": "Utilization", "averageUtilization": scaling.target_cpu_percent}
    return {
        **_child(AUTOSCALER, owner, wanted),
        "spec": {
            "scaleTargetRef": {"apiVersion": DEPLOYMENT.api_version, "kind": DEPLOYMENT.kind, "name": name},
            "minReplicas": wanted.replicas,
            "maxReplicas": max(wanted.replicas, scaling.max_replicas),
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        },
    }


def _deployment(owner: Owner, wanted: WantedVariant, pin: Pin, template: Template) -> Object:
    child = _child(DEPLOYMENT, owner, wanted)
    child["metadata"]["annotations"] = {
        VARIANT_NAME: wanted.name,
        MODEL_STRING: wanted.model,
        VERSION: pin.version,
        SHA256: pin.sha256,
    }
    return {
        **child,
        "spec": {
            "revisionHistoryLimit": 1,
            "progressDeadlineSeconds": 600,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "selector": {"matchLabels": _selector(owner, wanted)},
            "template": {
                "metadata": {"labels": _labels(owner, wanted), "annotations": {VERSION: pin.version}},
                "spec": podspec.pod(owner.name, wanted, pin, template, _selector(owner, wanted)),
            },
        },
    }
