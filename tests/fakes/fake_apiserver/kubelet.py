"""The rest of a cluster in one thread: Deployments get pods, pods run and become ready, Services get EndpointSlices.

It stands for the Deployment controller, the scheduler, one node and the endpoints controller. Pods belong to
their Deployment directly (there is no ReplicaSet). Every pod has an address of its own in 127.0.0.0/8, so a
`Runner` can start a real server for it on the port the manifest names.
"""

import threading
import uuid
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from tests.claims import claim
from tests.fakes.fake_apiserver import rollout
from tests.fakes.fake_apiserver.cluster import Cluster, Write
from tests.fakes.fake_apiserver.endpoints import slice_of
from tests.fakes.fake_apiserver.errors import ApiError
from tests.fakes.fake_apiserver.store import Object

WRITE = Write("kubelet", "status")
_MADE = Write("kube-controller-manager")


class Running(Protocol):
    """One pod's processes."""

    def is_ready(self) -> bool:
        """Whether its readiness probe passes now."""

    def trouble(self) -> tuple[str, str] | None:
        """Why it waits instead of running: (reason, message), as ("ImagePullBackOff", "..."); None when it runs."""

    def stop(self, grace_s: float) -> None:
        """SIGTERM, then SIGKILL after grace_s; returns when everything is over. Called in a thread of its own."""


@runtime_checkable
class Initialized(Protocol):
    """A `Running` that knows how its init containers fare."""

    def failed(self) -> tuple[str, int, str] | None:
        """The one that failed last: its name, exit code and termination message; None while none did."""


class Runner(Protocol):
    """How pods are run."""

    def start(self, pod: Object) -> Running:
        """Start a pod that has its address (status.podIP) and its whole manifest."""


@dataclass
class Pretend:
    """Pods that are only said to run. ready: what their probe says; trouble: what they wait for instead."""

    ready: bool = True
    waits: tuple[str, str] | None = None

    def start(self, pod: Object) -> "Pretend":
        return self

    def is_ready(self) -> bool:
        return self.ready and self.waits is None

    def trouble(self) -> tuple[str, str] | None:
        return self.waits

    def stop(self, grace_s: float) -> None:
        """Nothing runs."""


