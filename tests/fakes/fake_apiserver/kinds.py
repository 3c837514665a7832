"""The kinds this server knows: the built-in ones Kingmaker touches, and every CRD that was given to it."""

from dataclasses import dataclass, field
from typing import Any

from tests.fakes.fake_apiserver.structural import Schema, definitions, resolve

Columns = list[dict[str, Any]]


@dataclass(frozen=True)
class Kind:
    """One resource of one API version.

    needs_version: a PUT must carry a resourceVersion; created_by_put: it may create; definition: the name of its
    Kubernetes schema, "" for a custom resource.
    """

    group: str
    version: str
    plural: str
    kind: str
    short_names: tuple[str, ...] = ()
    namespaced: bool = True
    has_status: bool = False
    has_generation: bool = False
    has_scale: bool = False
    needs_version: bool = False
    created_by_put: bool = False
    categories: tuple[str, ...] = ()
    columns: Columns = field(default_factory=list)
    definition: str = ""
    custom_schema: Schema | None = None

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """plural.group, as messages name a resource."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def qualified_kind(self) -> str:
        return f"{self.kind}.{self.group}" if self.group else self.kind

    @property
    def is_custom(self) -> bool:
        return self.custom_schema is not None

    @property
    def storage(self) -> str:
        """Where objects are kept; the two faces of Event share one place."""
        return "events" if self.kind == "Event" else self.qualified

    @property
    def schema(self) -> Schema:
        if self.custom_schema is None:
            return resolve(definitions()[self.definition])
        return self.custom_schema


def _column(name: str, path: str, type_: str = "string", priority: int = 0) -> dict[str, Any]:
    return {"name": name, "type": type_, "jsonPath": path, "priority": priority}


_AGE = _column("Age", ".metadata.creationTimestamp", "date")
_DEPLOYMENT: Columns = [
    _column("Ready", ".status.readyReplicas", "integer"),
    _column("Desired", ".spec.replicas", "integer"),
    _column("Up-to-date", ".status.updatedReplicas", "integer"),
    _column("Available", ".status.availableReplicas", "integer"),
    _AGE,
]
_POD: Columns = [
    _column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
    _column("Status", ".status.phase"),
    _AGE,
    _column("IP", ".status.podIP", priority=1),
]
_EVENT: Columns = [
    _column("Last Seen", ".lastTimestamp", "date"),
    _column("Type", ".type"),
    _column("Reason", ".reason"),
    _column("Object", ".involvedObject.name"),
    _column("Message", ".message"),
]
_CORE, _META = "io.k8s.api.core.v1.", "io.k8s.apimachinery.pkg.apis.meta.v1."


def built_in() -> list[Kind]:
    """The kinds of a cluster that Kingmaker reads or writes."""
    core = [
        Kind("", "v1", "namespaces", "Namespace", ("ns",), namespaced=False, has_status=True),
        Kind("", "v1", "pods", "Pod", ("po",), has_status=True, has_generation=True, columns=_POD),
        Kind("", "v1", "services", "Service", ("svc",), has_status=True),
        Kind("", "v1", "configmaps", "ConfigMap", ("cm",)),
        Kind("", "v1", "secrets", "Secret"),
        Kind("", "v1", "serviceaccounts", "ServiceAccount", ("sa",)),
        Kind("", "v1", "events", "Event", ("ev",), columns=_EVENT),
        Kind("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", ("pvc",), has_status=True),
        Kind("", "v1", "resourcequotas", "ResourceQuota", ("quota",), has_status=True),
    ]
    apps = Kind(
        "apps", "v1", "deployments", "Deployment", ("deploy",), has_status=True, has_generation=True, has_scale=True,
        columns=_DEPLOYMENT, definition="io.k8s.api.apps.v1.Deployment",
    )  # fmt: skip
    named = [Kind(**{**vars(kind), "definition": f"{_CORE}{kind.kind}"}) for kind in core]
    return [
        *named,
        apps,
        Kind("apps", "v1", "statefulsets", "StatefulSet", ("sts",), has_status=True, has_generation=True,
             has_scale=True,
             definition="io.k8s.api.apps.v1.StatefulSet"),
        Kind("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", ("netpol",), has_generation=True,
             definition="io.k8s.api.networking.v1.NetworkPolicy"),
        Kind("networking.k8s.io", "v1", "ingresses", "Ingress", ("ing",), has_status=True, has_generation=True,
             definition="io.k8s.api.networking.v1.Ingress"),
        Kind("rbac.authorization.k8s.io", "v1", "roles", "Role", definition="io.k8s.api.rbac.v1.Role"),
        Kind("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding",
             definition="io.k8s.api.rbac.v1.RoleBinding"),
        Kind("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", ("hpa",), has_status=True,
             definition="io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler"),
        Kind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", ("pdb",), has_status=True,
             has_generation=True, needs_version=True, definition="io.k8s.api.policy.v1.PodDisruptionBudget"),
        Kind("coordination.k8s.io", "v1", "leases", "Lease", needs_version=True, created_by_put=True,
             definition="io.k8s.api.coordination.v1.Lease"),
        Kind("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", has_generation=True,
             definition="io.k8s.api.discovery.v1.EndpointSlice"),
        Kind("rbac.authorization.k8s.io", "v1", "roles", "Role", definition="io.k8s.api.rbac.v1.Role"),
        Kind("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding",
             definition="io.k8s.api.rbac.v1.RoleBinding"),
        Kind("events.k8s.io", "v1", "events", "Event", ("ev",), columns=_EVENT,
             definition="io.k8s.api.events.v1.Event"),
        Kind("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", ("crd", "crds"),
             namespaced=False, has_status=True, has_generation=True, needs_version=True,
             definition="io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition"),
    ]  # fmt: skip


def of_crd(crd: dict[str, Any]) -> list[Kind]:
    """The kinds a CustomResourceDefinition serves, one a version."""
    spec, names = crd["spec"], crd["spec"]["names"]
    kinds = []
    for version in spec["versions"]:
        if not version["served"]:
            continue
        schema = version["schema"]["openAPIV3Schema"]
        meta = resolve(definitions()[f"{_META}ObjectMeta"])
        own = schema.get("properties", {}).get("metadata", {}).get("properties", {})
        meta = {**meta, "properties": {**meta["properties"], **own}}
        plain = {"type": "string"}
        properties = {"apiVersion": plain, "kind": plain, **schema.get("properties", {}), "metadata": meta}
        kinds.append(
            Kind(
                spec["group"], version["name"], names["plural"], names["kind"], tuple(names.get("shortNames", ())),
                namespaced=spec["scope"] == "Namespaced", has_status="status" in version.get("subresources", {}),
                has_generation=True, needs_version=True, categories=tuple(names.get("categories", ())),
                columns=version.get("additionalPrinterColumns") or [_AGE],
                custom_schema={**schema, "properties": properties},
            )
        )  # fmt: skip
    return kinds


SERVICE_MONITOR = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "servicemonitors.monitoring.coreos.com"},
    "spec": {
        "group": "monitoring.coreos.com",
        "scope": "Namespaced",
        "names": {"plural": "servicemonitors", "singular": "servicemonitor", "kind": "ServiceMonitor",
                  "listKind": "ServiceMonitorList", "shortNames": ["smon"]},
        "versions": [{
            "name": "v1", "served": True, "storage": True,
            "schema": {"openAPIV3Schema": {"type": "object", "required": ["spec"], "properties": {"spec": {
                "type": "object", "required": ["selector", "endpoints"], "x-kubernetes-preserve-unknown-fields": True,
                "properties": {
                    "selector": {"type": "object", "x-kubernetes-map-type": "atomic",
                                 "x-kubernetes-preserve-unknown-fields": True},
                    "endpoints": {"type": "array", "items": {
                        "type": "object", "x-kubernetes-preserve-unknown-fields": True,
                        "properties": {"port": {"type": "string"}, "path": {"type": "string"},
                                       "interval": {"type": "string"}}}},
                }}}}},
        }],
    },
}  # fmt: skip
"""The Prometheus operator's ServiceMonitor, as far as Kingmaker writes it."""
