"""Status of a ServedModel: what the controller found and did. Written by the controller only.

The same JSON wherever it is kept: under `status` of the Kubernetes object, or in the local state
file. Field names are camelCase as Kubernetes has it; descriptions are what `kubectl explain` shows.
"""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

ConditionStatus = Literal["True", "False", "Unknown"]

CONDITIONS = ("Accepted", "ResolvedRefs", "Ready", "VariantsReady", "Programmed", "SpecCurrent")
"""Every condition the controller keeps, in the order it shows them.

Accepted: the resource was understood; ResolvedRefs: every model string leads to a version; Ready: the
champion serves; VariantsReady: every variant does, else why not; Programmed: the routing record is in Redis and
the gateways have it; SpecCurrent: spec.champion is who reigns.
"""


def _map_by(*keys: str) -> dict[str, object]:
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


_Name = Annotated[str, Meta(description="Name of the variant.")]
_Model = Annotated[str, Meta(description="The model string it was accepted with.")]
_Int64: Final = {"format": "int64"}
_Moment: Final = {"format": "date-time"}


class Condition(msgspec.Struct, frozen=True, rename="camel"):
    """One thing that is the case, is not, or is not known."""

    type: Annotated[str, Meta(description="Accepted, ResolvedRefs, Ready, Programmed or SpecCurrent.")]
    status: Annotated[ConditionStatus, Meta(description="Whether it is the case.")]
    reason: Annotated[str, Meta(description="Why, in one word for machines.")]
    message: Annotated[str, Meta(description="Why, for people.")]
    last_transition_time: Annotated[str, Meta(description="When status last changed.", extra_json_schema=_Moment)]
    observed_generation: Annotated[
        int, Meta(description="The metadata.generation this was found for.", extra_json_schema=_Int64)
    ]


class ChampionStatus(msgspec.Struct, frozen=True, rename={"rollout_id": "rolloutID"}):
    """Who reigns."""

    name: _Name
    version: Annotated[str, Meta(description="Its version in the registry.")]
    since: Annotated[str, Meta(description="When it came to reign.", extra_json_schema=_Moment)]
    rollout_id: Annotated[str, Meta(description="The rollout that brought it there.")]


class SpecChampion(msgspec.Struct, frozen=True):
    """The spec.champion that was last obeyed; only another one deposes by hand."""

    name: _Name
    model: _Model


class VariantStatus(msgspec.Struct, frozen=True, rename="camel"):
    """One variant as it runs. Names repeat while a variant whose model was changed drains beside the new one."""

    name: _Name
    model: _Model
    version: Annotated[str, Meta(description="The version it was pinned to then; empty until it is resolved.")]
    phase: Annotated[str, Meta(description="Pending, Fetching, Starting, Ready, Draining or Failed.")]
    sha256: Annotated[str, Meta(description="Of its ONNX file; empty until it is fetched.")] = ""
    profile: Annotated[str | None, Meta(description="sha256 of its profile; null when it has none.")] = None
    message: Annotated[str, Meta(description="Why it is in this phase.")] = ""


class RoutedWeight(msgspec.Struct, frozen=True, rename="camel"):
    """What one challenger gets."""

    name: _Name
    weight: Annotated[int, Meta(description="Live traffic, percent.")]
    mirror_percent: Annotated[int, Meta(description="Percent of the champion's requests copied to it.")]


class RoutingStatus(msgspec.Struct, frozen=True, rename="camel"):
    """The routing record's durable copy: what a lost Redis is rebuilt from."""

    revision: Annotated[int, Meta(description="Counts the records written.", extra_json_schema=_Int64)]
    epoch: Annotated[
        int, Meta(description="Counts the leaders; the record of an earlier one is void.", extra_json_schema=_Int64)
    ]
    champion_weight: Annotated[int, Meta(description="Live traffic of the champion, percent.")]
    ranges: Annotated[str, Meta(description="The buckets of each challenger, as gbm:0-499,nn:500-999.")]
    variants: Annotated[
        list[RoutedWeight],
        # server-side apply leaves null where the last item of a list was taken away
        Meta(description="What each challenger gets.", extra_json_schema={**_map_by("name"), "nullable": True}),
    ] = []


class Summary(msgspec.Struct, frozen=True):
    """Strings for columns."""

    weights: Annotated[
        str, Meta(description="Live traffic of every variant in percent, the champion first, as lr=80,gbm=20.")
    ] = ""
    step: Annotated[str, Meta(description="Step of an automatic rollout.")] = ""


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
    """What the controller found and did."""

    observed_generation: Annotated[
        int, Meta(description="The metadata.generation this status is about.", extra_json_schema=_Int64)
    ] = 0
    phase: Annotated[str, Meta(description="Derived from the conditions, for people.")] = "Pending"
    message: Annotated[str, Meta(description="The one sentence people want.")] = ""
    rollout_id: Annotated[str, Meta(description="The rollout that is on.")] = ""
    champion: Annotated[ChampionStatus | None, Meta(description="Who reigns.")] = None
    spec_champion: Annotated[
        SpecChampion | None,
        Meta(description="The spec.champion that was last obeyed; only another one deposes by hand."),
    ] = None
    summary: Annotated[Summary, Meta(description="Strings for columns.")] = Summary()
    routing: Annotated[RoutingStatus | None, Meta(description="The routing record's durable copy.")] = None
    variants: Annotated[
        list[VariantStatus],
        Meta(description="Every model version that runs or shall run.", extra_json_schema=_map_by("name", "model")),
    ] = []
    conditions: Annotated[
        list[Condition], Meta(description="Everything that is the case or is not.", extra_json_schema=_map_by("type"))
    ] = []
    accepted_spec: Annotated[
        str,
        Meta(description="JSON of the last spec that was accepted: what stays in force while a newer one is refused."),
    ] = ""
