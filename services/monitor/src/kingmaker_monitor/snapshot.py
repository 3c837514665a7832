"""What the monitor last concluded, replaced whole, so that API and /metrics read without locks."""

from dataclasses import dataclass, field

from kingmaker_contracts.evidence import Evidence
from kingmaker_contracts.report import ModelReport, Pipeline


@dataclass(slots=True, frozen=True)
class ModelView:
    """One followed model. evidence: None while it has no plan; body: that as JSON; unusable, unlabelled: see
    `state`; event_age_s: None before its first event."""

    evidence: Evidence | None
    body: bytes
    unusable: int
    unlabelled: int
    event_age_s: float | None
    report: ModelReport | None = None
    pipeline: Pipeline | None = None


@dataclass(slots=True, frozen=True)
class Snapshot:
    """models: by name, without the namespace; evaluated_at: unix seconds, 0 before the first time."""

    models: dict[str, ModelView] = field(default_factory=dict)
    evaluated_at: float = 0.0
    redis_up: bool = False
    evidence_failures: int = 0
    clock_jumps: int = 0


class Board:
    """Holds the newest snapshot."""

    def __init__(self) -> None:
        self.snapshot = Snapshot()
