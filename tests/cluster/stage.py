"""What a scenario does and looks at: kubectl's verbs, predictions, the routing record. The same on any cluster."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from kingmaker_contracts import keys, wire
from kingmaker_contracts.routing import RoutingRecord
from tests import patience
from tests.cluster.cluster import Cluster, Controller
from tests.cluster.load import Load

if TYPE_CHECKING:
    from tests.cluster.fake_cluster import FakeCluster

MERGE = {"content-type": "application/merge-patch+json"}
OWN = {"labelSelector": "app.kubernetes.io/managed-by=kingmaker"}
GROUPS = {
    "pods": "/api/v1",
    "services": "/api/v1",
    "resourcequotas": "/api/v1",
    "deployments": "/apis/apps/v1",
    "poddisruptionbudgets": "/apis/policy/v1",
    "horizontalpodautoscalers": "/apis/autoscaling/v2",
    "servicemonitors": "/apis/monitoring.coreos.com/v1",
    "leases": "/apis/coordination.k8s.io/v1",
    "events": "/apis/events.k8s.io/v1",
    "servedmodels": "/apis/kingmaker.dev/v1alpha1",
}
CHILDREN = frozenset(GROUPS) - {"resourcequotas", "leases", "events", "servedmodels"}
"""Kinds of which only the controller's own count: others in the namespace belong to the suite."""


class Stage:
    """Everything around one namespace. folder: for what a test writes."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self.folder, self.cluster = folder, cluster
        self.redis, self.registry, self.namespace = cluster.redis, cluster.registry, cluster.namespace
        self.leader: Controller
        self.gateway = ""
        self._controllers = 0
        self._http = httpx.Client(base_url=cluster.api, trust_env=False, timeout=10)

    @property
    def fake(self) -> "FakeCluster":
        """Powers only the fake cluster has; tests that use them are marked `fake_only`."""
        from tests.cluster.fake_cluster import FakeCluster

        assert isinstance(self.cluster, FakeCluster), "mark this test fake_only"
        return self.cluster

    # kubectl

    def url(self, kind: str, name: str = "") -> str:
        """kind: the plural. Without the API server's address."""
        return f"{GROUPS[kind]}/namespaces/{self.namespace}/{kind}" + (f"/{name}" if name else "")

    def create(self, spec: dict[str, Any], name: str = "flights") -> httpx.Response:
        head = {"apiVersion": "kingmaker.dev/v1alpha1", "kind": "ServedModel", "metadata": {"name": name}}
        return self._http.post(self.url("servedmodels"), json={**head, "spec": spec})

    def patch(self, spec: dict[str, Any], name: str = "flights") -> None:
        self.change("servedmodels", name, {"spec": spec})

    def change(self, kind: str, name: str, what: dict[str, Any], manager: str = "kubectl-patch") -> None:
        """A merge patch."""
        query = {"fieldManager": manager}
        self._http.patch(self.url(kind, name), params=query, json=what, headers=MERGE).raise_for_status()

    def delete(self, kind: str = "servedmodels", name: str = "flights") -> None:
        self._http.delete(self.url(kind, name)).raise_for_status()

    def get(self, name: str = "flights") -> dict[str, Any]:
        return dict(self._http.get(self.url("servedmodels", name)).raise_for_status().json())

    def all(self, kind: str) -> list[dict[str, Any]]:
        """Of pods, Services and so on the controller's own."""
        query = OWN if kind in CHILDREN else {}
        return list(self._http.get(self.url(kind), params=query).raise_for_status().json()["items"])

    def condition(self, kind: str, name: str = "flights") -> dict[str, Any]:
        return next(c for c in self.get(name)["status"]["conditions"] if c["type"] == kind)

    def knows(self, kind: str) -> bool:
        """Whether the cluster has such a kind at all."""
        return self._http.get(self.url(kind)).status_code == 200

    def deployments(self) -> dict[str, dict[str, Any]]:
        """By the variant's name."""
        found = self.all("deployments")
        return {item["metadata"]["annotations"]["kingmaker.dev/variant-name"]: item for item in found}

    def reasons(self) -> list[str]:
        return [event["reason"] for event in self.all("events")]

    def allow_no_more_pods(self) -> None:
        """A quota that is used up already."""
        pods = self._http.get(self.url("pods")).raise_for_status().json()["items"]
        staying = sum(not pod["metadata"].get("deletionTimestamp") for pod in pods)
        quota = {"metadata": {"name": "full"}, "spec": {"hard": {"pods": str(staying)}}}
        self._http.post(self.url("resourcequotas"), json=quota).raise_for_status()

    def allow_pods(self) -> None:
        self.delete("resourcequotas", "full")

    # the stack

    def controller(self, **settings: str) -> Controller:
        """Another one."""
        self._controllers += 1
        name = f"controller-{self._controllers}"
        return self.cluster.start_controller(name, {"KUBERNETES__HOLDER": name, **settings})

    def end_lease(self) -> None:
        """Of a leader killed or frozen: the next one leads without the 15 s it would wait for a sign of life."""
        self.change("leases", "kingmaker-controller", {"spec": {"holderIdentity": ""}})

    def start_gateway(self) -> None:
        self.gateway = self.cluster.start_gateway()

    def load(self, name: str = "flights") -> Load:
        return Load(f"{self.gateway}/v1/models/{name}:predict")

    def answered_by(self, name: str = "flights") -> str:
        url = f"{self.gateway}/v1/models/{name}:predict"
        answer = httpx.post(url, json={"instances": [[1.0, 2.0]]}, trust_env=False, timeout=20)
        return answer.headers.get("x-variant", f"{answer.status_code}")

    def record(self, name: str = "flights") -> RoutingRecord:
        """Raises LookupError where there is none, which `until` takes as not yet."""
        raw = self.redis.get(keys.routing(self.namespace, name))
        if raw is None:
            raise LookupError(f"{name} is not routed")
        return wire.read_json(raw, RoutingRecord)

    def is_routed(self, name: str = "flights") -> bool:
        return bool(self.redis.exists(keys.routing(self.namespace, name)))

    # waiting

    def until(self, holds: Callable[[], Any], what: str, seconds: float = 40.0) -> Any:
        """Poll until something holds; its value. What is not there yet counts as not yet."""
        return patience.until(holds, what, seconds * self.cluster.patience, self._told)

    def _told(self) -> str:
        statuses = [f"{item['metadata']['name']}: {item.get('status')}" for item in self.all("servedmodels")]
        return "\n".join([*statuses, self.cluster.logs()])

    def close(self) -> None:
        self._http.close()
