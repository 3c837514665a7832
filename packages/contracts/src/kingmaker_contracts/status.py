"""Status of a ServedModel: what the controller found and did. Written by the controller only.

The same JSON wherever it is kept: under `status` of the Kubernetes object, or in the local state
file. Field names are camelCase as Kubernetes has it.
"""

from typing import Literal

import msgspec

ConditionStatus = Literal["True", "False", "Unknown"]

CONDITIONS = ("Accepted", "ResolvedRefs", "Ready", "VariantsReady", "Programmed", "SpecCurrent")
"""Every condition the controller keeps, in the order it shows them.

Accepted: the resource was understood; ResolvedRefs: every model string leads to a version; Ready: the
champion serves; VariantsReady: every variant does, else why not; Programmed: the routing record is in Redis and
the gateways have it; SpecCurrent: spec.champion is who reigns.
"""


class Condition(msgspec.Struct, frozen=True, rename="camel"):
    type: str
    status: ConditionStatus
    reason: str
    message: str
    last_transition_time: str
    observed_generation: int


class ChampionStatus(msgspec.Struct, frozen=True, rename={"rollout_id": "rolloutID"}):
    """Who reigns. since: RFC 3339."""

    name: str
    version: str
    since: str
    rollout_id: str


class SpecChampion(msgspec.Struct, frozen=True):
    """The spec.champion that was last obeyed; only another one deposes by hand."""

    name: str
    model: str


class VariantStatus(msgspec.Struct, frozen=True, rename="camel"):
    """One variant as it runs. model: the string it was accepted with; version: pinned then, "" until resolved.

    phase: Pending, Fetching, Starting, Ready, Draining or Failed; message says why.
    """

    name: str
    model: str
    version: str
    phase: str
    sha256: str = ""
    profile: str | None = None
    message: str = ""


class RoutedWeight(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    weight: int
    mirror_percent: int


class RoutingStatus(msgspec.Struct, frozen=True, rename="camel"):
    """The routing record's durable copy: what a lost Redis is rebuilt from."""

    revision: int
    epoch: int
    champion_weight: int
    ranges: str
    variants: list[RoutedWeight]


class Summary(msgspec.Struct, frozen=True):
    """Strings for columns."""

    weights: str = ""
    step: str = ""


class Status(
    msgspec.Struct,
    frozen=True,
    rename={
        "rollout_id": "rolloutID",
        "observed_generation": "observedGeneration",
        "spec_champion": "specChampion",
        "accepted_spec": "acceptedSpec",
    },
):
    """All of it. phase is derived from the conditions, for people; message is the one sentence they want."""

    observed_generation: int = 0
    phase: str = "Pending"
    message: str = ""
    rollout_id: str = ""
    champion: ChampionStatus | None = None
    spec_champion: SpecChampion | None = None
    summary: Summary = Summary()
    routing: RoutingStatus | None = None
    variants: list[VariantStatus] = []
    conditions: list[Condition] = []
    accepted_spec: str = ""
    """On Kubernetes, JSON of the last spec that was accepted and its generation: what stays in force while a newer
    one is refused, also for a controller that starts then."""
