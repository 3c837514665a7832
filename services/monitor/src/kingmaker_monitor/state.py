"""What the monitor holds in memory of one model: exactly what its state file says, or it is thrown away."""

from dataclasses import dataclass, field
from typing import NamedTuple

from kingmaker_contracts.labels import Role
from kingmaker_contracts.plan import Plan, Retention
from kingmaker_monitor.accounts import Account
from kingmaker_monitor.aggregates import Aggregate
from kingmaker_monitor.positions import Position
from kingmaker_monitor.windows import Sliding, Window, new_windows


class Arm(NamedTuple):
    """One variant of one rollout, as events name it. version and schema are "" where an event only says that
    the split meant this variant; role: what it was then, "" likewise; segment: "" for all rows, else
    `feature=value`: the rows of one segment are counted again under an arm of their own."""

    rollout: str
    variant: str
    version: str
    schema: str
    role: Role | str
    segment: str = ""


class Producer(NamedTuple):
    """One life of a gateway on one stream."""

    partition: int
    id: str


@dataclass(slots=True)
class Tally:
    """Counts of one model that belong to no variant. See `kingmaker_contracts.evidence` for most.

    unusable: joined labels that are none of the model's classes; unlabelled: predictions whose time was up
    before a label came; late_ms: age of the newest event when it was read, -1 before the first; misdated: rows whose
    time no window holds; trimmed_events, trimmed_feedback: entries that were trimmed before they were read;
    replaced: streams that were read again from their beginning; damaged_panes: panes that could not be read back;
    lives: of gateways, ever seen; folded_*: those of which only the sum is kept, in lives and in rows.
    """

    duplicates: int = 0
    malformed: int = 0
    received: int = 0
    joined: int = 0
    duplicate: int = 0
    conflicting: int = 0
    unknown: int = 0
    expired: int = 0
    parked: int = 0
    pending: int = 0
    unusable: int = 0
    unlabelled: int = 0
    late_ms: int = -1
    misdated: int = 0
    trimmed_events: int = 0
    trimmed_feedback: int = 0
    replaced: int = 0
    damaged_panes: int = 0
    lives: int = 0
    folded_lives: int = 0
    folded_sent: int = 0
    folded_stored: int = 0
    folded_dropped: int = 0
    folded_lost: int = 0

    def fold(self, account: Account, sign: int = 1) -> None:
        """Take over what a life came to; sign -1 gives it back."""
        self.folded_lives += sign
        self.folded_sent += sign * account.sent
        self.folded_stored += sign * account.stored
        self.folded_dropped += sign * account.dropped
        self.folded_lost += sign * account.lost


@dataclass(slots=True)
class ModelState:
    """number: the key of the model in the store; token: of the lease it is counted under; arms: their numbers;
    totals: by arm, since its rollout began, of the planned rollout; windows: the same over sliding times;
    positions: how far each stream was read, by its key; version: rises with every change."""

    number: int
    name: str
    plan: Plan | None = None
    token: int = 0
    arms: dict[Arm, int] = field(default_factory=dict)
    totals: dict[int, Aggregate] = field(default_factory=dict)
    windows: dict[Sliding, Window] = field(default_factory=new_windows)
    accounts: dict[Producer, Account] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    positions: dict[str, Position] = field(default_factory=dict)
    version: int = 0

    def is_current(self, arm: Arm) -> bool:
        """Whether an arm belongs to the planned rollout, whose totals are kept in memory. Without a plan all do."""
        return self.plan is None or arm.rollout == self.plan.rollout_id

    @property
    def retention(self) -> Retention:
        return self.plan.retention if self.plan else Retention()

    @property
    def has_shadows(self) -> bool:
        return any(total.rows("shadowed") for total in self.totals.values())
