"""ServedModel (kingmaker.dev/v1alpha1): the resource people write, from a file or kubectl.

One definition for both: field descriptions are what `kubectl explain` shows, the rules are a table
whose messages are the same wherever a resource is checked. Unknown fields are errors.
"""

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

API_VERSION: Final = "kingmaker.dev/v1alpha1"
KIND: Final = "ServedModel"
NAME_PATTERN: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"

Percent = Annotated[int, Field(ge=0, le=100, strict=True)]
VariantName = Annotated[str, Field(pattern=NAME_PATTERN, max_length=40)]
Decimal = Annotated[str, Field(pattern=r"^-?[0-9]*\.?[0-9]+$", max_length=20)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=False)


class Champion(_Part):
    """The variant that serves first. Who reigns now stands in status.champion."""

    name: VariantName = Field(description="Name of the variant: part of header x-variant, metrics and pod names.")
    model: str = Field(
        min_length=1,
        max_length=512,
        description="Model version: models:/NAME/VERSION or models:/NAME@ALIAS; locally also a path beside the file. "
        "An alias is resolved once, when this identity is accepted.",
    )
    replicas: Annotated[int, Field(ge=0, le=100, strict=True)] = Field(default=1, description="Model-server processes.")


class Challenger(_Part):
    """A variant that wants the crown."""

    name: VariantName = Field(description="Name of the variant; unique, and not the champion's.")
    model: str | None = Field(default=None, min_length=1, max_length=512, description="As the champion's model.")
    model_alias: str | None = Field(
        default=None,
        min_length=1,
        max_length=128,
        description="Follow an alias: every new version is a new challenger.",
    )
    replicas: Annotated[int, Field(ge=0, le=100, strict=True)] = Field(default=1, description="Model-server processes.")
    max_weight: Percent = Field(
        default=100, description="The most live traffic an automatic rollout may give it, percent."
    )
    mirror_percent: Percent | None = Field(
        default=None, description="Percent of the champion's requests copied to it. Copies never reach the client."
    )


class StickySpec(_Part):
    """What keeps a caller with one variant."""

    source: Literal["Header", "Feature", "PredictionId"] = Field(
        description="Header or Feature hash the named header or feature; PredictionId draws anew each time."
    )
    name: str | None = Field(default=None, max_length=128, description="The header or the feature.")
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
    approval: Literal["Required", "None"] = Field(default="None", description="Required: a person says when to go on.")


class Rollout(_Part):
    """How weights change."""

    strategy: Literal["Manual", "Automatic"] = Field(
        default="Manual",
        description="Manual: live weights follow spec.weights. Automatic: they follow steps and gates.",
    )
    on_promote: Literal["SwapChampion", "RouteOnly", "Notify"] = Field(
        default="SwapChampion", description="What a promotion changes."
    )
    on_inconclusive: Literal["Hold", "Rollback", "Promote"] = Field(
        default="Hold", description="What happens at maxDurationSeconds without a verdict."
    )
    max_duration_seconds: int | None = Field(default=None, ge=1, description="The longest a rollout may take.")
    holdback_seconds: int = Field(default=86400, ge=0, description="Keep the old champion warm this long.")
    steps: list[Step] = Field(default=[], max_length=20, description="The steps of an automatic rollout.")


class Analysis(_Part):
    """How evidence is judged."""

    alpha: Annotated[str, Field(pattern=r"^0?\.[0-9]+$", max_length=10)] = Field(
        default="0.05", description="Chance of a false alarm that is accepted, as a decimal string."
    )
    method: Literal["AnytimeValid", "FixedHorizon"] = Field(default="AnytimeValid", description="The kind of test.")
    unit: Literal["Request", "StickyKey"] = Field(default="Request", description="What counts as one observation.")


class Gate(_Part):
    """One condition of promotion."""

    name: str = Field(max_length=40, description="Unique name of the gate.")
    type: Literal["Superiority", "NonInferiority", "Absolute"] = Field(description="What is compared with what.")
    metric: Literal[
        "accuracy", "auc", "logLoss", "brier", "errorRate", "latencyP50", "latencyP95", "latencyP99",
        "agreement", "psiMax", "driftedShare",
    ] = Field(description="What is measured.")  # fmt: skip
    margin: Decimal | None = Field(default=None, description="How much worse is still fine.")
    relative_margin: Decimal | None = Field(default=None, description="The same as a share of the champion's value.")
    min: Decimal | None = Field(default=None, description="An Absolute gate's lower bound.")
    max: Decimal | None = Field(default=None, description="An Absolute gate's upper bound.")
    on_fail: Literal["Rollback", "Hold", "Ignore"] = Field(default="Rollback", description="What a failure does.")


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


