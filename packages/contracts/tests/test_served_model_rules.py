"""A resource that breaks its schema or a rule is refused with the path people wrote and the rule's words."""

from typing import Any

import pytest

from kingmaker_contracts.served_model import InvalidResource, parse

LR = {"name": "lr", "model": "models:/flights@champion"}
GBM = {"name": "gbm", "model": "models:/flights@challenger"}
NN = {"name": "nn", "model": "models:/flights/3"}


def resource(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "kingmaker.dev/v1alpha1",
        "kind": "ServedModel",
        "metadata": {"name": "flights"},
        "spec": {"champion": LR, **spec},
    }


GOOD: list[dict[str, Any]] = [
    {},
    {"challengers": [GBM], "weights": {"gbm": 20}},
    {"challengers": [GBM, NN], "weights": {"gbm": 60, "nn": 40}},
    {"challengers": [GBM], "weights": {"gbm": 0}, "mode": "Shadow"},
    {"challengers": [GBM], "mode": "BlueGreen"},
    {"challengers": [GBM], "mode": "ABTest", "sticky": {"source": "Header", "name": "x-user"}},
    {"sticky": {"source": "PredictionId"}},
    {"challengers": [{**GBM, "mirrorPercent": 100, "maxWeight": 50, "replicas": 2}], "overrides": "Allowed"},
    {"limits": {"deadlineMilliseconds": 200, "maxBodyBytes": 1000, "maxInFlight": 1, "maxFrameRows": 1}},
    {"rollout": {"strategy": "Manual"}},
    {"feedback": {"waitSeconds": 900}},
    {"feedback": {"waitSeconds": 94_608_000}},
]


@pytest.mark.parametrize("spec", GOOD)
def test_a_good_resource_is_understood(spec: dict[str, Any]) -> None:
    assert parse(resource(**spec)).metadata.namespace == "default"


