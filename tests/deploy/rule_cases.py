"""For each rule of a ServedModel: specs that keep it and specs that break it, with the path Python names.

One table for both checkers. A good case keeps the rule it stands under; it may break another.
"""

from typing import Any, NamedTuple

LR = {"name": "lr", "model": "models:/flights@champion"}
GBM = {"name": "gbm", "model": "models:/flights@challenger"}
NN = {"name": "nn", "model": "models:/flights/3"}
MIN = {"name": "q", "type": "Absolute", "metric": "auc", "min": "0.9"}
NO_WORSE = {"name": "e", "type": "NonInferiority", "metric": "errorRate"}
BETTER = {"name": "s", "type": "Superiority", "metric": "accuracy"}

Spec = dict[str, Any]


class Case(NamedTuple):
    """good: specs that keep the rule; bad: specs that break it, with every path where."""

    good: list[Spec]
    bad: list[tuple[Spec, list[str]]]


CASES: dict[str, Case] = {
    "a challenger cannot carry the champion's name": Case(
        [{}, {"challengers": [GBM]}, {"challengers": [GBM, NN]}],
        [
            ({"challengers": [{**GBM, "name": "lr"}]}, ["challengers[0].name"]),
            ({"challengers": [GBM, {**NN, "name": "lr"}]}, ["challengers[1].name"]),
        ],
    ),
    "two challengers carry this name": Case(
        [{"challengers": []}, {"challengers": [GBM, NN]}],
        [
            ({"challengers": [GBM, GBM]}, ["challengers[1].name"]),
            ({"challengers": [GBM, NN, {**GBM, "model": "models:/flights/9"}]}, ["challengers[2].name"]),
        ],
    ),
    "challenger weights add up to more than 100; the champion gets what is left": Case(
        [{}, {"weights": {}}, {"challengers": [GBM, NN], "weights": {"gbm": 60, "nn": 40}}],
        [
            ({"challengers": [GBM, NN], "weights": {"gbm": 90, "nn": 11}}, ["weights"]),
            ({"challengers": [GBM, NN], "weights": {"gbm": 100, "nn": 100}}, ["weights"]),
        ],
    ),
    "weights names something that is no challenger; the champion is never weighted, it gets what is left": Case(
        [{"challengers": [GBM], "weights": {"gbm": 0}}, {"challengers": [GBM, NN], "weights": {"nn": 5}}],
        [
            ({"challengers": [GBM], "weights": {"lr": 5}}, ["weights.lr"]),
            ({"challengers": [GBM], "weights": {"gmb": 5, "gbm": 1}}, ["weights.gmb"]),
            ({"weights": {"gbm": 5}}, ["weights.gbm"]),
            ({"challengers": [], "weights": {"gbm": 0}}, ["weights.gbm"]),
        ],
    ),
    "mode Shadow gives challengers no live traffic: leave weights out or 0": Case(
        [
            {"mode": "Shadow"},
            {"mode": "Shadow", "challengers": [GBM], "weights": {"gbm": 0}},
            {"mode": "Canary", "challengers": [GBM], "weights": {"gbm": 1}},
        ],
        [
            ({"mode": "Shadow", "challengers": [GBM], "weights": {"gbm": 1}}, ["weights"]),
            ({"mode": "Shadow", "challengers": [GBM, NN], "weights": {"gbm": 0, "nn": 100}}, ["weights"]),
        ],
    ),
    "mode ABTest needs spec.sticky, so that a caller stays with one variant": Case(
        [{"mode": "ABTest", "sticky": {"source": "Header", "name": "x-user"}}, {"mode": "Canary"}],
        [({"mode": "ABTest"}, ["sticky"])],
    ),
    "mode BlueGreen needs exactly one challenger": Case(
        [{"mode": "BlueGreen", "challengers": [GBM]}, {"mode": "Canary"}],
        [
            ({"mode": "BlueGreen"}, ["challengers"]),
            ({"mode": "BlueGreen", "challengers": []}, ["challengers"]),
            ({"mode": "BlueGreen", "challengers": [GBM, NN]}, ["challengers"]),
        ],
    ),
    "a challenger needs exactly one of model and modelAlias": Case(
        [{"challengers": [GBM]}, {"challengers": [{"name": "gbm", "modelAlias": "challenger"}]}],
        [
            ({"challengers": [{"name": "gbm"}]}, ["challengers[0]"]),
            ({"challengers": [NN, {**GBM, "modelAlias": "challenger"}]}, ["challengers[1]"]),
        ],
    ),
    "autoscaling starts from replicas: 1 or more, and no more than maxReplicas": Case(
        [
            {},
            {"champion": {**LR, "replicas": 0}},
            {"champion": {**LR, "replicas": 2, "autoscaling": {"maxReplicas": 2}}},
            {"challengers": [{**GBM, "autoscaling": {"maxReplicas": 9}}]},
        ],
        [
            ({"champion": {**LR, "replicas": 0, "autoscaling": {"maxReplicas": 2}}}, ["champion.autoscaling"]),
            ({"champion": {**LR, "replicas": 3, "autoscaling": {"maxReplicas": 2}}}, ["champion.autoscaling"]),
            (
                {"challengers": [NN, {**GBM, "replicas": 9, "autoscaling": {"maxReplicas": 2}}]},
                ["challengers[1].autoscaling"],
            ),
        ],
    ),
    "sticky source Header and Feature need a name": Case(
        [
            {"sticky": {"source": "PredictionId"}},
            {"sticky": {"source": "Header", "name": "x-user"}},
            {"sticky": {"source": "Feature", "name": "carrier"}},
        ],
        [
            ({"sticky": {"source": "Header"}}, ["sticky.name"]),
            ({"sticky": {"source": "Feature", "salt": "a"}}, ["sticky.name"]),
        ],
    ),
    "a feature stands twice in segments": Case(
        [{"segments": []}, {"segments": ["carrier", "origin"]}],
        [({"segments": ["carrier", "origin", "carrier"]}, ["segments[2]"])],
    ),
    "a feature stands twice in sensitive": Case(
        [{"sensitive": []}, {"sensitive": ["age", "income"]}],
        [({"sensitive": ["age", "income", "age"]}, ["sensitive[2]"])],
    ),
    "a sensitive feature cannot be a segment: its values are not recorded": Case(
        [
            {"segments": ["carrier"], "sensitive": ["age"]},
            {"segments": ["carrier"]},
            {"sensitive": ["age"]},
            {"segments": ["scan[1]", "scanner"], "sensitive": ["scan[2]", "scan_no"]},
        ],
        [
            ({"segments": ["origin", "carrier"], "sensitive": ["age", "carrier"]}, ["segments[1]"]),
            ({"segments": ["scan[1]"], "sensitive": ["scan"]}, ["segments[0]"]),
        ],
    ),
    "step weights must not fall": Case(
        [
            {"rollout": {"steps": []}},
            {"rollout": {"steps": [{"mirrorPercent": 100}, {"weight": 5}, {"weight": 5}, {"weight": 50}]}},
        ],
        [
            ({"rollout": {"steps": [{"weight": 5}, {"weight": 3}]}}, ["rollout.steps"]),
            ({"rollout": {"steps": [{"weight": 5}, {"mirrorPercent": 9}]}}, ["rollout.steps"]),
        ],
    ),
    "a step has either weight or mirrorPercent": Case(
        [{"rollout": {"steps": [{"weight": 0}, {"mirrorPercent": 0}]}}],
        [
            ({"rollout": {"steps": [{"weight": 5, "mirrorPercent": 5}]}}, ["rollout.steps[0]"]),
            ({"rollout": {"steps": [{"weight": 5}, {"minSamples": 5}]}}, ["rollout.steps[1]"]),
        ],
    ),
    "two gates carry this name": Case(
        [{"gates": [MIN, BETTER]}],
        [({"gates": [MIN, BETTER, {**NO_WORSE, "name": "q", "margin": "0.1"}]}, ["gates[2].name"])],
    ),
    "a NonInferiority gate needs exactly one of margin and relativeMargin": Case(
        [{"gates": [{**NO_WORSE, "margin": "0.002"}]}, {"gates": [{**NO_WORSE, "relativeMargin": "0.1"}, BETTER]}],
        [
            ({"gates": [NO_WORSE]}, ["gates[0]"]),
            ({"gates": [MIN, {**NO_WORSE, "margin": "1", "relativeMargin": "1"}]}, ["gates[1]"]),
        ],
    ),
    "an Absolute gate needs min or max": Case(
        [{"gates": [MIN]}, {"gates": [{**MIN, "max": "1"}]}, {"gates": [BETTER]}],
        [({"gates": [{"name": "q", "type": "Absolute", "metric": "auc"}]}, ["gates[0]"])],
    ),
    "Automatic is not supported yet; use Manual": Case(
        [{}, {"rollout": {}}, {"rollout": {"strategy": "Manual"}}],
        [({"rollout": {"strategy": "Automatic"}}, ["rollout.strategy"])],
    ),
    "steps are not supported yet": Case(
        [{"rollout": {"steps": []}}], [({"rollout": {"steps": [{"weight": 5}]}}, ["rollout.steps"])]
    ),
    "gates are not supported yet": Case([{"gates": []}], [({"gates": [BETTER]}, ["gates"])]),
    "analysis is not supported yet": Case([{}], [({"analysis": {}}, ["analysis"])]),
    "modelAlias is not supported yet; name the version or use model: models:/NAME@ALIAS": Case(
        [{"challengers": [GBM]}],
        [({"challengers": [GBM, {"name": "nn", "modelAlias": "next"}]}, ["challengers[1].modelAlias"])],
    ),
}

