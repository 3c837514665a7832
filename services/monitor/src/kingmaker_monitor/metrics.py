"""Everything the monitor shows at /metrics, made from the newest snapshot at every scrape.

A collector instead of gauges that are set: the series of a variant that is gone are gone with it, and a
number that could not be computed has no sample rather than a 0. Counters of a variant start anew with
its rollout, as a restarted process's do.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from kingmaker_contracts.evidence import Evidence, VariantEvidence
from kingmaker_contracts.labels import FEATURE, MODEL, VARIANT
from kingmaker_contracts.report import Pipeline
from kingmaker_monitor.snapshot import ModelView, Snapshot

_PREFIX: Final = "kingmaker_monitor_"
_OUTCOME: Final = "outcome"
_STREAM: Final = "stream"
_WINDOW: Final = "window"
_AGAINST: Final = "against"

_COUNTS: Final[dict[str, tuple[str, Callable[[VariantEvidence], int]]]] = {
    "requests": ("Rows a variant answered live.", lambda v: v.answered),
    "assigned": ("Rows the split meant for a variant.", lambda v: v.assigned),
    "errors": ("Rows a variant answered with an error.", lambda v: v.errors),
    "fallbacks": ("Rows meant for a variant that the champion answered after it failed.", lambda v: v.fallbacks),
    "ineligible": ("Rows meant for a variant whose inputs they lacked.", lambda v: v.ineligible),
    "shadowed": ("Copies a variant answered.", lambda v: v.shadowed),
    "shadow_errors": ("Copies a variant answered with an error.", lambda v: v.shadow_errors),
}
_GAUGES: Final[dict[str, tuple[str, Callable[[VariantEvidence], float | None]]]] = {
    "latency_p50_seconds": ("Median latency.", lambda v: _seconds(v.latency.p50_ms)),
    "latency_p99_seconds": ("Latency that 99 % of answers stay under.", lambda v: _seconds(v.latency.p99_ms)),
    "quality_rows": ("Labelled rows that quality is computed from.", lambda v: v.quality.n),
    "quality_auc": ("Area under the ROC curve.", lambda v: v.quality.auc),
    "quality_accuracy": ("Share of right classes.", lambda v: v.quality.accuracy),
    "quality_log_loss": ("Mean log loss, nats.", lambda v: v.quality.log_loss),
    "quality_brier": ("Mean squared error of the probability.", lambda v: v.quality.brier),
    "quality_mae": ("Mean absolute error of a regression.", lambda v: v.quality.mae),
    "quality_rmse": ("Root of the mean squared error of a regression.", lambda v: v.quality.rmse),
    "score_psi": ("Population stability index of the score, nats.", lambda v: v.score_drift.psi),
    "score_mean": ("Mean score.", lambda v: v.mean_score),
}
_EVENTS: Final = {
    "sent": "Rows gateways offered.",
    "stored": "Rows that arrived and were counted.",
    "dropped": "Rows gateways gave up before Redis took them.",
    "duplicates": "Rows that arrived again and were skipped.",
    "malformed": "Stream entries that could not be read.",
}
_LABELS: Final = ("joined", "duplicate", "conflicting", "unknown", "expired")


class EvidenceCollector(Collector):
    """Yields the newest snapshot. read: gives it."""

    def __init__(self, read: Callable[[], Snapshot]) -> None:
        self._read = read

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that registering does not collect."""
        return []

    def collect(self) -> Iterator[Metric]:
        snapshot = self._read()
        yield GaugeMetricFamily(f"{_PREFIX}redis_up", "1 while the streams can be read.", value=snapshot.redis_up)
        yield GaugeMetricFamily(
            f"{_PREFIX}last_evaluation_timestamp_seconds", "Unix time of the newest evidence.", snapshot.evaluated_at
        )
        yield CounterMetricFamily(
            f"{_PREFIX}evaluation_failures",
            "Evaluations or writes of evidence that failed.",
            snapshot.evidence_failures,
        )
        yield CounterMetricFamily(f"{_PREFIX}clock_jumps", "Jumps of this machine's clock.", snapshot.clock_jumps)
        planned = {name: view.evidence for name, view in snapshot.models.items() if view.evidence is not None}
        yield from _of_variants(planned)
        yield from _of_columns(planned)
        yield _agreement(planned)
        yield from _of_pipeline(planned)
        yield from _of_views(snapshot.models)


