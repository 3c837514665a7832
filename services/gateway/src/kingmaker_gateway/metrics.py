"""Every number the gateway tells Prometheus, in one place; names begin with kingmaker_gateway_."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from kingmaker_contracts.labels import CODE, MODEL, REASON, USE, VARIANT
from kingmaker_gateway.tally import Tallies
from kingmaker_servicekit.quick_metrics import Count, QuickCounter

_WHO = (MODEL, VARIANT)

DROPPED_BECAUSE: Final = ("buffer_full", "shutdown", "unencodable")
IGNORED_BECAUSE: Final = ("malformed", "lower")
LOOPS: Final = ("acks", "announcements", "recorder", "routes")
"""Values of labels; every one stands in an answer of /metrics from the start."""


class VariantMetrics:
    """The children of one variant, bound before traffic: labels() costs more than the counting."""

    def __init__(self, metrics: "Metrics", model: str, variant: str) -> None:
        self.tally = metrics.tallies.of(model, variant)
        self.fallbacks = metrics.fallbacks.labels(model, variant)
        self.abandoned = metrics.upstream_abandoned.labels(model, variant)
        self.upstream_failures = metrics.upstream_failures.labels(model, variant)
        self.breaker_state = metrics.breaker_state.labels(model, variant)
        self.shadow_sent = metrics.shadow_sent.labels(model, variant)
        self.shadow_dropped = metrics.shadow_dropped.labels(model, variant)
        self.shadow_failed = metrics.shadow_failed.labels(model, variant)
        self.mismatched = False
        self._mismatch = metrics.signature_mismatch.labels(model, variant)

    def set_mismatch(self, mismatched: bool) -> None:
        self.mismatched = mismatched
        self._mismatch.set(mismatched)


class Metrics:
    """Made once with the registry passed in."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"kingmaker_gateway_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"kingmaker_gateway_{name}", text, labels, registry=registry)

        self.tallies = Tallies("kingmaker_gateway_")
        registry.register(self.tallies)
        self.rejected = counter("rejected_total", "Requests refused before routing, by problem code.", CODE)
        self.token_file_good = gauge(
            "token_file_good", "1: the file of tokens was read as it is now, 0: an earlier reading holds.", USE
        )
        self.in_flight = gauge("in_flight", "Prediction requests being worked on.", MODEL)
        self.fallbacks = counter(
            "fallbacks_total", "Requests meant for this challenger that the champion answered for its sickness.", *_WHO
        )
        self.upstream_failures = counter("upstream_failures_total", "Attempts at a variant that failed.", *_WHO)
        self.upstream_abandoned = counter(
            "upstream_abandoned_total",
            "Attempts given up when their time was over; late answers are not read.",
            *_WHO,
        )
        self.breaker_state = gauge("breaker_state", "0 closed, 1 half open, 2 open.", *_WHO)
        self.signature_mismatch = gauge(
            "signature_mismatch", "1: an input shared with the champion has another type; no traffic.", *_WHO
        )
        self.shadow_sent = counter("shadow_sent_total", "Copies sent to a shadow.", *_WHO)
        self.shadow_dropped = counter("shadow_dropped_total", "Copies dropped: the shadow's queue was full.", *_WHO)
        self.shadow_failed = counter("shadow_failed_total", "Copies that got no usable answer.", *_WHO)
        self.events_sent = QuickCounter(
            "kingmaker_gateway_events_sent", "Prediction rows offered to the recorder.", MODEL, (), registry
        )
        self.events_dropped = counter("events_dropped_total", "Prediction rows given up, by reason.", MODEL, REASON)
        self.ready = gauge("ready", "1 while the champion can be asked, as far as this gateway knows.", MODEL)
        self.events_buffered = gauge("events_buffered", "Prediction rows waiting for Redis.")
        self.feedback_labels = counter("feedback_labels_total", "Labels that Redis accepted.", MODEL)
        self.routing_revision = gauge("routing_revision", "Revision of the routing record in force.", MODEL)
        self.routing_ignored = counter("routing_ignored_total", "Records not applied: malformed or lower.", REASON)
        self.routing_age = gauge("routing_age_seconds", "Since the records were last read from Redis; -1: never.")
        self.redis_up = gauge("redis_up", "1 when Redis answered the last time it was asked.")
        self.unrouted = VariantMetrics(self, "", "")
        self.loop_errors = counter("background_errors_total", "Unexpected errors background loops survived.", "loop")
        # at 0 from the start: an increase from nothing at all is none to Prometheus
        for reason in IGNORED_BECAUSE:
            self.routing_ignored.labels(reason)
        for loop in LOOPS:
            self.loop_errors.labels(loop)

    def events(self, model: str) -> tuple[Count, dict[str, Counter]]:
        """Rows offered to the recorder, and rows given up by reason, of one model."""
        return self.events_sent.count(model), {r: self.events_dropped.labels(model, r) for r in DROPPED_BECAUSE}

    def forget(self, model: str, variant: str) -> None:
        """Take away what says how a variant is: a breaker that was open when it left would stay so for ever."""
        for gauge in (self.breaker_state, self.signature_mismatch):
            gauge.remove_by_labels({MODEL: model, VARIANT: variant})

    def forget_model(self, model: str) -> None:
        """Likewise of a whole model."""
        self.forget(model, "")
        for gauge in (self.ready, self.in_flight):
            gauge.remove_by_labels({MODEL: model})

    def variant(self, model: str, variant: str) -> VariantMetrics:
        return VariantMetrics(self, model, variant)
