"""ServedModel (kingmaker.dev/v1alpha1): the resource people write, from a file or kubectl.

One definition for both: field descriptions are what `kubectl explain` shows, the rules (`rules`) are a table
whose messages are the same wherever a resource is checked, and `crd` makes the cluster's schema of all of it.
Unknown fields are errors.
"""

from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict

from kingmaker_contracts.plan import PARKED_SECONDS, PENDING_SECONDS
from kingmaker_contracts.rules import NOT_YET, RULES

API_VERSION: Final = "kingmaker.dev/v1alpha1"
KIND: Final = "ServedModel"
NAME_PATTERN: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"

Percent = Annotated[int, Field(ge=0, le=100, strict=True)]
VariantName = Annotated[str, Field(pattern=NAME_PATTERN, max_length=40)]
_BY_NAME: Final[JsonDict] = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
Decimal = Annotated[str, Field(pattern=r"^-?[0-9]*\.?[0-9]+$", max_length=20)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=False)


class Resources(_Part):
    """What one model-server pod gets on Kubernetes: requests and limits at once. Child processes have no limits."""

    cpu: Annotated[str, Field(pattern=r"^([0-9]+m|[0-9]+(\.[0-9]{1,3})?)$", max_length=16)] = Field(
        default="1", description="CPU of one pod, as 500m or 2. A model server runs one thread for each whole core."
    )
    memory: Annotated[str, Field(pattern=r"^[0-9]+(Ki|Mi|Gi|k|M|G)?$", max_length=16)] = Field(
        default="512Mi", description="Memory of one pod, as 512Mi or 2Gi."
    )


class Autoscaling(_Part):
    """A HorizontalPodAutoscaler from replicas up to maxReplicas, on Kubernetes."""

    max_replicas: Annotated[int, Field(ge=1, le=100, strict=True)] = Field(description="The most pods there may be.")
    target_cpu_percent: Annotated[int, Field(ge=1, le=100, strict=True)] = Field(
        default=70, description="More pods are started when they use more of their CPU than this, on average."
    )


class _Pods(_Part):
    """What every variant says of its pods."""

    replicas: Annotated[int, Field(ge=0, le=100, strict=True)] = Field(default=1, description="Model-server processes.")
    resources: Resources = Field(default=Resources(), description="What one pod gets on Kubernetes.")
    autoscaling: Autoscaling | None = Field(
        default=None, description="Let Kubernetes choose the number of pods, replicas being the fewest."
    )
    priority_class_name: str | None = Field(
        default=None, min_length=1, max_length=253, description="PriorityClass of the pods on Kubernetes."
    )


class Champion(_Pods):
    """The variant that serves first. Who reigns now stands in status.champion."""

    name: VariantName = Field(description="Name of the variant: part of header x-variant, metrics and pod names.")
    model: str = Field(
        min_length=1,
        max_length=512,
        description="Model version: models:/NAME/VERSION or models:/NAME@ALIAS; locally also a path beside the "
        "file. An alias is resolved once, when this identity is accepted.",
    )


class Challenger(_Pods):
    """A variant that wants the crown."""

    name: VariantName = Field(description="Name of the variant; unique, and not the champion's.")
    model: str | None = Field(default=None, min_length=1, max_length=512, description="As the champion's model.")
    model_alias: str | None = Field(
        default=None,
        min_length=1,
        max_length=128,
        description="Follow an alias: every new version is a new challenger.",
    )
    max_weight: Percent = Field(
        default=100, description="The most live traffic an automatic rollout may give it, percent."
    )
    mirror_percent: Percent | None = Field(
        default=None,
        description="Percent of the champion's requests copied to it. Answers to copies never reach the client.",
    )


class StickySpec(_Part):
    """What keeps a caller with one variant."""

    source: Literal["Header", "Feature", "PredictionId"] = Field(
        description="Header: the value of the header `name`. Feature: the value of the feature `name` in the first "
        "row. PredictionId: nothing; every request is drawn anew. A caller without the header or feature is drawn "
        "anew too."
    )
    name: str | None = Field(default=None, min_length=1, max_length=128, description="Which header or which feature.")
    salt: str | None = Field(
        default=None, max_length=64, description="Changing it shuffles every caller. Default: namespace/name."
    )


