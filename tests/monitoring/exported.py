"""What the four services export, from their own registries, with a variant, an answer and an evaluation in them.

The slow test beside this asks running services; this one is quick and knows labels of metrics that have no sample yet.
"""

from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from kingmaker_contracts.status import CONDITIONS, Condition, Status
from kingmaker_controller import metrics as controller
from kingmaker_gateway import metrics as gateway
from kingmaker_model_server import metrics as model_server
from kingmaker_monitor import metrics as monitor
from kingmaker_monitor.snapshot import ModelView, Snapshot
from tests.contracts import samples


@dataclass
class Exported:
    """labels, values: by the name of a series as a query has it (with _total, _bucket, ...)."""

    labels: dict[str, set[str]] = field(default_factory=dict)
    values: dict[tuple[str, str], set[str]] = field(default_factory=dict)


def everything() -> Exported:
    found = Exported()
    for registry, declared in (_gateway(), _monitor(), _controller(), _model_server()):
        for metric in declared:
            for family in metric.describe():
                for suffix in _SUFFIXES[family.type]:
                    found.labels.setdefault(family.name + suffix, set()).update(metric._labelnames)
        for family in registry.collect():
            for suffix in _SUFFIXES[family.type]:
                found.labels.setdefault(family.name + suffix, set()).update(getattr(family, "_labelnames", ()))
            for sample in family.samples:
                found.labels.setdefault(sample.name, set()).update(sample.labels)
                for label, value in sample.labels.items():
                    found.values.setdefault((sample.name, label), set()).add(value)
    return found


_SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}

Found = tuple[CollectorRegistry, list[MetricWrapperBase]]


def _declared(metrics: object) -> list[MetricWrapperBase]:
    return [value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)]


def _gateway() -> Found:
    registry = CollectorRegistry()
    metrics = gateway.Metrics(registry)
    metrics.variant("flights", "gbm").tally.answered(200, 0.003)
    metrics.events("flights")
    return registry, _declared(metrics)


def _monitor() -> Found:
    registry = CollectorRegistry()
    report = samples.REPORT
    view = ModelView(samples.EVIDENCE, b"", 0, 0, 0.1, report, report.pipeline)
    monitor.register(registry, lambda: Snapshot({"flights": view}, 1.0, True, 0))
    return registry, []


def _controller() -> Found:
    registry = CollectorRegistry()
    metrics = controller.Metrics(registry)
    conditions = [Condition(kind, "True", "", "", "", 1) for kind in CONDITIONS]
    metrics.show("default/flights", Status(conditions=conditions), {"lr": 80, "gbm": 20})
    return registry, _declared(metrics)


def _model_server() -> Found:
    registry = CollectorRegistry()
    metrics = model_server.Metrics(registry)
    return registry, _declared(metrics)
