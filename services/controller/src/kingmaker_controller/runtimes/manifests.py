"""What a variant is on Kubernetes: pure functions from what is wanted to the objects that are applied.

A variant is a Deployment, a headless Service and a PodDisruptionBudget, and an autoscaler if the spec asks for one.
Nothing of a pod says champion or challenger: promoting is a change of routing and restarts nobody. The pods
keep every rule of the Pod Security Standard `restricted`.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from kingmaker_contracts import keys
from kingmaker_contracts.served_model import Champion, Resources
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

PORT: Final = 8080
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
FETCH: Final = "fetch"
SERVER: Final = "server"
USER: Final = 65532

_FOLDER: Final = "/models"
_SERVER_PREFIX: Final = "KINGMAKER_MODEL_SERVER_"
_DRAIN_S: Final = 5
_LEAVE_S: Final = 15
"""Between being marked for removal and SIGTERM: the name's address is gone from DNS (5 s to live) and gateways have
looked it up again (3 s), with as much to spare."""


@dataclass(frozen=True, slots=True)
class Template:
    """What is the same for every pod. registry_secret: a Secret whose entries the fetch step gets as environment
    variables; "" for none."""

    image: str
    registry_uri: str
    pull_policy: str = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()
    registry_secret: str = ""
    log_format: str = "json"


@dataclass(frozen=True, slots=True)
class Owner:
    """The ServedModel."""

    name: str
    namespace: str
    uid: str

    @property
    def model(self) -> str:
        return keys.model_id(self.namespace, self.name)


@dataclass(frozen=True, slots=True)
class Pin:
    """What a model string was resolved to, before anything was fetched. sha256: "" when the registry knows none."""

    version: str
    sha256: str


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


def monitor(owner: Owner) -> Object:
    """One ServiceMonitor for all variants of a model."""
    head = _head(SERVICE_MONITOR, owner, f"km-{owner.name}"[:63])
    head["metadata"] |= _about(owner, {MODEL_LABEL: _label(owner.name), MANAGED_BY: "kingmaker"})
    return {
        **head,
        "spec": {
            "selector": {"matchLabels": {MANAGED_BY: "kingmaker", MODEL_LABEL: _label(owner.name)}},
            "endpoints": [{"port": "http", "path": "/metrics", "interval": "15s"}],
        },
    }


def mark_of(items: list[Object]) -> str:
    """A hash of what is applied; the same for the same content, whatever the order of keys."""
    raw = msgspec.json.encode(items, order="deterministic")
    return hashlib.blake2b(raw, digest_size=8).hexdigest()


def threads_of(cpu: str) -> int:
    """Threads of one inference: the whole cores of a CPU limit, at least one. A half core would only wait."""
    cores = int(cpu[:-1]) / 1000 if cpu.endswith("m") else float(cpu)
    return max(1, math.floor(cores))


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
                "spec": _pod(owner, wanted, pin, template),
            },
        },
    }


def _pod(owner: Owner, wanted: WantedVariant, pin: Pin, template: Template) -> Object:
    asked = wanted.asked or Champion(name=wanted.name, model=wanted.model)
    spread = {"maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"}
    spread["labelSelector"] = {"matchLabels": _selector(owner, wanted)}
    pod: Object = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _LEAVE_S + _DRAIN_S + 10,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {**spread, "topologyKey": "kubernetes.io/hostname"},
            {**spread, "topologyKey": "topology.kubernetes.io/zone"},
        ],
        "volumes": [{"name": "models", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
        "initContainers": [_fetch(wanted, pin, template, asked.resources)],
        "containers": [_server(owner, pin, template, asked.resources)],
    }
    if asked.priority_class_name:
        pod["priorityClassName"] = asked.priority_class_name
    if template.pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in template.pull_secrets]
    return pod


def _container(name: str, template: Template, resources: Resources) -> Object:
    amounts = {"cpu": resources.cpu, "memory": resources.memory}
    return {
        "name": name,
        "image": template.image,
        "imagePullPolicy": template.pull_policy,
        "resources": {"requests": amounts, "limits": amounts},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [{"name": "models", "mountPath": _FOLDER}, {"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }


def _fetch(wanted: WantedVariant, pin: Pin, template: Template, resources: Resources) -> Object:
    name = wanted.model.removeprefix("models:/").split("@")[0].split("/")[0]
    container = _container(FETCH, template, resources)
    container["command"] = ["python", "-m", "kingmaker_model_server.fetch"]
    container["args"] = [f"models:/{name}/{pin.version}", "--to", _FOLDER, "--link", f"{_FOLDER}/current"]
    container["args"] += ["--report", "/dev/termination-log", "--registry", template.registry_uri]
    container["env"] = [{"name": "HOME", "value": "/tmp"}]  # noqa: S108 - the pod's own emptyDir
    if template.registry_secret:
        container["envFrom"] = [{"secretRef": {"name": template.registry_secret}}]
    return container


def _server(owner: Owner, pin: Pin, template: Template, resources: Resources) -> Object:
    container = _container(SERVER, template, resources)
    container["command"] = ["python", "-m", "kingmaker_model_server"]
    settings: dict[str, Any] = {
        "MODEL_DIR": f"{_FOLDER}/current",
        "MODEL_NAME": owner.name,
        "VERSION": pin.version,
        "HOST": "0.0.0.0",  # noqa: S104 - the pod's own network
        "PORT": PORT,
        "DRAIN_SECONDS": _DRAIN_S,
        "THREADS": threads_of(resources.cpu),
        "LOG_FORMAT": template.log_format,
    }
    if pin.sha256:
        settings["EXPECTED_SHA256"] = pin.sha256
    container["env"] = [{"name": _SERVER_PREFIX + key, "value": str(value)} for key, value in settings.items()]
    container["env"].append({"name": "HOME", "value": "/tmp"})  # noqa: S108 - the pod's own emptyDir
    container["ports"] = [{"name": "http", "containerPort": PORT, "protocol": "TCP"}]
    ready, live = ({"httpGet": {"path": f"/v2/health/{what}", "port": "http"}} for what in ("ready", "live"))
    # loading may take minutes and must not be mistaken for death; once ready, 503 or silence takes the pod out in 4 s
    container["startupProbe"] = {**ready, "periodSeconds": 1, "timeoutSeconds": 2, "failureThreshold": 300}
    container["readinessProbe"] = {**ready, "periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 2}
    # liveness is about the process alone and slow to act: a busy server that answers late must not be killed
    container["livenessProbe"] = {**live, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6}
    container["lifecycle"] = {"preStop": {"sleep": {"seconds": _LEAVE_S}}}
    return container
