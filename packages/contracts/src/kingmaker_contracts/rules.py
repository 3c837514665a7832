"""Conditions across a resource's fields, each with the words people read, in Python and in CEL.

Python checks a file before anything starts; CEL lets an apiserver refuse the same resource with the same words.
A CEL rule has a fixed message: one made of map keys, whose length nothing bounds, costs 100 times the budget.
`tests/deploy` runs both over one table.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from kingmaker_contracts.served_model import Challenger, Champion, Gate, Spec, Step


class Cel(NamedTuple):
    """A rule as an apiserver checks it.

    rule: true when the condition holds; at: the parts of spec that are `self`, "" for spec, `[]` for each item;
    field: what is wrong, below `at`, so that the message starts with it.
    """

    rule: str
    at: str | tuple[str, ...] = ""
    field: str = ""

    @property
    def places(self) -> tuple[str, ...]:
        return (self.at,) if isinstance(self.at, str) else self.at


class Rule(NamedTuple):
    """A condition across fields. broken(spec) gives the paths, under spec, where it does not hold.

    cel: None where the schema itself says it (a list that is a map refuses a second item of one key).
    """

    message: str
    broken: "Callable[[Spec], list[str]]"
    cel: Cel | None


def _names(spec: "Spec") -> set[str]:
    return {challenger.name for challenger in spec.challengers}


def _at(path: str, is_broken: bool) -> list[str]:
    return [path] if is_broken else []


def _gates(spec: "Spec", is_broken: "Callable[[Gate], bool]") -> list[str]:
    return [f"gates[{i}]" for i, gate in enumerate(spec.gates) if is_broken(gate)]


def _is_out_of_reach(pods: "Champion | Challenger") -> bool:
    scaling = pods.autoscaling
    return scaling is not None and not 1 <= pods.replicas <= scaling.max_replicas


def _rising(steps: "list[Step]") -> bool:
    weights = [step.weight or 0 for step in steps]
    return weights == sorted(weights)


RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "a challenger cannot carry the champion's name",
        lambda s: [f"challengers[{i}].name" for i, c in enumerate(s.challengers) if c.name == s.champion.name],
        Cel("!has(self.challengers) || self.challengers.all(c, c.name != self.champion.name)", field=".challengers"),
    ),
    Rule(
        "two challengers carry this name",
        lambda s: [
            f"challengers[{i}].name"
            for i, c in enumerate(s.challengers)
            if c.name in {before.name for before in s.challengers[:i]}
        ],
        None,
    ),
    Rule(
        "challenger weights add up to more than 100; the champion gets what is left",
        lambda s: _at("weights", sum(s.weights.values()) > 100),
        Cel("!has(self.weights) || self.weights.map(n, self.weights[n]).sum() <= 100", field=".weights"),
    ),
    Rule(
        "weights names something that is no challenger; the champion is never weighted, it gets what is left",
        lambda s: [f"weights.{name}" for name in s.weights if name not in _names(s)],
        Cel(
            "!has(self.weights) || self.weights.all(n, "
            "has(self.challengers) && self.challengers.exists(c, c.name == n))",
            field=".weights",
        ),
    ),
    Rule(
        "mode Shadow gives challengers no live traffic: leave weights out or 0",
        lambda s: _at("weights", s.mode == "Shadow" and any(s.weights.values())),
        Cel(
            "self.mode != 'Shadow' || !has(self.weights) || self.weights.all(n, self.weights[n] == 0)", field=".weights"
        ),
    ),
    Rule(
        "mode ABTest needs spec.sticky, so that a caller stays with one variant",
        lambda s: _at("sticky", s.mode == "ABTest" and s.sticky is None),
        Cel("self.mode != 'ABTest' || has(self.sticky)", field=".sticky"),
    ),
    Rule(
        "mode BlueGreen needs exactly one challenger",
        lambda s: _at("challengers", s.mode == "BlueGreen" and len(s.challengers) != 1),
        Cel("self.mode != 'BlueGreen' || (has(self.challengers) && size(self.challengers) == 1)", field=".challengers"),
    ),
    Rule(
        "a challenger needs exactly one of model and modelAlias",
        lambda s: [
            f"challengers[{i}]" for i, c in enumerate(s.challengers) if (c.model is None) == (c.model_alias is None)
        ],
        Cel("has(self.model) != has(self.modelAlias)", at="challengers[]"),
    ),
    Rule(
        "autoscaling starts from replicas: 1 or more, and no more than maxReplicas",
        lambda s: [
            *_at("champion.autoscaling", _is_out_of_reach(s.champion)),
            *[f"challengers[{i}].autoscaling" for i, c in enumerate(s.challengers) if _is_out_of_reach(c)],
        ],
        Cel(
            "!has(self.autoscaling) || (self.replicas >= 1 && self.replicas <= self.autoscaling.maxReplicas)",
            at=("champion", "challengers[]"),
            field=".autoscaling",
        ),
    ),
    Rule(
        "sticky source Header and Feature need a name",
        lambda s: _at("sticky.name", s.sticky is not None and s.sticky.source != "PredictionId" and not s.sticky.name),
        Cel("self.source == 'PredictionId' || has(self.name)", at="sticky", field=".name"),
    ),
    Rule(
        "a feature stands twice in segments",
        lambda s: [f"segments[{i}]" for i, name in enumerate(s.segments) if name in s.segments[:i]],
        None,
    ),
    Rule(
        "a feature stands twice in sensitive",
        lambda s: [f"sensitive[{i}]" for i, name in enumerate(s.sensitive) if name in s.sensitive[:i]],
        None,
    ),
    Rule(
        "a sensitive feature cannot be a segment: its values are not recorded",
        lambda s: [
            f"segments[{i}]"
            for i, name in enumerate(s.segments)
            if any(name == hidden or name.startswith(f"{hidden}[") for hidden in s.sensitive)
        ],
        Cel(
            "!has(self.segments) || !has(self.sensitive) ||"
            " self.segments.all(n, !self.sensitive.exists(s, n == s || n.startsWith(s + '[')))",
            field=".segments",
        ),
    ),
    Rule(
        "step weights must not fall",
        lambda s: _at("rollout.steps", not _rising(s.rollout.steps)),
        Cel("self.map(s, has(s.weight) ? s.weight : 0).isSorted()", at="rollout.steps"),
    ),
    Rule(
        "a step has either weight or mirrorPercent",
        lambda s: [
            f"rollout.steps[{i}]"
            for i, step in enumerate(s.rollout.steps)
            if (step.weight is None) == (step.mirror_percent is None)
        ],
        Cel("has(self.weight) != has(self.mirrorPercent)", at="rollout.steps[]"),
    ),
    Rule(
        "two gates carry this name",
        lambda s: [f"gates[{i}].name" for i, g in enumerate(s.gates) if g.name in {b.name for b in s.gates[:i]}],
        None,
    ),
    Rule(
        "a NonInferiority gate needs exactly one of margin and relativeMargin",
        lambda s: _gates(s, lambda g: g.type == "NonInferiority" and (g.margin is None) == (g.relative_margin is None)),
        Cel("self.type != 'NonInferiority' || has(self.margin) != has(self.relativeMargin)", at="gates[]"),
    ),
    Rule(
        "an Absolute gate needs min or max",
        lambda s: _gates(s, lambda g: g.type == "Absolute" and g.min is None and g.max is None),
        Cel("self.type != 'Absolute' || has(self.min) || has(self.max)", at="gates[]"),
    ),
)
"""Every rule across fields. The costly CEL forms, those over weights and names, were tried on a real apiserver."""

NOT_YET: Final[tuple[Rule, ...]] = (
    Rule(
        "Automatic is not supported yet; use Manual",
        lambda s: _at("rollout.strategy", s.rollout.strategy != "Manual"),
        Cel("self.strategy != 'Automatic'", at="rollout", field=".strategy"),
    ),
    Rule(
        "steps are not supported yet",
        lambda s: _at("rollout.steps", bool(s.rollout.steps)),
        Cel("size(self) == 0", at="rollout.steps"),
    ),
    Rule(
        "gates are not supported yet",
        lambda s: _at("gates", bool(s.gates)),
        Cel("size(self) == 0", at="gates"),
    ),
    Rule(
        "analysis is not supported yet",
        lambda s: _at("analysis", s.analysis is not None),
        Cel("!has(self.analysis)", field=".analysis"),
    ),
    Rule(
        "modelAlias is not supported yet; name the version or use model: models:/NAME@ALIAS",
        lambda s: [f"challengers[{i}].modelAlias" for i, c in enumerate(s.challengers) if c.model_alias is not None],
        Cel("!has(self.modelAlias)", at="challengers[]", field=".modelAlias"),
    ),
)
"""Parts of the schema nothing acts on yet. A resource that uses them is refused rather than half obeyed."""
