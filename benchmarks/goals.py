"""What was aimed at, beside what was measured. A goal names a ratio or a note of a section, see `figures.Section`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.figures import Figure, Section
from benchmarks.sections import hop, recording, shadow


@dataclass(slots=True, frozen=True)
class Goal:
    """words: for readers; name: of the ratio or note; at_least, at_most: one of them."""

    words: str
    name: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def wanted(self) -> str:
        return f"at least {self.at_least:g}" if self.at_least is not None else f"at most {self.at_most:g}"

    def is_reached(self, value: float) -> bool:
        if self.at_least is not None:
            return value >= self.at_least
        return self.at_most is None or value <= self.at_most


GOALS: Final = (
    Goal("end to end, times Envoy + MLServer, 64 connections", "e2e_vs_envoy_mlserver", at_least=25),
    Goal("the same, 99th percentile", "e2e_vs_envoy_mlserver_p99", at_most=0.1),
    Goal("end to end, times Envoy + MLServer, 1 connection", "e2e_vs_envoy_mlserver_at_1", at_least=5),
    Goal("the same, where the generator's core may sleep", "e2e_vs_envoy_mlserver_at_1_asleep", at_least=5),
    Goal("end to end, times Envoy + our model server, 64 connections", "e2e_vs_envoy_own_server", at_least=4),
    Goal("end to end, times FastAPI + httpx, 64 connections", "e2e_vs_fastapi_httpx", at_least=50),
    Goal("model server, times MLServer, 64 connections", "server_vs_mlserver", at_least=20),
    Goal("model server, times KServe, 64 connections", "server_vs_kserve", at_least=20),
    Goal("model server, times MLServer, 1 connection", "server_vs_mlserver_at_1", at_least=4),
    Goal("model server, times FastAPI + pydantic, 64 connections", "server_vs_fastapi", at_least=7),
    Goal("gateway's added median latency, times nginx's, 1 connection", "hop_added_p50_vs_nginx_at_1", at_most=1.2),
    Goal("gateway's added median latency, times Envoy's, 1 connection", "hop_added_p50_vs_envoy_at_1", at_most=1),
    Goal("gateway's added median latency, times Envoy's, 16 connections", "hop_added_p50_vs_envoy_at_16", at_most=1),
    Goal("gateway's added median latency, times Envoy's, 64 connections", "hop_added_p50_vs_envoy", at_most=1),
    Goal("gateway's processor time a request, us, 64 connections", hop.CPU_NOTE, at_most=16),
    Goal("joining rows, times a row a frame, 64 connections", "coalescing_vs_row_by_row", at_least=1.4),
    Goal("joining rows, times a row a frame, 1 connection", "coalescing_vs_row_by_row_at_1", at_least=0.95),
    *(
        Goal(f"{state} shadow, {words} of none", f"shadow_{state}_{value}_ratio", **bound)
        for state in ("hung", "dead")
        for words, value, bound in (
            ("throughput", "throughput", {"at_least": 0.95}),
            ("median latency", "p50", {"at_most": 1.05}),
            ("99th percentile", "p99", {"at_most": 1.1}),
        )
    ),
    Goal("healthy shadow, throughput of none", "shadow_healthy_throughput_ratio", at_least=0.9),
    Goal("healthy shadow, 99th percentile of none, half load", "shadow_healthy_half_load_p99_ratio", at_most=1.1),
    Goal("share mirrored, half load", shadow.SHARE_NOTE, at_least=0.99),
    Goal("throughput with recording of that without", "recorder_throughput_ratio", at_least=0.95),
    Goal("processor time of a recorded prediction, us", recording.CPU_NOTE, at_most=2),
    Goal("bytes of Redis of a recorded prediction", recording.BYTES_NOTE, at_most=150),
)


def found(goal: Goal, sections: Sequence[Section]) -> Figure | None:
    """The figure a goal speaks of; None: it was not measured. A note has no spread."""
    for section in sections:
        for known in section.ratios:
            if (known.name, known.model) == (goal.name, "gb25"):
                return known.value
        if goal.name in section.notes:
            value = section.notes[goal.name]
            return Figure(value, value, value, 1)
    return None
