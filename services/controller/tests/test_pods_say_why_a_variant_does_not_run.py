"""Phase, reason and sentence from what pods and Deployments say."""

import json
from typing import Any

import pytest

from kingmaker_controller.runtimes import pods

RUNNING = {"running": {"startedAt": "2026-11-21T05:00:00Z"}}
DONE = {"terminated": {"exitCode": 0}}
WAITING = {"state": {"waiting": {"reason": "PodInitializing"}}}


def deployment(replicas: int = 1, *conditions: dict[str, str]) -> dict[str, Any]:
    return {"spec": {"replicas": replicas}, "status": {"conditions": list(conditions)}}


def pod(init: dict[str, Any] | None = None, server: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    ready = "True" if more.pop("ready", False) else "False"
    status: dict[str, Any] = {
        "podIP": more.pop("ip", "10.0.0.1"),
        "conditions": [{"type": "Ready", "status": ready}, *more.pop("conditions", [])],
        "initContainerStatuses": [{"name": "fetch", "image": "i", **(init or {"state": DONE})}],
        "containerStatuses": [{"name": "server", "image": "i", "restartCount": 0, **(server or {"state": RUNNING})}],
    }
    return {"metadata": {"name": "p", **more}, "status": status}


def ended(code: int, message: str = "", reason: str = "Error") -> dict[str, Any]:
    last = {"terminated": {"exitCode": code, "message": message, "reason": reason}}
    return {"state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}, "lastState": last}


FETCH_FAILED = json.dumps({"error": "model.onnx has sha256 ab, the tag says cd", "reason": "ShaMismatch"})
REPLICA_FAILURE = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"}


@pytest.mark.parametrize(
    ("made", "found", "expected"),
    [
        (deployment(), [pod(ready=True)], ("Ready", "", "")),
        (deployment(3), [pod(ready=True), pod()], ("Ready", "", "1 of 3 replicas are ready")),
        (deployment(), [pod()], ("Starting", "", "")),
        (deployment(), [pod({"state": RUNNING}, WAITING)], ("Fetching", "", "")),
        (deployment(), [], ("Fetching", "", "")),
        (deployment(0), [], ("Pending", "", "")),
        (
            deployment(),
            [pod(ended(1, f"some warning\n{FETCH_FAILED}"), {"state": {"waiting": {"reason": "PodInitializing"}}})],
            ("Failed", "ShaMismatch", "model.onnx has sha256 ab, the tag says cd"),
        ),
        (deployment(), [pod(ended(137, "", "OOMKilled"))], ("Failed", "FetchFailed", "the fetch step out of memory")),
        (
            deployment(),
            [pod(server=ended(3, "loading\nbad model: no outputs"))],
            ("Failed", "ServerEnded", "the server ended with code 3 (Error): bad model: no outputs"),
        ),
        (
            deployment(),
            [pod(server=ended(137, "", "OOMKilled"))],
            ("Failed", "OutOfMemory", "the server ended with code 137 (OOMKilled)"),
        ),
        (
            deployment(),
            [pod({"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}})],
            ("Failed", "ImagePullFailed", "image i: no such image"),
        ),
        (
            deployment(),
            [pod({"state": {"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "m" not found'}}})],
            ("Failed", "CreateContainerConfigError", 'secret "m" not found'),
        ),
        (
            deployment(1, {**REPLICA_FAILURE, "message": "pods \"x\" is forbidden: exceeded quota: compute"}),
            [],
            ("Failed", "QuotaExceeded", 'pods "x" is forbidden: exceeded quota: compute'),
        ),
        (
            deployment(1, {**REPLICA_FAILURE, "message": "violates PodSecurity"}),
            [],
            ("Failed", "PodsRefused", "violates PodSecurity"),
        ),
        (
            deployment(2, {**REPLICA_FAILURE, "message": "exceeded quota: compute"}),
            [pod(ready=True)],
            ("Ready", "", "1 of 2 replicas are ready; exceeded quota: compute"),
        ),
        (
            deployment(),
            [pod(WAITING, WAITING, conditions=[{"type": "PodScheduled", "status": "False", "message": "0/3 nodes"}])],
            ("Fetching", "", "cannot be scheduled: 0/3 nodes"),
        ),
    ],
)  # fmt: skip
def test_the_first_thing_that_explains_is_said(
    made: dict[str, Any], found: list[dict[str, Any]], expected: tuple[str, str, str]
) -> None:
    seen = pods.look(made, [pods.slim(one) | {"status": one["status"]} for one in found])
    assert (seen.phase, seen.reason, seen.message) == expected


def test_a_pod_that_is_being_removed_serves_no_more() -> None:
    leaving = pod(ready=True, deletionTimestamp="2026-11-21T05:00:00Z")
    assert pods.look(deployment(), [leaving]).ready == ()


def test_ready_addresses_are_listed_in_order() -> None:
    assert pods.look(deployment(2), [pod(ready=True, ip="10.0.0.9"), pod(ready=True, ip="10.0.0.1")]).ready == (
        "10.0.0.1",
        "10.0.0.9",
    )
