"""All metrics of the controller. Labels: a resource's namespace, name and variants, and the closed sets of phases and
conditions.

Conditions are metrics too, because they are what alerts are made of: Prometheus cannot ask for a ServedModel.
"""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from kingmaker_contracts import keys, labels
from kingmaker_contracts.status import CONDITIONS, ConditionStatus, Status

PHASES: Final = (
    "Pending",
    "Starting",
    "Stable",
    "Shadowing",
    "Progressing",
    "Paused",
    "Degraded",
    "Invalid",
)
_WHICH: Final = (labels.NAMESPACE, labels.MODEL)
_CLAIM: Final[dict[ConditionStatus, int]] = {"True": 1, "False": 0, "Unknown": -1}


class Metrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        def name(what: str) -> str:
            return f"kingmaker_controller_{what}"

        self.reconciles = Counter(name("reconcile_total"), "Reconciles of one model.", registry=registry)
        self.reconcile_errors = Counter(
            name("reconcile_errors_total"), "Reconciles that ended in an error.", registry=registry
        )
        self.reconcile_seconds = Histogram(
            name("reconcile_duration_seconds"), "Time of one reconcile, Redis included.", registry=registry
        )
        self.leader = Gauge(name("leader"), "1 while this controller holds the lease.", registry=registry)
        self._weight = Gauge(name("weight"), "Live weight, percent.", [*_WHICH, labels.VARIANT], registry=registry)
        self._phase = Gauge(name("phase"), "1 for the phase the model is in.", [*_WHICH, "phase"], registry=registry)
        self._condition = Gauge(
            name("condition"),
            "A condition of the resource: 1 true, 0 false, -1 not known.",
            [*_WHICH, "type"],
            registry=registry,
        )
        self._revision = Gauge(
            name("routing_revision"), "Revision of the wanted routing record.", _WHICH, registry=registry
        )
        self._requests = Counter(
            name("kubernetes_requests_total"),
            "Requests to the Kubernetes API; code 0: no answer.",
            ["verb", "resource", labels.CODE],
            registry=registry,
        )
        self.events_dropped = Counter(
            name("events_dropped_total"), "Kubernetes Events that were given up.", registry=registry
        )
        self._restarts = Counter(
            name("variant_restarts_total"),
            "Model-server processes that ended without being asked to.",
            [*_WHICH, labels.VARIANT],
            registry=registry,
        )

    def show(self, model: str, status: Status, weights: dict[str, int]) -> None:
        """Set the gauges of one model; variants that are gone lose theirs. model: namespace/name; weights: percent, the
        champion's too."""
        which = keys.split_model_id(model)
        for phase in PHASES:
            self._phase.labels(*which, phase).set(phase == status.phase)
        for condition in status.conditions:
            if condition.type in CONDITIONS:
                self._condition.labels(*which, condition.type).set(_CLAIM[condition.status])
        self._revision.labels(*which).set(status.routing.revision if status.routing else 0)
        self._weight.remove_by_labels(_labels(model))
        for variant, weight in weights.items():
            self._weight.labels(*which, variant).set(weight)

    def restarted(self, model: str, variant: str) -> None:
        self._restarts.labels(*keys.split_model_id(model), variant).inc()

    def api_request(self, verb: str, resource: str, status: int) -> None:
        self._requests.labels(verb, resource, str(status)).inc()

    def forget(self, model: str) -> None:
        for metric in (self._weight, self._phase, self._condition, self._revision, self._restarts):
            metric.remove_by_labels(_labels(model))


def _labels(model: str) -> dict[str, str]:
    return dict(zip(_WHICH, keys.split_model_id(model), strict=True))