UNFIT: list[tuple[Spec, str]] = [
    ({"challengers": [GBM], "weights": {"gbm": -1}}, "spec.weights.gbm"),
    ({"challengers": [GBM], "weights": {"gbm": 101}}, "spec.weights.gbm"),
    ({"challengers": [GBM], "weights": {"gbm": 5.5}}, "spec.weights.gbm"),
    ({"challengers": [GBM], "weights": {"gbm": "7"}}, "spec.weights.gbm"),
    ({"challengers": [GBM], "weights": {"gbm": True}}, "spec.weights.gbm"),
    ({"weights": {f"c{i}": 1 for i in range(9)}}, "spec.weights"),
    ({"weights": [5]}, "spec.weights"),
    ({"challengers": [{**GBM, "name": f"c{i}"} for i in range(9)]}, "spec.challengers"),
    ({"challengers": {"gbm": GBM}}, "spec.challengers"),
    ({"challengers": [{"model": "models:/a/1"}]}, "spec.challengers[0].name"),
    ({"champion": {"name": "lr"}}, "spec.champion.model"),
    ({"champion": {**LR, "name": "L_R"}}, "spec.champion.name"),
    ({"champion": {**LR, "name": "x" * 41}}, "spec.champion.name"),
    ({"champion": {**LR, "model": ""}}, "spec.champion.model"),
    ({"champion": {**LR, "replicas": 1.5}}, "spec.champion.replicas"),
    ({"mode": "canary"}, "spec.mode"),
    ({"paused": "yes"}, "spec.paused"),
    ({"sticky": {"source": "Header", "name": ""}}, "spec.sticky.name"),
    ({"sticky": {"name": "x-user"}}, "spec.sticky.source"),
    ({"limits": {"deadlineMilliseconds": 0}}, "spec.limits.deadlineMilliseconds"),
    ({"feedback": {"waitSeconds": 899}}, "spec.feedback.waitSeconds"),
    ({"feedback": {"waitSeconds": 94_608_001}}, "spec.feedback.waitSeconds"),
    ({"feedback": {"waitSeconds": "7d"}}, "spec.feedback.waitSeconds"),
    ({"feedback": []}, "spec.feedback"),
    ({"gates": [{**MIN, "metric": "f1"}]}, "spec.gates[0].metric"),
    ({"gates": [{**MIN, "min": "1e3"}]}, "spec.gates[0].min"),
    ({"rollout": {"steps": [{"weight": 1}] * 21}}, "spec.rollout.steps"),
]
"""Specs whose fields are wrong by themselves, with the path of the wrong one."""
