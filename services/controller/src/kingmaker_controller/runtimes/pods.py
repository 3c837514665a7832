"""What pods and a Deployment say about a variant, as one phase, one reason and one sentence. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from kingmaker_controller.kube.api import Object
from kingmaker_controller.rollout.facts import Phase
from kingmaker_controller.runtimes.podspec import FETCH

_IMAGE_TROUBLE: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}
)
_CONFIG_TROUBLE: Final = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})


@dataclass(frozen=True, slots=True)
class Seen:
    """ready: addresses of the pods that are ready; restarts: of all containers."""

    phase: Phase
    reason: str
    message: str
    ready: tuple[str, ...]
    restarts: int


def slim(pod: Object) -> Object:
    """The parts of a pod this module looks at; there may be thousands."""
    meta, status = pod["metadata"], pod.get("status") or {}
    kept = ("name", "namespace", "uid", "resourceVersion", "labels", "deletionTimestamp")
    told = ("phase", "podIP", "conditions", "initContainerStatuses", "containerStatuses", "reason", "message")
    return {
        "metadata": {key: meta[key] for key in kept if key in meta},
        "status": {key: status[key] for key in told if key in status},
    }


def look(deployment: Object, pods: Sequence[Object]) -> Seen:
    """One variant. pods: those of this Deployment; ones that are being removed do not count."""
    living = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    wanted = int((deployment.get("spec") or {}).get("replicas", 1))
    ready = tuple(sorted(pod["status"]["podIP"] for pod in living if _is_ready(pod)))
    restarts = sum(int(c.get("restartCount", 0)) for pod in living for c in _containers(pod))
    if ready:
        missing = "" if len(ready) >= wanted else f"{len(ready)} of {wanted} replicas are ready"
        trouble = _trouble(deployment, living) if missing else None
        return Seen("Ready", "", f"{missing}; {trouble[1]}" if trouble else missing, ready, restarts)
    if wanted == 0:
        return Seen("Pending", "", "", (), restarts)
    trouble = _trouble(deployment, living)
    if trouble is not None:
        return Seen("Failed", *trouble, (), restarts)
    waiting = next((text for pod in living if (text := _unscheduled(pod))), "")
    fetching = not living or any(_is_fetching(pod) for pod in living)
    return Seen("Fetching" if fetching else "Starting", "", waiting, (), restarts)


def _trouble(deployment: Object, pods: Sequence[Object]) -> tuple[str, str] | None:
    """Reason and sentence of what keeps pods from running. A pod's own words come before those about it."""
    for pod in pods:
        for status in _containers(pod):
            found = _container_trouble(status)
            if found is not None:
                return found
    for condition in (deployment.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            text = str(condition.get("message", ""))
            return ("QuotaExceeded" if "exceeded quota" in text else "PodsRefused"), text
    return None


def _container_trouble(status: Object) -> tuple[str, str] | None:
    state = status.get("state") or {}
    waiting = state.get("waiting") or {}
    reason, message = str(waiting.get("reason", "")), str(waiting.get("message", ""))
    if reason in _IMAGE_TROUBLE:
        return "ImagePullFailed", f"image {status.get('image', '')}: {message or reason}"
    if reason in _CONFIG_TROUBLE:
        return reason, message or reason
    if state.get("running"):
        return None
    ended: Any = state.get("terminated") or (status.get("lastState") or {}).get("terminated")
    if not ended or ended.get("exitCode") == 0:
        return None
    if status.get("name") == FETCH:
        return _fetch_words(ended)
    last = str(ended.get("message") or "").strip().splitlines()
    how = str(ended.get("reason") or "Error")
    text = f"the server ended with code {ended.get('exitCode')} ({how})" + (f": {last[-1][:300]}" if last else "")
    return ("OutOfMemory" if how == "OOMKilled" else "ServerEnded"), text


def _fetch_words(ended: Object) -> tuple[str, str]:
    """The fetch step leaves its one line of JSON as the container's termination message."""
    text = str(ended.get("message") or "").strip()
    for line in reversed(text.splitlines()):
        try:
            told = msgspec.json.decode(line)
        except msgspec.DecodeError:
            continue
        if isinstance(told, dict) and "reason" in told:
            return str(told["reason"]), str(told.get("error", ""))
    how = "out of memory" if ended.get("reason") == "OOMKilled" else f"ended with code {ended.get('exitCode')}"
    return "FetchFailed", f"the fetch step {how}: {text[-300:]}" if text else f"the fetch step {how}"


def _containers(pod: Object) -> list[Object]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _is_fetching(pod: Object) -> bool:
    statuses = (pod.get("status") or {}).get("initContainerStatuses")
    if not statuses:
        return not (pod.get("status") or {}).get("containerStatuses")
    return not all((status.get("state") or {}).get("terminated") for status in statuses)


def _is_ready(pod: Object) -> bool:
    status = pod.get("status") or {}
    conditions = status.get("conditions") or []
    return bool(status.get("podIP")) and any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _unscheduled(pod: Object) -> str:
    for condition in (pod.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return f"cannot be scheduled: {condition.get('message') or condition.get('reason', '')}"
    return ""