def register(registry: CollectorRegistry, read: Callable[[], Snapshot]) -> None:
    registry.register(EvidenceCollector(read))


def _of_variants(models: dict[str, Evidence]) -> Iterator[Metric]:
    for name, (text, count) in _COUNTS.items():
        counter = CounterMetricFamily(f"{_PREFIX}{name}", text, labels=[MODEL, VARIANT])
        for model, variant, found in _variants(models):
            counter.add_metric([model, variant], count(found))
        yield counter
    for name, (text, read) in _GAUGES.items():
        gauge = GaugeMetricFamily(f"{_PREFIX}{name}", text, labels=[MODEL, VARIANT])
        for model, variant, found in _variants(models):
            _add(gauge, [model, variant], read(found))
        yield gauge


def _of_columns(models: dict[str, Evidence]) -> Iterator[Metric]:
    labels = [MODEL, VARIANT, FEATURE]
    psi = GaugeMetricFamily(
        f"{_PREFIX}feature_psi", "Population stability index against training, nats.", labels=labels
    )
    noise = GaugeMetricFamily(f"{_PREFIX}feature_psi_noise", "What PSI stays under without drift, 95 %.", labels=labels)
    ks = GaugeMetricFamily(f"{_PREFIX}feature_ks", "Kolmogorov-Smirnov distance against training.", labels=labels)
    missing = GaugeMetricFamily(f"{_PREFIX}feature_missing_ratio", "Live share without a value.", labels=labels)
    for model, variant, found in _variants(models):
        for feature, drift in found.drift.items():
            for gauge, value in ((psi, drift.psi), (noise, drift.noise), (ks, drift.ks), (missing, drift.missing)):
                _add(gauge, [model, variant, feature], value)
    yield from (psi, noise, ks, missing)


def _agreement(models: dict[str, Evidence]) -> Metric:
    gauge = GaugeMetricFamily(
        f"{_PREFIX}agreement_ratio", "Share of copied rows with the champion's class.", labels=[MODEL, VARIANT]
    )
    for model, evidence in models.items():
        for variant, agreement in evidence.agreement.items():
            _add(gauge, [model, variant], agreement.label)
    return gauge


def _of_pipeline(models: dict[str, Evidence]) -> Iterator[Metric]:
    for name, text in _EVENTS.items():
        counter = CounterMetricFamily(f"{_PREFIX}events_{name}", text, labels=[MODEL])
        for model, evidence in models.items():
            counter.add_metric([model], getattr(evidence.events, name))
        yield counter
    # a gauge, for a batch that comes late after all is lost no longer
    lost = GaugeMetricFamily(f"{_PREFIX}events_lost", "Rows proven lost between gateway and monitor.", labels=[MODEL])
    received = CounterMetricFamily(f"{_PREFIX}labels_received", "Labels that arrived.", labels=[MODEL])
    outcomes = CounterMetricFamily(f"{_PREFIX}labels", "What became of labels.", labels=[MODEL, _OUTCOME])
    parked = GaugeMetricFamily(f"{_PREFIX}labels_parked", "Labels that wait for their prediction.", labels=[MODEL])
    pending = GaugeMetricFamily(f"{_PREFIX}predictions_pending", "Predictions that wait for a label.", labels=[MODEL])
    for model, evidence in models.items():
        lost.add_metric([model], evidence.events.lost)
        received.add_metric([model], evidence.feedback.received)
        parked.add_metric([model], evidence.feedback.parked)
        pending.add_metric([model], evidence.feedback.pending)
        for outcome in _LABELS:
            outcomes.add_metric([model, outcome], getattr(evidence.feedback, outcome))
    yield from (lost, received, outcomes, parked, pending)


