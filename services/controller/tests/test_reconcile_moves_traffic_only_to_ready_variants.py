"""reconcile, case by case: readiness, weights, pause, modes, crashes."""

from typing import Any

import pytest

from kingmaker_contracts.status import CONDITIONS
from kingmaker_controller.rollout.facts import Identity, Observed

LR = {"name": "lr", "model": "models:/flights/1"}
GBM = {"name": "gbm", "model": "models:/flights/2"}
NN = {"name": "nn", "model": "models:/flights/3"}


def spec(*challengers: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"champion": LR, "challengers": list(challengers), **more}


def test_nothing_is_routed_before_the_champion_is_ready(world_of: Any) -> None:
    world = world_of(spec(GBM, weights={"gbm": 10}, limits={"deadlineMilliseconds": 2000}))
    world.step()
    world.ready(*GBM.values())
    outcome = world.step()
    assert (outcome.routing, outcome.status.champion, outcome.status.phase) == (None, None, "Pending")
    assert [v.name for v in outcome.wanted] == ["lr", "gbm"]
    assert [v.limits.deadline_milliseconds for v in outcome.wanted] == [2000, 2000]


def test_a_weight_waits_until_its_challenger_is_ready_and_is_then_applied(world_of: Any) -> None:
    world = world_of(spec(GBM, weights={"gbm": 20}))
    world.step()
    world.ready(*LR.values())
    world.step()
    assert world.shares == {}
    assert "gbm: weight 20 % waits until it is ready" in world.status.message
    assert world.status.summary.weights == "lr=100"
    world.ready(*GBM.values())
    world.step()
    assert world.shares == {"gbm": 2000}
    assert world.status.summary.weights == "lr=80,gbm=20"
    assert world.status.phase == "Progressing"


def test_a_crashed_challenger_keeps_its_buckets_without_endpoints_and_the_status_says_why(world_of: Any) -> None:
    world = world_of(spec(GBM, weights={"gbm": 20}))
    world.settle()
    world.crash(*GBM.values())
    outcome = world.step()
    assert world.shares == {"gbm": 2000}
    assert next(v for v in outcome.routing.variants if v.name == "gbm").endpoints == []
    assert world.status.phase == "Degraded"
    assert "killed by signal -9" in world.status.message
    world.edit(spec(GBM, weights={"gbm": 40}))
    world.step()
    assert world.shares == {"gbm": 2000}, "it must not grow while it is down"
    world.edit(spec(GBM, weights={"gbm": 5}))
    world.step()
    assert world.shares == {"gbm": 500}, "shrinking needs no readiness"


def test_nothing_is_called_live_while_the_champion_starts_again(world_of: Any) -> None:
    world = world_of(spec(GBM, weights={"gbm": 20}))
    world.settle()
    assert world.status.message == "live: lr 80 %, gbm 20 %"
    world.restart_controller()
    world.step()
    assert world.status.message == "champion lr is Pending; routed: lr 80 %, gbm 20 %"


def test_paused_freezes_weights_in_both_directions(world_of: Any) -> None:
    world = world_of(spec(GBM, weights={"gbm": 20}))
    world.settle()
    for weight in (50, 0):
        world.edit(spec(GBM, weights={"gbm": weight}, paused=True))
        world.step()
        assert world.shares == {"gbm": 2000}
        assert world.status.phase == "Paused"
        assert f"weight {weight} % waits while spec.paused is true" in world.status.message
    world.edit(spec(GBM, weights={"gbm": 50}))
    world.step()
    assert world.shares == {"gbm": 5000}


def test_a_challenger_removed_while_paused_still_loses_its_traffic(world_of: Any) -> None:
    world = world_of(spec(GBM, weights={"gbm": 20}))
    world.settle()
    world.edit(spec(paused=True))
    world.step()
    assert world.shares == {}


@pytest.mark.parametrize(
    ("mode", "mirror", "expected"),
    [("Shadow", None, 100), ("Shadow", 30, 30), ("Canary", None, 0), ("Canary", 15, 15)],
)
def test_mirrors_default_to_everything_in_shadow_mode_and_to_nothing_elsewhere(
    world_of: Any, mode: str, mirror: int | None, expected: int
) -> None:
    challenger = GBM if mirror is None else {**GBM, "mirrorPercent": mirror}
    world = world_of(spec(challenger, mode=mode))
    outcome = world.settle()
    assert next(v for v in outcome.routing.variants if v.name == "gbm").mirror == expected
    assert world.shares == {}
    assert world.status.phase == ("Shadowing" if expected else "Stable")


def test_a_challenger_without_replicas_gets_no_traffic(world_of: Any) -> None:
    world = world_of(spec(GBM, weights={"gbm": 20}))
    world.settle()
    world.edit(spec({**GBM, "replicas": 0}, weights={"gbm": 20}))
    world.step()
    assert world.shares == {}


def test_an_invalid_edit_keeps_everything_and_lists_every_fault(world_of: Any) -> None:
    world = world_of(spec(GBM, weights={"gbm": 20}))
    before = world.settle()
    world.edit(spec(GBM, weights={"gbm": 101, "nn": "x"}, wieghts={}))
    outcome = world.step()
    assert outcome.routing == before.routing
    assert outcome.wanted == before.wanted
    accepted = world.condition("Accepted")
    assert (accepted.status, accepted.reason) == ("False", "Invalid")
    for fault in ("spec.weights.gbm: ", "spec.weights.nn: ", "spec.wieghts: unknown field"):
        assert fault in accepted.message
    assert world.status.phase == "Progressing"
    assert "Invalid" in world.status.message
    assert [e.reason for e in outcome.events] == ["InvalidSpec"]
    world.edit(spec(GBM, weights={"gbm": 20}))
    world.step()
    assert world.condition("Accepted").status == "True"
    assert world.last == before.routing


