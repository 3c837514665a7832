"""Counts of answered requests, cheap enough for the request path.

prometheus_client's own counter takes a lock, and its histogram walks its buckets in Python: together more than
decoding a request. The event loop is the only writer here, so plain numbers do; they are put into Prometheus'
form when it asks.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from kingmaker_contracts.labels import CODE, MODEL, VARIANT

LATENCY_S: Final = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

_REQUESTS: Final = "Prediction requests answered. variant is empty when none was chosen, model when it is unknown."


class Tally:
    """Of one variant of one model. by_status: answers; slots: answers by latency bucket, the last without bound."""

    __slots__ = ("by_status", "slots", "total_s")

    def __init__(self) -> None:
        self.by_status: dict[int, int] = {}
        self.slots = [0] * (len(LATENCY_S) + 1)
        self.total_s = 0.0

    def count(self, status: int) -> None:
        self.by_status[status] = self.by_status.get(status, 0) + 1

    def answered(self, status: int, latency_s: float) -> None:
        by_status = self.by_status
        by_status[status] = by_status.get(status, 0) + 1
        self.total_s += latency_s
        self.slots[bisect_left(LATENCY_S, latency_s)] += 1

    def answered_together(self, status: int, latencies_s: Sequence[float]) -> None:
        """Of one or more requests. Those of a frame come nearly sorted, and nearly always all of one bucket."""
        slots, count = self.slots, len(latencies_s)
        self.by_status[status] = self.by_status.get(status, 0) + count
        self.total_s += sum(latencies_s)
        ascending = sorted(latencies_s)
        first, last = bisect_left(LATENCY_S, ascending[0]), bisect_left(LATENCY_S, ascending[-1])
        counted = 0
        for slot in range(first, last):
            within = bisect_right(ascending, LATENCY_S[slot])
            slots[slot] += within - counted
            counted = within
        slots[last] += count - counted


class Tallies(Collector):
    """All of them, as `<prefix>requests` and `<prefix>request_duration_seconds`."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._tallies: dict[tuple[str, str], Tally] = {}

    def of(self, model: str, variant: str) -> Tally:
        return self._tallies.setdefault((model, variant), Tally())

    def describe(self) -> Iterable[Metric]:
        return self._families()

    def collect(self) -> Iterable[Metric]:
        requests, durations = self._families()
        for names, tally in list(self._tallies.items()):  # copies: the event loop goes on counting meanwhile
            for status, count in list(tally.by_status.items()):
                requests.add_metric([*names, str(status)], count)
            if sum(tally.slots) or tally.by_status:
                running, buckets = 0, []
                for bound, count in zip((*map(str, LATENCY_S), "+Inf"), tally.slots, strict=True):
                    running += count
                    buckets.append((bound, running))
                durations.add_metric(list(names), buckets, tally.total_s)
        return requests, durations

    def _families(self) -> tuple[CounterMetricFamily, HistogramMetricFamily]:
        return (
            CounterMetricFamily(f"{self._prefix}requests", _REQUESTS, labels=(MODEL, VARIANT, CODE)),
            HistogramMetricFamily(
                f"{self._prefix}request_duration_seconds",
                "From the whole body's arrival to the answer, by the variant that answered.",
                labels=(MODEL, VARIANT),
            ),
        )
