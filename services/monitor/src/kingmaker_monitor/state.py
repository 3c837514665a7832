"""What the monitor holds in memory of one model: exactly what its state file says, or it is thrown away."""

from dataclasses import dataclass, field, fields
from typing import NamedTuple

from kingmaker_contracts.labels import Role
from kingmaker_contracts.plan import Plan
from kingmaker_monitor.accounts import Account
from kingmaker_monitor.aggregates import Aggregate


class Arm(NamedTuple):
    """One variant of one rollout, as events name it. version and schema are "" where an event only says that
    the split meant this variant; role: what it was then, "" likewise."""

    rollout: str
    variant: str
    version: str
    schema: str
    role: Role | str


class Producer(NamedTuple):
    """One life of a gateway on one stream."""

    partition: int
    id: str


@dataclass(slots=True)
class Tally:
    """Counts of one model that belong to no variant. See `kingmaker_contracts.evidence` for most.

    unusable: joined labels that are none of the model's classes; unlabelled: predictions whose time was up
    before a label came; late_ms: age of the newest event when it was read, -1 before the first.
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

    def as_dict(self) -> dict[str, int]:
        return {one.name: getattr(self, one.name) for one in fields(self)}


@dataclass(slots=True)
class ModelState:
    """number: the key of the model in the store; arms: their numbers; totals: by arm, since its rollout began;
    offsets: last entry read, by stream key; version: rises with every change."""

    number: int
    name: str
    plan: Plan | None = None
    arms: dict[Arm, int] = field(default_factory=dict)
    totals: dict[int, Aggregate] = field(default_factory=dict)
    accounts: dict[Producer, Account] = field(default_factory=dict)
    tally: Tally = field(default_factory=Tally)
    offsets: dict[str, bytes] = field(default_factory=dict)
    version: int = 0

    def arm(self, number: int) -> Arm:
        return next(arm for arm, found in self.arms.items() if found == number)

    @property
    def has_shadows(self) -> bool:
        return any(total.rows("shadowed") for total in self.totals.values())
