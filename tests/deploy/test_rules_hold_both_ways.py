"""A resource is refused for the same reason, in the same words, by the command line and by an apiserver."""

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kingmaker_contracts.crd import custom_resource_definition
from kingmaker_contracts.rules import NOT_YET, RULES
from kingmaker_contracts.served_model import API_VERSION, KIND, Fault, InvalidResource, parse
from tests.deploy.rule_cases import CASES, GBM, LR, MIN, NN, NO_WORSE, UNFIT
from tests.fakes.fake_apiserver import rules, structural

SCHEMA = custom_resource_definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
IN_SCHEMA = {
    "two challengers carry this name",
    "a feature stands twice in segments",
    "a feature stands twice in sensitive",
    "two gates carry this name",
}
"""Rules that a list map or set keeps by itself, in an apiserver's own words: "Duplicate value"."""


def resource(spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "flights"}, "spec": {"champion": LR, **spec}}


def in_python(spec: dict[str, Any]) -> list[Fault]:
    try:
        parse(resource(spec))
    except InvalidResource as error:
        return error.faults
    return []


def in_cel(spec: dict[str, Any]) -> tuple[list[structural.Cause], list[structural.Cause]]:
    """(faults of the schema, rules broken) as an apiserver finds them: defaults first, rules on sound data only."""
    item = copy.deepcopy(resource(spec))
    structural.fill(item, SCHEMA)
    faults = list(structural.faults(item, SCHEMA))
    sound = all(reason == "FieldValueDuplicate" for _, reason, _ in faults)
    return faults, list(rules.broken(item, SCHEMA)) if sound else []


def messages(causes: list[structural.Cause]) -> set[str]:
    return {text.partition('Invalid value: "')[2].partition('": ')[2] for _, _, text in causes}


def test_every_rule_has_good_and_bad_cases() -> None:
    assert [rule.message for rule in (*RULES, *NOT_YET)] == list(CASES)
    assert all(case.good and case.bad for case in CASES.values())
    assert {rule.message for rule in (*RULES, *NOT_YET) if rule.cel is None} == IN_SCHEMA


@pytest.mark.parametrize(("message", "spec"), [(m, spec) for m, case in CASES.items() for spec in case.good])
def test_a_spec_that_keeps_a_rule_passes_it_both_ways(message: str, spec: dict[str, Any]) -> None:
    assert message not in {fault.message for fault in in_python(spec)}
    faults, broken = in_cel(spec)
    assert faults == []
    assert message not in messages(broken)


@pytest.mark.parametrize(
    ("message", "spec", "paths"), [(m, spec, paths) for m, case in CASES.items() for spec, paths in case.bad]
)
def test_a_spec_that_breaks_a_rule_is_refused_both_ways(message: str, spec: dict[str, Any], paths: list[str]) -> None:
    assert [fault.path for fault in in_python(spec) if fault.message == message] == [f"spec.{path}" for path in paths]
    faults, broken = in_cel(spec)
    if message in IN_SCHEMA:
        assert [path for path, reason, _ in faults if reason == "FieldValueDuplicate"] == [
            f"spec.{path.removesuffix('.name')}" for path in paths
        ]
        return
    found = [path for path, _, text in broken if text.endswith(f": {message}")]
    assert found
    # an apiserver names the field at least as far as the list or map it is in
    assert all(any(f"spec.{path}".startswith(at.partition("[")[0]) for path in paths) for at in found)
    assert all(at != "spec" for at in found)


@pytest.mark.parametrize(("spec", "path"), UNFIT)
def test_an_unfit_field_is_refused_both_ways_by_its_path(spec: dict[str, Any], path: str) -> None:
    assert path in {fault.path for fault in in_python(spec)}
    assert path in {at for at, _, _ in in_cel(spec)[0]}


names = st.sampled_from(["lr", "gbm", "nn"])
challengers = st.lists(
    st.builds(
        lambda base, **changes: {k: v for k, v in (base | changes).items() if v is not None},
        st.sampled_from([LR, GBM, NN]),
        model=st.sampled_from(["models:/flights/1", None]),
        modelAlias=st.sampled_from([None, None, "next"]),
        replicas=st.sampled_from([None, 0, 1, 5]),
        autoscaling=st.sampled_from([None, {"maxReplicas": 1}, {"maxReplicas": 5}]),
    ),
    max_size=3,
)
steps = st.lists(st.dictionaries(st.sampled_from(["weight", "mirrorPercent"]), st.integers(0, 100)), max_size=3)
gates = st.lists(
    st.builds(
        lambda base, name, more: {**base, **more, "name": name},
        st.sampled_from([MIN, NO_WORSE, {k: v for k, v in MIN.items() if k != "min"}]),
        st.sampled_from(["a", "b", "c"]),
        st.dictionaries(st.sampled_from(["margin", "relativeMargin", "min", "max"]), st.just("0.5")),
    ),
    max_size=2,
)
sticky = st.builds(
    lambda source, name: {"source": source} | name,
    st.sampled_from(["Header", "Feature", "PredictionId"]),
    st.sampled_from([{}, {"name": "x"}]),
)
specs = st.fixed_dictionaries(
    {},
    optional={
        "challengers": challengers,
        "weights": st.dictionaries(names, st.integers(0, 80), max_size=3),
        "mode": st.sampled_from(["Shadow", "Canary", "ABTest", "BlueGreen"]),
        "sticky": sticky,
        "rollout": st.fixed_dictionaries(
            {}, optional={"steps": steps, "strategy": st.sampled_from(["Manual", "Automatic"])}
        ),
        "gates": gates,
        "analysis": st.just({}),
    },
)


@given(specs)
@settings(max_examples=300)
def test_whatever_the_spec_both_break_the_same_rules(spec: dict[str, Any]) -> None:
    faults, broken = in_cel(spec)
    python = {fault.message for fault in in_python(spec)}
    assert python - IN_SCHEMA == messages(broken)
    assert bool(python & IN_SCHEMA) == bool(faults)
