"""Counters and histograms for the request path of a process with one event loop.

prometheus_client's own take a lock for every step and walk their buckets in Python, several microseconds a request.
Here the event loop is the only writer, so plain numbers do; they take Prometheus' form when it asks.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector


class Count:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self, amount: int = 1) -> None:
        self.value += amount


class QuickCounter(Collector):
    """One Count a value of one label. values: there from the start. Registers itself."""

    def __init__(self, name: str, text: str, label: str, values: Iterable[str], registry: CollectorRegistry) -> None:
        self._name, self._text, self._label = name, text, label
        self.of = {value: Count() for value in values}
        registry.register(self)

    def count(self, value: str) -> Count:
        """Of this value, also of a new one."""
        return self.of.setdefault(value, Count())

    def describe(self) -> Iterable[Metric]:
        return [self._family()]

    def collect(self) -> Iterable[Metric]:
        family = self._family()
        for value, count in list(self.of.items()):  # a copy: the event loop goes on counting meanwhile
            family.add_metric([value], count.value)
        return [family]

    def _family(self) -> CounterMetricFamily:
        return CounterMetricFamily(self._name, self._text, labels=[self._label])


class QuickTotal(Count, Collector):
    """A Count without labels. Registers itself."""

    def __init__(self, name: str, text: str, registry: CollectorRegistry) -> None:
        super().__init__()
        self._name, self._text = name, text
        registry.register(self)

    def describe(self) -> Iterable[Metric]:
        return [CounterMetricFamily(self._name, self._text)]

    def collect(self) -> Iterable[Metric]:
        return [CounterMetricFamily(self._name, self._text, value=self.value)]


class QuickHistogram(Collector):
    """Durations in seconds. bounds: upper bounds of the buckets, ascending, without infinity. Registers itself."""

    def __init__(self, name: str, text: str, bounds: Sequence[float], registry: CollectorRegistry) -> None:
        self._name, self._text, self._bounds = name, text, tuple(bounds)
        self._slots = [0] * (len(self._bounds) + 1)
        self._total_s = 0.0
        registry.register(self)

    def observe(self, seconds: float, times: int = 1) -> None:
        """times: how often that long."""
        self._slots[bisect_left(self._bounds, seconds)] += times
        self._total_s += seconds * times

    def describe(self) -> Iterable[Metric]:
        return [HistogramMetricFamily(self._name, self._text)]

    def collect(self) -> Iterable[Metric]:
        running, buckets = 0, []
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._slots, strict=True):
            running += count
            buckets.append((bound, running))
        return [HistogramMetricFamily(self._name, self._text, buckets=buckets, sum_value=self._total_s)]