class Kubelet:
    """Start it beside a server: `with FakeApiserver(crds) as server, Kubelet(server.cluster, runner): ...`."""

    def __init__(self, cluster: Cluster, runner: Runner | None = None, *, look_every_s: float = 0.05) -> None:
        self._cluster, self._runner, self._look_every_s = cluster, runner or Pretend(), look_every_s
        self._running: dict[str, Running] = {}
        self._stopping: dict[str, threading.Thread] = {}
        self._addresses = 0
        self._network = claim("networks", range(16 * 16, 250 * 16))
        self._refusals: dict[str, str] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fake-kubelet", daemon=True)

    def __enter__(self) -> "Kubelet":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopped.set()
        self._cluster.store.wake()
        self._thread.join(10)
        for running in self._running.values():
            running.stop(0.0)

    def _run(self) -> None:
        while not self._stopped.is_set():
            seen = self._cluster.store.revision
            try:
                self.look()
            except ApiError as error:
                if error.code not in (404, 409):  # somebody else was faster
                    raise
            self._cluster.store.wait_beyond(seen, self._look_every_s)

    def look(self) -> None:
        """One round over everything."""
        store = self._cluster.store
        for deployment in store.all("deployments.apps"):
            self._roll(deployment)
        for pod in store.all("pods"):
            self._attend(pod)
        known = {pod["metadata"]["uid"] for pod in store.all("pods")}
        for uid in [uid for uid in self._running if uid not in known]:
            running = self._running.pop(uid)
            threading.Thread(target=running.stop, args=(0.0,), daemon=True).start()
        for deployment in store.all("deployments.apps"):
            self._report(deployment)
        self._endpoints()

    # Deployments

    def _pods_of(self, deployment: Object) -> list[Object]:
        uid, namespace = deployment["metadata"]["uid"], deployment["metadata"]["namespace"]
        pods = self._cluster.store.all("pods", namespace)
        return [pod for pod in pods if pod["metadata"].get("ownerReferences", [{}])[0].get("uid") == uid]

    def _roll(self, deployment: Object) -> None:
        spec, meta = deployment["spec"], deployment["metadata"]
        if meta.get("deletionTimestamp") or spec.get("paused"):
            return
        wanted, mark = spec["replicas"], rollout.template_hash(spec["template"])
        surge, unavailable = rollout.room(spec, wanted)
        living = [pod for pod in self._pods_of(deployment) if not pod["metadata"].get("deletionTimestamp")]
        new = [pod for pod in living if pod["metadata"]["labels"]["pod-template-hash"] == mark]
        old = [pod for pod in living if pod not in new]
        self._refusals.pop(meta["uid"], None)
        for _ in range(max(0, min(wanted - len(new), wanted + surge - len(living)))):
            try:
                self._create_pod(deployment, mark)
            except ApiError as error:
                self._refusals[meta["uid"]] = error.message
                break
        for pod in sorted(new, key=rollout.is_ready)[: max(0, len(new) - wanted)]:
            self._delete_pod(pod)
        ready = sum(map(rollout.is_ready, living))
        for pod in sorted(old, key=rollout.is_ready):
            if rollout.is_ready(pod):
                if ready - 1 < wanted - unavailable:
                    break
                ready -= 1
            self._delete_pod(pod)

    def _create_pod(self, deployment: Object, mark: str) -> None:
        template, meta = deployment["spec"]["template"], deployment["metadata"]
        self._check_quota(meta)
        owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": meta["name"], "uid": meta["uid"]}
        labels = {**template["metadata"].get("labels", {}), "pod-template-hash": mark}
        about = {"name": f"{meta['name']}-{mark}-{uuid.uuid4().hex[:5]}", "labels": labels}
        about["annotations"] = template["metadata"].get("annotations", {})
        about["ownerReferences"] = [{**owner, "controller": True, "blockOwnerDeletion": True}]
        spec = {**template["spec"], "nodeName": "fake-node"}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": spec}
        self._cluster.create(self._cluster.kind("", "v1", "pods"), meta["namespace"], body, _MADE)

    def _check_quota(self, meta: Object) -> None:
        """Only of pods, by their number. Raises ApiError."""
        used = len(self._cluster.store.all("pods", meta["namespace"]))
        for quota in self._cluster.store.all("resourcequotas", meta["namespace"]):
            most = (quota["spec"].get("hard") or {}).get("pods")
            if most is not None and used >= int(most):
                name = quota["metadata"]["name"]
                text = f"exceeded quota: {name}, requested: pods=1, used: pods={used}, limited: pods={most}"
                raise ApiError(403, "Forbidden", f'pods "{meta["name"]}" is forbidden: {text}')

    def _delete_pod(self, pod: Object) -> None:
        meta = pod["metadata"]
        self._cluster.delete(self._cluster.kind("", "v1", "pods"), meta["namespace"], meta["name"], {})

    def _report(self, deployment: Object) -> None:
        meta, spec = deployment["metadata"], deployment["spec"]
        if self._cluster.store.get("deployments.apps", meta["namespace"], meta["name"]) is not deployment:
            return
        mark = rollout.template_hash(spec["template"])
        pods = [pod for pod in self._pods_of(deployment) if not pod["metadata"].get("deletionTimestamp")]
        ready = sum(map(rollout.is_ready, pods))
        updated = sum(pod["metadata"]["labels"]["pod-template-hash"] == mark for pod in pods)
        enough = ready >= spec["replicas"] - rollout.room(spec, spec["replicas"])[1]
        done = updated == len(pods) == ready == spec["replicas"]
        old = {one["type"]: one for one in deployment.get("status", {}).get("conditions", [])}
        conditions = [
            rollout.condition(
                old, "Available", enough, "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable"
            ),
            rollout.condition(old, "Progressing", True, "NewReplicaSetAvailable" if done else "ReplicaSetUpdated"),
        ]
        if refusal := self._refusals.get(meta["uid"]):
            conditions.append({**rollout.condition(old, "ReplicaFailure", True, "FailedCreate"), "message": refusal})
        counts = {"replicas": len(pods), "updatedReplicas": updated, "readyReplicas": ready, "availableReplicas": ready}
        counts["unavailableReplicas"] = max(0, spec["replicas"] - ready)
        status = {k: v for k, v in counts.items() if v} | {
            "observedGeneration": meta["generation"],
            "conditions": conditions,
        }
        if deployment.get("status") == status:
            return
        kind = self._cluster.kind("apps", "v1", "deployments")
        self._cluster.update(kind, meta["namespace"], meta["name"], {**deployment, "status": status}, WRITE)

    # Pods

    def _attend(self, pod: Object) -> None:
        meta = pod["metadata"]
        uid = meta["uid"]
        if "nodeName" not in pod["spec"]:
            self._schedule(pod)
            return
        if meta.get("deletionTimestamp"):
            if uid not in self._stopping:
                running = self._running.pop(uid, None)
                self._stopping[uid] = threading.Thread(target=self._end, args=(pod, running), daemon=True)
                self._stopping[uid].start()
            return
        if not pod.get("status", {}).get("podIP"):
            self._addresses += 1
            network, host = divmod(self._network, 16), divmod(self._addresses, 250)
            address = f"127.{network[0]}.{network[1] * 16 + host[0]}.{host[1] + 1}"
            pod = self._say(pod, {"phase": "Pending", "podIP": address, "podIPs": [{"ip": address}]})
        if uid not in self._running:
            self._running[uid] = self._runner.start(pod)
        running = self._running[uid]
        trouble = running.trouble()
        ready = trouble is None and running.is_ready()
        state = (
            {"waiting": dict(zip(("reason", "message"), trouble, strict=True))}
            if trouble
            else {"running": {"startedAt": meta["creationTimestamp"]}}
        )
        old = {one["type"]: one for one in pod["status"].get("conditions", [])}
        containers = [
            {
                "name": c["name"],
                "image": c.get("image", ""),
                "imageID": "",
                "ready": ready,
                "restartCount": 0,
                "state": state,
            }
            for c in pod["spec"]["containers"]
        ]
        failed = running.failed() if isinstance(running, Initialized) else None
        if failed is not None:
            for container in containers:
                container["state"] = {"waiting": {"reason": "PodInitializing"}}
        conditions = [rollout.condition(old, type_, ready, "") for type_ in ("Ready", "ContainersReady")]
        self._say(
            pod,
            {
                "phase": "Pending" if trouble or failed else "Running",
                "conditions": conditions,
                "containerStatuses": containers,
                "initContainerStatuses": [_init_status(c, failed) for c in pod["spec"].get("initContainers", [])],
            },
        )

    def _schedule(self, pod: Object) -> None:
        kind = self._cluster.kind("", "v1", "pods")
        bound = {**pod, "spec": {**pod["spec"], "nodeName": "fake-node"}}
        binding = Write("kube-scheduler", "binding")
        self._cluster.update(kind, pod["metadata"]["namespace"], pod["metadata"]["name"], bound, binding)

    def _say(self, pod: Object, status: Object) -> Object:
        said = pod.get("status", {})
        if said == (said | status):
            return pod
        body = {**pod, "status": said | status}
        kind = self._cluster.kind("", "v1", "pods")
        return self._cluster.update(kind, pod["metadata"]["namespace"], pod["metadata"]["name"], body, WRITE)

    def _end(self, pod: Object, running: Running | None) -> None:
        meta = pod["metadata"]
        if running is not None:
            running.stop(float(meta.get("deletionGracePeriodSeconds", 30)))
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": meta["uid"]}}
        try:
            self._cluster.delete(self._cluster.kind("", "v1", "pods"), meta["namespace"], meta["name"], options)
        except ApiError as error:
            if error.code not in (404, 409):
                raise

    # Services

    def _endpoints(self) -> None:
        store, kind = self._cluster.store, self._cluster.kind("discovery.k8s.io", "v1", "endpointslices")
        for service in store.all("services"):
            meta = service["metadata"]
            if not service["spec"].get("selector"):
                continue
            wanted = slice_of(service, store.all("pods", meta["namespace"]))
            name = wanted["metadata"]["name"]
            live = store.get(kind.storage, meta["namespace"], name)
            if live is None:
                self._cluster.create(kind, meta["namespace"], wanted, _MADE)
            elif live.get("endpoints") != wanted["endpoints"] or live.get("ports") != wanted["ports"]:
                body = {**live, "endpoints": wanted["endpoints"], "ports": wanted["ports"]}
                self._cluster.update(kind, meta["namespace"], name, body, _MADE)


def _init_status(container: Object, failed: tuple[str, int, str] | None) -> Object:
    """An init container that has done its work, or waits to be started again after it failed."""
    about = {"name": container["name"], "image": container.get("image", ""), "imageID": "", "restartCount": 0}
    if failed is None or failed[0] != container["name"]:
        return {**about, "ready": True, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}
    ended = {"terminated": {"exitCode": failed[1], "reason": "Error", "message": failed[2]}}
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}}
    return {**about, "ready": False, "state": waiting, "lastState": ended}