class Spec(_Part):
    """What should be served."""

    champion: Champion = Field(description="The variant that serves first.")
    challengers: list[Challenger] = Field(default=[], max_length=8, description="The variants that want the crown.")
    weights: dict[str, Percent] = Field(
        default={},
        max_length=8,
        description="Live traffic of each challenger, percent. The champion gets what is left.",
    )
    mode: Literal["Shadow", "Canary", "ABTest", "BlueGreen"] = Field(
        default="Canary", description="How challengers meet traffic."
    )
    paused: bool = Field(default=False, strict=True, description="Freeze live weights as they are.")
    overrides: Literal["Denied", "Allowed"] = Field(
        default="Denied", description="Whether a client may name the variant it wants."
    )
    sticky: StickySpec | None = Field(default=None, description="What keeps a caller with one variant.")
    limits: LimitsSpec = Field(default=LimitsSpec(), description="Bounds of one request and of the model.")
    segments: list[Annotated[str, Field(min_length=1, max_length=128)]] = Field(
        default=[], max_length=4, description="Features of few values: the monitor keeps counts of each value as well."
    )
    rollout: Rollout = Field(default=Rollout(), description="How weights change.")
    analysis: Analysis | None = Field(default=None, description="How evidence is judged.")
    gates: list[Gate] = Field(default=[], max_length=16, description="Conditions of promotion.")


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


class Rule(NamedTuple):
    """A condition across fields. broken(spec) gives the paths, under spec, where it does not hold."""

    message: str
    broken: Callable[[Spec], list[str]]


def _names(spec: Spec) -> set[str]:
    return {challenger.name for challenger in spec.challengers}


def _at(path: str, is_broken: bool) -> list[str]:
    return [path] if is_broken else []


def _gates(spec: Spec, is_broken: Callable[[Gate], bool]) -> list[str]:
    return [f"gates[{i}]" for i, gate in enumerate(spec.gates) if is_broken(gate)]


def _rising(steps: list[Step]) -> bool:
    weights = [step.weight or 0 for step in steps]
    return weights == sorted(weights)


RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "a challenger cannot carry the champion's name",
        lambda s: [f"challengers[{i}].name" for i, c in enumerate(s.challengers) if c.name == s.champion.name],
    ),
    Rule(
        "two challengers carry this name",
        lambda s: [
            f"challengers[{i}].name"
            for i, c in enumerate(s.challengers)
            if c.name in {before.name for before in s.challengers[:i]}
        ],
    ),
    Rule(
        "challenger weights add up to more than 100; the champion gets what is left",
        lambda s: _at("weights", sum(s.weights.values()) > 100),
    ),
    Rule(
        "weights names something that is no challenger; the champion is never weighted, it gets what is left",
        lambda s: [f"weights.{name}" for name in s.weights if name not in _names(s)],
    ),
    Rule(
        "mode Shadow gives challengers no live traffic: leave weights out or 0",
        lambda s: _at("weights", s.mode == "Shadow" and any(s.weights.values())),
    ),
    Rule(
        "mode ABTest needs spec.sticky, so that a caller stays with one variant",
        lambda s: _at("sticky", s.mode == "ABTest" and s.sticky is None),
    ),
    Rule(
        "mode BlueGreen needs exactly one challenger",
        lambda s: _at("challengers", s.mode == "BlueGreen" and len(s.challengers) != 1),
    ),
    Rule(
        "a challenger needs exactly one of model and modelAlias",
        lambda s: [
            f"challengers[{i}]" for i, c in enumerate(s.challengers) if (c.model is None) == (c.model_alias is None)
        ],
    ),
    Rule(
        "sticky source Header and Feature need a name",
        lambda s: _at("sticky.name", s.sticky is not None and s.sticky.source != "PredictionId" and not s.sticky.name),
    ),
    Rule(
        "a feature stands twice in segments",
        lambda s: [f"segments[{i}]" for i, name in enumerate(s.segments) if name in s.segments[:i]],
    ),
    Rule("step weights must not fall", lambda s: _at("rollout.steps", not _rising(s.rollout.steps))),
    Rule(
        "a step has either weight or mirrorPercent",
        lambda s: [
            f"rollout.steps[{i}]"
            for i, step in enumerate(s.rollout.steps)
            if (step.weight is None) == (step.mirror_percent is None)
        ],
    ),
    Rule(
        "two gates carry this name",
        lambda s: [f"gates[{i}].name" for i, g in enumerate(s.gates) if g.name in {b.name for b in s.gates[:i]}],
    ),
    Rule(
        "a NonInferiority gate needs exactly one of margin and relativeMargin",
        lambda s: _gates(s, lambda g: g.type == "NonInferiority" and (g.margin is None) == (g.relative_margin is None)),
    ),
    Rule(
        "an Absolute gate needs min or max",
        lambda s: _gates(s, lambda g: g.type == "Absolute" and g.min is None and g.max is None),
    ),
)
"""Every rule across fields, with the words people read. Their CEL forms were tried on a real apiserver."""

NOT_YET: Final[tuple[Rule, ...]] = (
    Rule(
        "Automatic is not supported yet; use Manual", lambda s: _at("rollout.strategy", s.rollout.strategy != "Manual")
    ),
    Rule("steps are not supported yet", lambda s: _at("rollout.steps", bool(s.rollout.steps))),
    Rule("gates are not supported yet", lambda s: _at("gates", bool(s.gates))),
    Rule("analysis is not supported yet", lambda s: _at("analysis", s.analysis is not None)),
    Rule(
        "modelAlias is not supported yet; name the version or use model: models:/NAME@ALIAS",
        lambda s: [f"challengers[{i}].modelAlias" for i, c in enumerate(s.challengers) if c.model_alias is not None],
    ),
)
"""Parts of the schema nothing acts on yet. A resource that uses them is refused rather than half obeyed."""


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
