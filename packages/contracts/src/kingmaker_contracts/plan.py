"""The plan: all the monitor knows of a resource. Written by the controller beside the routing record."""

from typing import Final, Literal

import msgspec

from kingmaker_contracts.labels import Role


class PlannedVariant(msgspec.Struct, frozen=True):
    name: str
    role: Role
    version: str
    profile: str | None


PENDING_SECONDS: Final = 30 * 86400
"""How long a prediction waits for its label, unless the resource says otherwise."""
PARKED_SECONDS: Final = 15 * 60


class Retention(msgspec.Struct, frozen=True):
    """How long the monitor waits for a label, and keeps a label that came before its prediction."""

    pending_seconds: int = PENDING_SECONDS
    parked_seconds: int = PARKED_SECONDS


class Plan(msgspec.Struct, frozen=True):
    """What to measure. rollout_id names the set of variants: evidence of another rollout is another story.
    segments: features of few values; counts are kept for each value as well; sensitive: features that gateways do not
    record."""

    namespace: str
    name: str
    revision: int
    epoch: int
    rollout_id: str
    variants: list[PlannedVariant]
    step: int = 0
    segments: list[str] = []
    sensitive: list[str] = []
    retention: Retention = Retention()
    v: Literal[1] = 1
