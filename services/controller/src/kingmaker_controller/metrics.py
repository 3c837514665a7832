"""All metrics of the controller. Labels are model and variant names from the resource, and the closed set of phases."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from kingmaker_contracts import labels
from kingmaker_contracts.status import Status

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
        self._weight = Gauge(name("weight"), "Live weight, percent.", [labels.MODEL, labels.VARIANT], registry=registry)
        self._phase = Gauge(
            name("phase"), "1 for the phase the model is in.", [labels.MODEL, "phase"], registry=registry
        )
        self._revision = Gauge(
            name("routing_revision"), "Revision of the wanted routing record.", [labels.MODEL], registry=registry
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
        self.restarts = Counter(
            name("variant_restarts_total"),
            "Model-server processes that ended without being asked to.",
            [labels.MODEL, labels.VARIANT],
            registry=registry,
        )

    def show(self, model: str, status: Status, weights: dict[str, int]) -> None:
        """Set the gauges of one model; variants that are gone lose theirs. weights: percent, the champion's too."""
        for phase in PHASES:
            self._phase.labels(model, phase).set(phase == status.phase)
        self._revision.labels(model).set(status.routing.revision if status.routing else 0)
        self._weight.remove_by_labels({labels.MODEL: model})
        for variant, weight in weights.items():
            self._weight.labels(model, variant).set(weight)

    def api_request(self, verb: str, resource: str, status: int) -> None:
        self._requests.labels(verb, resource, str(status)).inc()

    def forget(self, model: str) -> None:
        for gauge in (self._weight, self._phase, self._revision, self.restarts):
            gauge.remove_by_labels({labels.MODEL: model})
