"""What is in a variant's pods: the fetch step, then the server, under every rule of the Pod Security Standard
`restricted`. Pure.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kingmaker_contracts.served_model import Champion, LimitsSpec, Resources
from kingmaker_controller.kube.api import Object
from kingmaker_controller.rollout.facts import WantedVariant

PORT: Final = 8080
FETCH: Final = "fetch"
SERVER: Final = "server"
USER: Final = 65532

_FOLDER: Final = "/models"
_SERVER_PREFIX: Final = "KINGMAKER_MODEL_SERVER_"
_DRAIN_S: Final = 5
_NAMES: Final = 1 << 20
"""What the names and shapes before a frame's tensors may take."""
_LEAVE_S: Final = 15
"""Between being marked for removal and SIGTERM: the name's address is gone from DNS (5 s to live) and gateways have
looked it up again (3 s), with as much to spare."""


@dataclass(frozen=True, slots=True)
class Template:
    """What is the same for every pod. registry_secret: a Secret whose entries the fetch step gets as environment
    variables; "" for none. monitor_labels: of ServiceMonitors, for a Prometheus that selects them by label;
    monitor_interval: how often it scrapes."""

    image: str
    registry_uri: str
    pull_policy: str = "IfNotPresent"
    pull_secrets: tuple[str, ...] = ()
    registry_secret: str = ""
    log_format: str = "json"
    monitor_labels: Mapping[str, str] = field(default_factory=dict)
    monitor_interval: str = "15s"
    listen_address: str = "0.0.0.0"  # noqa: S104 - the pod's own network


@dataclass(frozen=True, slots=True)
class Pin:
    """What a model string was resolved to, before anything was fetched. sha256: "" when the registry knows none."""

    version: str
    sha256: str

    def string(self, model: str) -> str:
        """A model string that means this version, whatever its alias may mean by now."""
        return f"models:/{model.removeprefix('models:/').split('@')[0].split('/')[0]}/{self.version}"


def pod(model: str, wanted: WantedVariant, pin: Pin, template: Template, labels: Mapping[str, str]) -> Object:
    """The spec of a variant's pods. model: the ServedModel's name; labels: those of this variant's pods alone."""
    asked = wanted.asked or Champion(name=wanted.name, model=wanted.model)
    spread = {"maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"}
    spread["labelSelector"] = {"matchLabels": dict(labels)}
    spec: Object = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _LEAVE_S + drain_s(wanted.limits) + 10,
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
        "containers": [_server(model, wanted, pin, template, asked.resources)],
    }
    if asked.priority_class_name:
        spec["priorityClassName"] = asked.priority_class_name
    if template.pull_secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in template.pull_secrets]
    return spec


def threads_of(cpu: str) -> int:
    """Threads of one inference: the whole cores of a CPU limit, at least one. A half core would only wait."""
    cores = int(cpu[:-1]) / 1000 if cpu.endswith("m") else float(cpu)
    return max(1, math.floor(cores))


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
    container = _container(FETCH, template, resources)
    container["command"] = ["python", "-m", "kingmaker_model_server.fetch"]
    container["args"] = [pin.string(wanted.model), "--to", _FOLDER, "--link", f"{_FOLDER}/current"]
    container["args"] += ["--report", "/dev/termination-log", "--registry", template.registry_uri]
    container["env"] = [{"name": "HOME", "value": "/tmp"}]  # noqa: S108 - the pod's own emptyDir
    if template.registry_secret:
        container["envFrom"] = [{"secretRef": {"name": template.registry_secret}}]
    return container


def drain_s(limits: LimitsSpec) -> int:
    """What requests in flight get after SIGTERM: all of the deadline their clients were promised."""
    return max(_DRAIN_S, math.ceil(limits.deadline_milliseconds / 1000))


def body_limit(limits: LimitsSpec) -> dict[str, int]:
    """The setting of a server whose clients may send so much; nothing where its own limit does. A body of JSON grows as
    it becomes tensors: two characters may be eight bytes."""
    largest = limits.max_body_bytes
    return {"MAX_BODY_BYTES": 4 * largest + _NAMES} if largest > LimitsSpec().max_body_bytes else {}


def _server(model: str, wanted: WantedVariant, pin: Pin, template: Template, resources: Resources) -> Object:
    container = _container(SERVER, template, resources)
    container["command"] = ["python", "-m", "kingmaker_model_server"]
    settings: dict[str, Any] = {
        "MODEL_DIR": f"{_FOLDER}/current",
        "MODEL_NAME": model,
        "VERSION": pin.version,
        "HOST": template.listen_address,
        "PORT": PORT,
        "DRAIN_SECONDS": drain_s(wanted.limits),
        "THREADS": threads_of(resources.cpu),
        "LOG_FORMAT": template.log_format,
        **body_limit(wanted.limits),
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