def test_a_resource_that_was_never_valid_is_invalid_and_runs_nothing(world_of: Any) -> None:
    world = world_of({"champion": {"name": "lr"}})
    outcome = world.step()
    assert (outcome.status.phase, outcome.routing, outcome.wanted) == ("Invalid", None, ())
    assert "spec.champion.model: required, but missing" in outcome.status.message


def test_a_version_is_pinned_once_and_stays_after_the_alias_moves_or_the_controller_restarts(world_of: Any) -> None:
    aliased = {"name": "lr", "model": "models:/flights@champion"}
    world = world_of({"champion": aliased})
    world.settle()
    assert [v.version for v in world.status.variants] == ["1"]
    world.versions["models:/flights@champion"] = "7"
    world.restart_controller()
    outcome = world.step()
    assert [(v.version, v.sha256) for v in outcome.wanted] == [("1", "1" * 8)]
    world.edit({"champion": {**aliased, "replicas": 2}})
    world.settle()
    assert [v.version for v in world.status.variants] == ["1"]


def test_every_condition_is_listed_in_order_and_its_time_moves_only_with_its_status(world_of: Any) -> None:
    world = world_of(spec())
    world.step()
    assert tuple(c.type for c in world.status.conditions) == CONDITIONS
    ready_since = world.condition("Ready").last_transition_time
    world.settle()
    became_ready = world.condition("Ready").last_transition_time
    assert became_ready != ready_since or world.condition("Ready").status == "True"
    world.settle(60)
    assert world.condition("Ready").last_transition_time == became_ready


def test_an_unresolved_model_says_why(world_of: Any) -> None:
    world = world_of(spec())
    world.step()
    assert world.condition("ResolvedRefs").status == "Unknown"
    world.observed[Identity(**LR)] = Observed("Failed", message="NotFound: no version 1", reason="NotFound")
    world.step()
    refs = world.condition("ResolvedRefs")
    assert (refs.status, refs.message) == ("False", "lr: NotFound: no version 1")
    assert world.status.phase == "Degraded"


def test_weights_do_not_change_the_rollout_but_another_set_of_variants_does(world_of: Any) -> None:
    world = world_of(spec(GBM, weights={"gbm": 20}))
    first = world.settle().status.rollout_id
    assert first.startswith("flights-")
    world.edit(spec(GBM, weights={"gbm": 30}))
    assert world.settle().status.rollout_id == first
    world.edit(spec(GBM, NN, weights={"gbm": 30}))
    assert world.settle().status.rollout_id != first
    world.edit(spec(GBM, weights={"gbm": 30}))
    assert world.settle().status.rollout_id == first


def test_a_removed_challenger_leaves_the_record_first_and_stops_after(world_of: Any) -> None:
    world = world_of(spec(GBM, weights={"gbm": 20}))
    world.settle()
    world.edit(spec())
    outcome = world.step()
    assert [v.name for v in outcome.routing.variants] == ["lr"]
    assert [(v.name, v.draining) for v in outcome.wanted] == [("lr", False), ("gbm", True)]
    assert [v.phase for v in world.status.variants] == ["Ready", "Draining"]
    world.reachable = False
    world.now = world.now.replace(minute=5)
    assert len(world.step().wanted) == 2, "gateways may still send to it while Redis is away"
    world.reachable = True
    world.gateway(0, 0)
    world.now = world.now.replace(minute=6)
    outcome = world.step()
    assert [v.name for v in outcome.wanted] == ["lr"]


def test_a_drained_variant_stops_as_soon_as_every_live_gateway_has_the_record(world_of: Any) -> None:
    world = world_of(spec(GBM))
    world.settle()
    world.edit(spec())
    record = world.step().routing
    world.gateway(record.epoch, record.revision - 1, id="behind")
    world.gateway(record.epoch, record.revision, id="there")
    assert len(world.look().wanted) == 2
    world.gateway(record.epoch, record.revision, id="behind")
    assert len(world.look().wanted) == 1


def test_another_model_under_a_challengers_name_starts_from_no_traffic(world_of: Any) -> None:
    world = world_of(spec(GBM, weights={"gbm": 20}))
    world.settle()
    other = {"name": "gbm", "model": "models:/flights/9"}
    world.edit(spec(other, weights={"gbm": 20}))
    outcome = world.step()
    assert world.shares == {}
    assert [(v.model, v.draining) for v in outcome.wanted][1:] == [(other["model"], False), (GBM["model"], True)]
    world.ready(*other.values())
    world.step()
    assert world.shares == {"gbm": 2000}


def test_a_model_that_returns_under_a_name_does_not_inherit_its_successors_buckets(world_of: Any) -> None:
    other = {"name": "gbm", "model": "models:/flights/9"}
    world = world_of(spec(GBM, weights={"gbm": 20}))
    world.settle()
    world.edit(spec(other, weights={"gbm": 20}))
    world.step()
    world.ready(*other.values())
    world.step()
    assert world.shares == {"gbm": 2000}
    world.crash(*GBM.values())  # the old one, still draining
    world.edit(spec(GBM, weights={"gbm": 20}))
    world.step()
    assert world.shares == {}
