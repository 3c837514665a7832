"""Metrics are worded in a thread of their own while the event loop goes on counting."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, generate_latest

from kingmaker_gateway.metrics import Metrics
from kingmaker_servicekit.quick_metrics import Count


class LateStatus(int):
    """A status in the wording of which the event loop has its turn."""

    meanwhile: Callable[[], None]

    def __str__(self) -> str:
        self.meanwhile()
        return int.__str__(self)


class LateCount(Count):
    """The same of a count."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        self.meanwhile = meanwhile

    @property
    def value(self) -> int:  # type: ignore[override]  # read only, which is all a scrape does
        self.meanwhile()
        return 3


def test_a_status_and_a_variant_that_are_new_cost_no_scrape() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    tally = metrics.tallies.of("flights", "lr")
    late = LateStatus(200)
    tally.count(late)

    def meanwhile() -> None:
        tally.count(504)
        metrics.tallies.of("loans", "lr").count(200)

    late.meanwhile = meanwhile
    assert b'requests_total{code="200",model="flights",variant="lr"} 1.0' in generate_latest(registry)
    assert b'requests_total{code="504",model="flights",variant="lr"}' in generate_latest(registry)


def test_a_model_that_is_new_costs_no_scrape() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.events_sent.of["default/flights"] = LateCount(lambda: metrics.events_sent.count("default/loans"))
    assert b'events_sent_total{model="default/flights"} 3.0' in generate_latest(registry)
    assert b'events_sent_total{model="default/loans"} 0.0' in generate_latest(registry)