def _of_views(models: dict[str, ModelView]) -> Iterator[Metric]:
    age = GaugeMetricFamily(f"{_PREFIX}event_age_seconds", "Age of the newest event when it was read.", labels=[MODEL])
    unusable = CounterMetricFamily(
        f"{_PREFIX}labels_unusable", "Joined labels that are none of the model's classes.", labels=[MODEL]
    )
    unlabelled = CounterMetricFamily(
        f"{_PREFIX}predictions_expired", "Predictions whose time was up before a label came.", labels=[MODEL]
    )
    for model, view in models.items():
        _add(age, [model], view.event_age_s)
        unusable.add_metric([model], view.unusable)
        unlabelled.add_metric([model], view.unlabelled)
    yield from (age, unusable, unlabelled)
    yield from _of_health({name: view.pipeline for name, view in models.items() if view.pipeline is not None})
    yield from _of_windows(models)


def _of_health(models: dict[str, Pipeline]) -> Iterator[Metric]:
    """Where the streams stand, and what could not be counted as it should."""
    labels = [MODEL, _STREAM]
    waiting = GaugeMetricFamily(f"{_PREFIX}entries_waiting", "Stream entries that are not read yet.", labels=labels)
    behind = GaugeMetricFamily(
        f"{_PREFIX}stream_lag_seconds", "How much older the last entry read is than the newest.", labels=labels
    )
    trimmed = CounterMetricFamily(
        f"{_PREFIX}entries_trimmed", "Entries that left their stream before they were read.", labels=labels
    )
    misdated = CounterMetricFamily(
        f"{_PREFIX}events_misdated", "Rows whose time no window holds; counted for the rollout.", labels=[MODEL]
    )
    unprofiled = GaugeMetricFamily(
        f"{_PREFIX}events_unprofiled", "Rows of this rollout that no profile describes.", labels=[MODEL]
    )
    for model, found in models.items():
        for kind, lost in (("events", found.trimmed_events), ("feedback", found.trimmed_feedback)):
            streams = [stream for stream in found.streams if f":{kind}:" in stream.key]
            waiting.add_metric([model, kind], sum(stream.waiting for stream in streams))
            behind.add_metric([model, kind], max((stream.behind_seconds for stream in streams), default=0.0))
            trimmed.add_metric([model, kind], lost)
        misdated.add_metric([model], found.misdated)
        unprofiled.add_metric([model], sum(profile.unprofiled for profile in found.profiles.values()))
    yield from (waiting, behind, trimmed, misdated, unprofiled)


def _of_windows(models: dict[str, ModelView]) -> Iterator[Metric]:
    """Drift of whole variants, by window and reference. Columns are in the API: their number is the user's."""
    labels = [MODEL, VARIANT, _WINDOW, _AGAINST]
    share = GaugeMetricFamily(
        f"{_PREFIX}features_drifted_ratio", "Share of judged features that drifted.", labels=labels
    )
    headline = GaugeMetricFamily(
        f"{_PREFIX}drift_headline", "Corrected PSI averaged by importance, nats.", labels=labels
    )
    rows = GaugeMetricFamily(f"{_PREFIX}window_rows", "Rows in the window.", labels=[MODEL, VARIANT, _WINDOW])
    for model, view in models.items():
        for variant, windows in (view.report.windows if view.report is not None else {}).items():
            for window, found in windows.items():
                rows.add_metric([model, variant, window], found.answered + found.shadowed)
                for against, table in found.drift.items():
                    _add(share, [model, variant, window, against], table.drifted_share)
                    _add(headline, [model, variant, window, against], table.headline)
    yield from (share, headline, rows)


def _variants(models: dict[str, Evidence]) -> Iterator[tuple[str, str, VariantEvidence]]:
    for model, evidence in models.items():
        for variant, found in evidence.variants.items():
            yield model, variant, found


def _add(gauge: GaugeMetricFamily, labels: list[str], value: float | None) -> None:
    if value is not None:
        gauge.add_metric(labels, value)


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
