"""Runs into figures: medians, spreads, and ratios taken round by round. Pure.

Stacks take turns within a round, so what disturbs the machine for a while disturbs both sides of a ratio;
the median over rounds then forgets the rounds it hit unevenly.
"""

import contextlib
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from benchmarks.load import Sample


class Figure(msgspec.Struct, frozen=True):
    """Median, smallest and largest of `runs` values."""

    median: float
    low: float
    high: float
    runs: int


class Row(msgspec.Struct, frozen=True):
    """One stack under one load. cpu_us: by server, median; failed: over all runs, as checked and wrong."""

    stack: str
    model: str
    load: str
    requests_per_s: Figure
    p50_ms: Figure
    p99_ms: Figure
    cpu_us: Figure | None
    cpu_by_server: dict[str, float]
    checked: int
    wrong: int
    failed: int
    first_wrong: str = ""


class Ratio(msgspec.Struct, frozen=True):
    """`name` as in bench-quick.json where it has a place there."""

    name: str
    model: str
    load: str
    value: Figure


class Section(msgspec.Struct):
    """What one part of the benchmark found. notes: single numbers with their names; not_run: stack and why."""

    name: str
    rows: list[Row] = []
    ratios: list[Ratio] = []
    footprint: list[dict[str, float | str | None]] = []
    notes: dict[str, float] = {}
    not_run: dict[str, str] = {}

    @contextlib.contextmanager
    def spared(self, stack: str, *faults: type[Exception]) -> Iterator[None]:
        """A stack that does not come up is reported, and the others go on."""
        try:
            yield
        except faults as error:
            self.not_run[stack] = str(error)


Value = Callable[[Sample], float]


def figure(values: Sequence[float]) -> Figure:
    """Raises ValueError without values: nothing measured is no figure."""
    if not values:
        raise ValueError("no values: nothing was measured")
    return Figure(statistics.median(values), min(values), max(values), len(values))


def row(stack: str, model: str, load: str, samples: Sequence[Sample]) -> Row:
    """All runs of one stack under one load."""
    servers = {name for sample in samples for name in sample.cpu_us}
    return Row(
        stack=stack,
        model=model,
        load=load,
        requests_per_s=figure([s.requests_per_s for s in samples]),
        p50_ms=figure([s.p50_ms for s in samples]),
        p99_ms=figure([s.p99_ms for s in samples]),
        cpu_us=figure([s.total_cpu_us for s in samples]) if servers else None,
        cpu_by_server={n: statistics.median(s.cpu_us.get(n, 0.0) for s in samples) for n in sorted(servers)},
        checked=sum(s.checked for s in samples),
        wrong=sum(s.wrong for s in samples),
        failed=sum(s.failed for s in samples),
        first_wrong=next((s.first_wrong for s in samples if s.first_wrong), ""),
    )


def ratio(ours: Sequence[Sample], theirs: Sequence[Sample], value: Value) -> Figure:
    """ours / theirs round by round. Raises ValueError when rounds are missing, ZeroDivisionError never:
    a peer that answered nothing counts as one request a second."""
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} rounds of ours against {len(theirs)} of theirs")
    return figure([value(a) / max(value(b), _floor(value)) for a, b in zip(ours, theirs, strict=True)])


def throughput(sample: Sample) -> float:
    return sample.requests_per_s


def p50(sample: Sample) -> float:
    return sample.p50_ms


def p99(sample: Sample) -> float:
    return sample.p99_ms


def cpu(sample: Sample) -> float:
    return sample.total_cpu_us


def _floor(value: Value) -> float:
    return 1.0 if value is throughput else 1e-6


def wrong_answers(sections: Sequence[Section]) -> int:
    """Wrong answers of anybody, and failed requests of our own stacks. A peer may fail; it must not be misread."""
    rows = [found for section in sections for found in section.rows]
    return sum(found.wrong + (found.failed if is_ours(found.stack) else 0) for found in rows)


def is_ours(stack: str) -> bool:
    return stack.startswith("Kingmaker")


def quick(sections: Sequence[Section], names: Sequence[str]) -> dict[str, float | int | None]:
    """The ratios of bench-quick.json by name, None for what was not run, and the count of wrong answers."""
    found = {
        known.name: known.value.median for section in sections for known in section.ratios if known.model == "gb25"
    }
    ratios: dict[str, float | int | None] = {name: _rounded(found.get(name)) for name in names}
    return ratios | {"wrong_answers": wrong_answers(sections)}


def by_load(rows: Sequence[Row]) -> Mapping[tuple[str, str], list[Row]]:
    """Rows grouped by (model, load) in order of appearance."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for found in rows:
        groups.setdefault((found.model, found.load), []).append(found)
    return groups


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