class Step(_Part):
    """One step of an automatic rollout."""

    weight: Percent | None = Field(default=None, description="Live traffic of the challenger, percent.")
    mirror_percent: Percent | None = Field(default=None, description="Share of the champion's requests copied to it.")
    min_duration_seconds: int | None = Field(default=None, ge=0, description="Stay at least this long.")
    min_samples: int | None = Field(
        default=None, ge=0, description="Stay until the challenger has answered this often."
    )
    approval: Literal["Required", "None"] = Field(
        default="None", description="Required: it stays until a person says to go on. None: it goes on by itself."
    )


class Rollout(_Part):
    """How weights change."""

    strategy: Literal["Manual", "Automatic"] = Field(
        default="Manual",
        description="Manual: live weights follow spec.weights. Automatic: they follow steps and gates (not "
        "supported yet).",
    )
    on_promote: Literal["SwapChampion", "RouteOnly", "Notify"] = Field(
        default="SwapChampion",
        description="What a promotion does. SwapChampion: the challenger reigns, and the registry's alias champion "
        "moves to it. RouteOnly: it reigns, the registry stays. Notify: nothing changes, an event says who won.",
    )
    on_inconclusive: Literal["Hold", "Rollback", "Promote"] = Field(
        default="Hold",
        description="What happens at maxDurationSeconds without a verdict. Hold: weights stay as they are and an "
        "event asks a person. Rollback: challengers get nothing. Promote: the challenger reigns.",
    )
    max_duration_seconds: int | None = Field(
        default=None, ge=1, description="The longest a rollout may take; then onInconclusive decides."
    )
    holdback_seconds: int = Field(
        default=86400,
        ge=0,
        description="Keep the old champion warm this long after a promotion, for an instant way back.",
    )
    steps: list[Step] = Field(
        default=[],
        max_length=20,
        description="The steps of an automatic rollout, in order; their weights never fall.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )


class Analysis(_Part):
    """How evidence is judged."""

    alpha: Annotated[str, Field(pattern=r"^0?\.[0-9]+$", max_length=10)] = Field(
        default="0.05", description="Chance of a false alarm that is accepted, as a decimal string."
    )
    method: Literal["AnytimeValid", "FixedHorizon"] = Field(
        default="AnytimeValid",
        description="AnytimeValid: may be looked at all the time and decide early. FixedHorizon: decides once, at "
        "its end.",
    )
    unit: Literal["Request", "StickyKey"] = Field(
        default="Request",
        description="What counts as one observation. Request: each prediction. StickyKey: all predictions of one "
        "caller together.",
    )


class Gate(_Part):
    """One condition of promotion."""

    name: str = Field(max_length=40, description="Unique name of the gate.")
    type: Literal["Superiority", "NonInferiority", "Absolute"] = Field(
        description="Superiority: the challenger is better than the champion. NonInferiority: it is at most margin "
        "worse. Absolute: its own value lies between min and max."
    )
    metric: Literal[
        "accuracy", "auc", "logLoss", "brier", "errorRate", "latencyP50", "latencyP95", "latencyP99",
        "agreement", "psiMax", "driftedShare",
    ] = Field(description="What is measured.")  # fmt: skip
    margin: Decimal | None = Field(
        default=None, description="How much worse is still fine, in the metric's unit, as a decimal string."
    )
    relative_margin: Decimal | None = Field(
        default=None, description="The same as a share of the champion's value: 0.10 is 10 %."
    )
    min: Decimal | None = Field(default=None, description="An Absolute gate's lower bound.")
    max: Decimal | None = Field(default=None, description="An Absolute gate's upper bound.")
    on_fail: Literal["Rollback", "Hold", "Ignore"] = Field(
        default="Rollback",
        description="What a failure does. Rollback: challengers get nothing. Hold: weights stay. Ignore: it is "
        "only shown.",
    )


class LimitsSpec(_Part):
    """Bounds of one request and of the model at one gateway."""

    deadline_milliseconds: Annotated[int, Field(ge=1, le=600_000, strict=True)] = Field(
        default=1000, description="A request is answered or refused (504) by then."
    )
    max_body_bytes: Annotated[int, Field(ge=1, le=1 << 30, strict=True)] = Field(
        default=4 * 1024 * 1024, description="A larger request body is refused (413)."
    )
    max_in_flight: Annotated[int, Field(ge=1, le=100_000, strict=True)] = Field(
        default=512, description="Requests at one gateway at once; one more is refused (429)."
    )
    max_frame_rows: Annotated[int, Field(ge=1, le=65536, strict=True)] = Field(
        default=256, description="Rows sent to a model server in one call; larger requests travel in several."
    )


class FeedbackSpec(_Part):
    """What is kept for labels that come later."""

    # at least as long as a label waits for its prediction; at most three years
    wait_seconds: Annotated[int, Field(ge=PARKED_SECONDS, le=3 * 365 * 86400, strict=True)] = Field(
        default=PENDING_SECONDS,
        description="How long a prediction is kept for its label: 15 minutes to 3 years. A label that comes later is "
        "counted as expired. A shorter time forgets at once what is older; a longer one holds for what is still kept. "
        "A prediction takes about 80 bytes of the monitor's volume.",
    )


class Spec(_Part):
    """What should be served."""

    champion: Champion = Field(description="The variant that serves first.")
    challengers: list[Challenger] = Field(
        default=[],
        max_length=8,
        description="The variants that want the crown, each with a name of its own.",
        json_schema_extra=_BY_NAME,
    )
    weights: dict[str, Percent] = Field(
        default={},
        max_length=8,
        description="Live traffic of each challenger, percent. The champion gets what is left.",
    )
    mode: Literal["Shadow", "Canary", "ABTest", "BlueGreen"] = Field(
        default="Canary",
        description="How challengers meet traffic. Shadow: only copies. Canary: a growing share. ABTest: a fixed "
        "share of callers, each staying with one variant. BlueGreen: one challenger, nothing or everything.",
    )
    paused: bool = Field(default=False, strict=True, description="Freeze live weights as they are.")
    overrides: Literal["Denied", "Allowed"] = Field(
        default="Denied",
        description="Whether a client may name the variant it wants, by header x-kingmaker-variant or in the path. "
        "Denied: such a request is answered 403.",
    )
    sticky: StickySpec | None = Field(default=None, description="What keeps a caller with one variant.")
    limits: LimitsSpec = Field(default=LimitsSpec(), description="Bounds of one request and of the model.")
    segments: list[Annotated[str, Field(min_length=1, max_length=128)]] = Field(
        default=[],
        max_length=4,
        description="Features of few values: the monitor keeps counts of each value as well.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    sensitive: list[Annotated[str, Field(min_length=1, max_length=128)]] = Field(
        default=[],
        max_length=64,
        description="Features, or columns of a block as block[3], whose values gateways record nowhere: no drift is "
        "measured of them.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    feedback: FeedbackSpec = Field(default=FeedbackSpec(), description="What is kept for labels that come later.")
    rollout: Rollout = Field(default=Rollout(), description="How weights change.")
    analysis: Analysis | None = Field(default=None, description="How evidence is judged.")
    gates: list[Gate] = Field(
        default=[], max_length=16, description="Conditions of promotion.", json_schema_extra=_BY_NAME
    )


class Metadata(BaseModel):
    """What Kubernetes keeps about every object; only name and namespace mean something here."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: Annotated[str, Field(pattern=NAME_PATTERN, max_length=63)]
    namespace: Annotated[str, Field(pattern=NAME_PATTERN, max_length=63)] = "default"


class ServedModel(BaseModel):
    """The resource as people write it; the status is kept apart (see `status`)."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)
    api_version: Literal["kingmaker.dev/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["ServedModel"]
    metadata: Metadata
    spec: Spec


class Fault(NamedTuple):
    """One thing wrong with a resource. path as people write it: spec.challengers[1].name."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class InvalidResource(ValueError):
    """A resource that breaks its schema or a rule; `faults` lists everything that is wrong."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


def parse(data: Any) -> ServedModel:
    """A resource from plain data, as YAML or JSON gives it. Raises InvalidResource with every fault found.

    As on an apiserver, rules are only checked once every field has its type.
    """
    if isinstance(data, dict):
        data = {key: value for key, value in data.items() if key != "status"}
    try:
        resource = ServedModel.model_validate(data)
    except ValidationError as error:
        raise InvalidResource([_fault(e) for e in error.errors(include_url=False)]) from None
    faults = [Fault(f"spec.{path}", rule.message) for rule in (*RULES, *NOT_YET) for path in rule.broken(resource.spec)]
    if faults:
        raise InvalidResource(faults)
    return resource


def _fault(error: Any) -> Fault:
    path = ""
    for part in error["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    kind, message = error["type"], error["msg"]
    if kind == "extra_forbidden":
        return Fault(path, "unknown field")
    if kind == "missing":
        return Fault(path, "required, but missing")
    found = error.get("input")
    shown = "" if isinstance(found, dict | list) else f", found {found!r}"
    message = message.removeprefix("Input ")
    return Fault(path or "the resource", message[0].lower() + message[1:] + shown)
