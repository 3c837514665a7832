"""Everything this process measures of itself."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from kingmaker_contracts import labels
from kingmaker_contracts.problems import HTTP_STATUS
from kingmaker_servicekit.quick_metrics import QuickCounter, QuickHistogram, QuickTotal

_PREFIX: Final = "kingmaker_model_server_"
_SECONDS: Final = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
)


class Metrics:
    """The metrics of one server; children are bound here, once."""

    def __init__(self, registry: CollectorRegistry) -> None:
        statuses = sorted({200, 408, 431, *HTTP_STATUS.values()})
        requests = QuickCounter(
            f"{_PREFIX}requests",
            "Infer and predict requests by HTTP status.",
            labels.CODE,
            map(str, statuses),
            registry,
        )
        self.requests = {status: requests.of[str(status)] for status in statuses}
        self.request_duration = QuickHistogram(
            f"{_PREFIX}request_duration_seconds",
            "From the whole body read to the answer ready, infer and predict.",
            _SECONDS,
            registry,
        )
        self.rows = QuickTotal(f"{_PREFIX}rows", "Rows answered.", registry)
        self.inference_duration = QuickHistogram(
            f"{_PREFIX}inference_duration_seconds",
            "In ONNX Runtime, one run of one or several requests with all their rows.",
            _SECONDS,
            registry,
        )
        self.retried_alone = Counter(
            f"{_PREFIX}retried_alone",
            "Requests run alone because the run they were joined into failed.",
            registry=registry,
        )
        self.expired = Counter(
            f"{_PREFIX}expired", "Requests dropped unrun: their callers' time was over.", registry=registry
        )
        self.ready = Gauge(f"{_PREFIX}ready", "1 once the model is loaded and warmed up.", registry=registry)
        self.load_seconds = Gauge(
            f"{_PREFIX}load_seconds", "Reading, checking, loading and warming up the model.", registry=registry
        )
        self._model_info = Gauge(
            f"{_PREFIX}model_info",
            "1; the labels say which model this is.",
            [labels.MODEL, "version", "sha256"],
            registry=registry,
        )

    def loaded(self, model: str, version: str, sha256: str, seconds: float) -> None:
        """The model is in; it answers from now on."""
        self._model_info.labels(model, version, sha256).set(1)
        self.load_seconds.set(seconds)
        self.ready.set(1)
