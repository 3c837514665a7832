"""Metric label names and the closed sets of their values.

A label whose values are not bounded by a set here, or by the names in a ServedModel, is a mistake.
"""

from typing import Final, Literal

Role = Literal["champion", "challenger"]
Reason = Literal["weight", "sticky", "override", "fallback", "ineligible", "shadow"]
Mode = Literal["Shadow", "Canary", "ABTest", "BlueGreen"]

ROLES: Final[tuple[Role, ...]] = ("champion", "challenger")
REASONS: Final[tuple[Reason, ...]] = (
    "weight",
    "sticky",
    "override",
    "fallback",
    "ineligible",
    "shadow",
)
"""Why a variant answered. The position is the code in an event's `reason` column: append only."""

ASSIGNED_BY_SPLIT: Final[frozenset[Reason]] = frozenset({"weight", "sticky"})
"""Reasons whose rows are a fair comparison: chosen by the split and answered as chosen."""

NAMESPACE: Final = "namespace"
MODEL: Final = "model"
"""A model's name without its namespace, in every service: series of one model meet by it."""
VARIANT: Final = "variant"
ROLE: Final = "role"
REASON: Final = "reason"
CODE: Final = "code"
USE: Final = "use"
"""What a file of tokens lets clients do: predict or feedback."""
FEATURE: Final = "feature"