BAD: list[tuple[dict[str, Any], str]] = [
    (
        {"challengers": [GBM, NN], "weights": {"gbm": 90, "nn": 11}},
        "spec.weights: challenger weights add up to more than 100; the champion gets what is left",
    ),
    (
        {"challengers": [GBM], "weights": {"lr": 5}},
        "spec.weights.lr: weights names something that is no challenger; the champion is never weighted, "
        "it gets what is left",
    ),
    (
        {"challengers": [GBM], "weights": {"gmb": 5}},
        "spec.weights.gmb: weights names something that is no challenger; the champion is never weighted, "
        "it gets what is left",
    ),
    (
        {"challengers": [GBM], "weights": {"gbm": -1}},
        "spec.weights.gbm: should be greater than or equal to 0, found -1",
    ),
    ({"challengers": [GBM], "weights": {"gbm": 5.5}}, "spec.weights.gbm: should be a valid integer, found 5.5"),
    ({"challengers": [GBM], "weights": {"gbm": "7"}}, "spec.weights.gbm: should be a valid integer, found '7'"),
    ({"challengers": [GBM, GBM]}, "spec.challengers[1].name: two challengers carry this name"),
    (
        {"challengers": [{**GBM, "name": "lr"}]},
        "spec.challengers[0].name: a challenger cannot carry the champion's name",
    ),
    ({"mode": "ABTest"}, "spec.sticky: mode ABTest needs spec.sticky, so that a caller stays with one variant"),
    ({"mode": "BlueGreen"}, "spec.challengers: mode BlueGreen needs exactly one challenger"),
    ({"mode": "BlueGreen", "challengers": [GBM, NN]}, "spec.challengers: mode BlueGreen needs exactly one challenger"),
    (
        {"mode": "Shadow", "challengers": [GBM], "weights": {"gbm": 1}},
        "spec.weights: mode Shadow gives challengers no live traffic: leave weights out or 0",
    ),
    ({"mode": "canary"}, "spec.mode: should be 'Shadow', 'Canary', 'ABTest' or 'BlueGreen', found 'canary'"),
    ({"challengers": [{"name": "gbm"}]}, "spec.challengers[0]: a challenger needs exactly one of model and modelAlias"),
    ({"sticky": {"source": "Header"}}, "spec.sticky.name: sticky source Header and Feature need a name"),
    ({"rollout": {"steps": [{"weight": 5}, {"weight": 3}]}}, "spec.rollout.steps: step weights must not fall"),
    (
        {"rollout": {"steps": [{"weight": 5, "mirrorPercent": 5}]}},
        "spec.rollout.steps[0]: a step has either weight or mirrorPercent",
    ),
    (
        {"gates": [{"name": "q", "type": "NonInferiority", "metric": "auc"}]},
        "spec.gates[0]: a NonInferiority gate needs exactly one of margin and relativeMargin",
    ),
    (
        {"gates": [{"name": "q", "type": "Absolute", "metric": "auc"}]},
        "spec.gates[0]: an Absolute gate needs min or max",
    ),
    (
        {"gates": [{"name": "q", "type": "Absolute", "metric": "auc", "min": "0.9"}] * 2},
        "spec.gates[1].name: two gates carry this name",
    ),
    ({"wieght": {"gbm": 5}}, "spec.wieght: unknown field"),
    ({"challengers": [{**GBM, "mirrorpercent": 5}]}, "spec.challengers[0].mirrorpercent: unknown field"),
    ({"champion": {"name": "lr"}}, "spec.champion.model: required, but missing"),
    ({"champion": {**LR, "name": "L_R"}}, "spec.champion.name: "),
    (
        {"feedback": {"waitSeconds": 899}},
        "spec.feedback.waitSeconds: should be greater than or equal to 900, found 899",
    ),
    (
        {"feedback": {"waitSeconds": 94_608_001}},
        "spec.feedback.waitSeconds: should be less than or equal to 94608000, found 94608001",
    ),
    ({"feedback": {"waitSeconds": "30d"}}, "spec.feedback.waitSeconds: should be a valid integer, found '30d'"),
    ({"feedback": {"waitSeconds": 3600.5}}, "spec.feedback.waitSeconds: should be a valid integer, found 3600.5"),
    ({"feedback": {"waitDays": 7}}, "spec.feedback.waitDays: unknown field"),
    ({"rollout": {"strategy": "Automatic"}}, "spec.rollout.strategy: Automatic is not supported yet; use Manual"),
    (
        {"gates": [{"name": "q", "type": "Absolute", "metric": "auc", "min": "0.9"}]},
        "spec.gates: gates are not supported yet",
    ),
    ({"rollout": {"steps": [{"weight": 5}]}}, "spec.rollout.steps: steps are not supported yet"),
    ({"analysis": {}}, "spec.analysis: analysis is not supported yet"),
    (
        {"challengers": [{"name": "gbm", "modelAlias": "challenger"}]},
        "spec.challengers[0].modelAlias: modelAlias is not supported yet; name the version or use "
        "model: models:/NAME@ALIAS",
    ),
]


@pytest.mark.parametrize(("spec", "fault"), BAD)
def test_a_bad_resource_is_refused_with_path_and_reason(spec: dict[str, Any], fault: str) -> None:
    with pytest.raises(InvalidResource) as caught:
        parse(resource(**spec))
    assert any(str(found).startswith(fault) for found in caught.value.faults), str(caught.value)


def test_every_fault_of_a_resource_is_listed_at_once() -> None:
    with pytest.raises(InvalidResource) as caught:
        parse(resource(challengers=[GBM, GBM], weights={"nn": 50}, mode="ABTest"))
    assert [fault.path for fault in caught.value.faults] == [
        "spec.challengers[1].name",
        "spec.weights.nn",
        "spec.sticky",
    ]


@pytest.mark.parametrize("data", [None, [], "flights", {"kind": "ServedModel"}, {"apiVersion": "v1", "kind": "Pod"}])
def test_what_is_no_served_model_is_refused(data: Any) -> None:
    with pytest.raises(InvalidResource):
        parse(data)


def test_a_prediction_waits_thirty_days_for_its_label_unless_said_otherwise() -> None:
    unsaid: list[dict[str, Any]] = [{}, {"feedback": {}}]
    waits = [parse(resource(**spec)).spec.feedback.wait_seconds for spec in unsaid]
    assert waits == [30 * 86_400] * 2


def test_a_status_in_the_file_is_ignored() -> None:
    assert parse({**resource(), "status": {"phase": "Stable"}}).spec.champion.name == "lr"
