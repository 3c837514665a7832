"""Who reigns: succession through readiness, and specs that come back."""

from typing import Any

import msgspec

from kingmaker_contracts import buckets
from kingmaker_contracts.status import ChampionStatus

LR = {"name": "lr", "model": "models:/flights/1"}
GBM = {"name": "gbm", "model": "models:/flights/2"}
NN = {"name": "nn", "model": "models:/flights/3"}


def owner_of(ranges: str, champion: str) -> list[str]:
    owned = [champion] * buckets.COUNT
    for name, spans in buckets.parse(ranges).items():
        for first, last in spans:
            owned[first : last + 1] = [name] * (last - first + 1)
    return owned


def test_a_new_champion_takes_over_in_one_revision_once_it_is_ready(world_of: Any) -> None:
    world = world_of({"champion": LR})
    before = world.settle().routing
    world.edit({"champion": GBM})
    world.step()
    assert world.status.champion.name == "lr"
    assert (world.condition("SpecCurrent").status, world.condition("SpecCurrent").reason) == (
        "False",
        "ChampionPending",
    )
    assert world.last.champion.endpoints == before.champion.endpoints
    world.ready(*GBM.values())
    outcome = world.step()
    assert outcome.routing.champion.name == "gbm"
    assert [v.name for v in outcome.routing.variants] == ["gbm"]
    assert "ChampionDeposed" in [e.reason for e in outcome.events]
    assert [(v.name, v.draining) for v in outcome.wanted] == [("gbm", False), ("lr", True)]
    world.settle()
    assert [v.name for v in world.status.variants] == ["gbm"]
    assert world.condition("SpecCurrent").status == "True"


def test_the_reigning_champion_stays_when_its_successor_never_starts(world_of: Any) -> None:
    world = world_of({"champion": LR})
    world.settle()
    world.edit({"champion": GBM})
    world.step()
    world.ready(*GBM.values())
    world.crash(*GBM.values())
    outcome = world.step()
    assert outcome.routing.champion.name == "lr"
    assert "lr reigns until gbm" in world.status.message
    world.edit({"champion": LR})
    world.settle()
    assert world.status.champion.name == "lr"
    assert [v.name for v in world.status.variants] == ["lr"]


def test_a_challenger_crowned_by_hand_moves_nobody_of_the_other_challenger(world_of: Any) -> None:
    world = world_of({"champion": LR, "challengers": [GBM, NN], "weights": {"gbm": 20, "nn": 10}})
    before = owner_of(world.settle().routing.ranges, "lr")
    world.edit({"champion": GBM, "challengers": [NN], "weights": {"nn": 10}})
    outcome = world.step()
    after = owner_of(outcome.routing.ranges, "gbm")
    assert outcome.routing.champion.name == "gbm"
    assert [(a, b) for a, b in zip(before, after, strict=True) if a != b] == [("lr", "gbm")] * 7000


def test_a_challenger_that_is_down_when_it_is_named_champion_keeps_its_buckets_until_it_reigns(world_of: Any) -> None:
    world = world_of({"champion": LR, "challengers": [GBM], "weights": {"gbm": 20}})
    world.settle()
    world.crash(*GBM.values())
    world.edit({"champion": GBM})
    world.step()
    assert (world.status.champion.name, world.shares) == ("lr", {"gbm": 2000})
    world.ready(*GBM.values())
    world.step()
    assert (world.status.champion.name, world.shares) == ("gbm", {})


def test_the_deposed_champion_may_become_a_challenger_in_the_same_revision(world_of: Any) -> None:
    world = world_of({"champion": LR, "challengers": [GBM], "weights": {"gbm": 20}})
    world.settle()
    world.edit({"champion": GBM, "challengers": [LR], "weights": {"lr": 30}})
    outcome = world.step()
    assert outcome.status.summary.weights == "gbm=70,lr=30"
    assert not any(v.draining for v in outcome.wanted)


def test_another_model_under_the_champions_name_deposes_through_readiness_too(world_of: Any) -> None:
    world = world_of({"champion": LR})
    world.settle()
    renewed = {"name": "lr", "model": "models:/flights/8"}
    world.edit({"champion": renewed})
    outcome = world.step()
    assert outcome.routing.champion.version == "1"
    assert {v.model for v in outcome.wanted} == {LR["model"], renewed["model"]}
    world.ready(*renewed.values())
    outcome = world.step()
    assert (outcome.routing.champion.version, outcome.status.champion.version) == ("2", "2")
    world.settle()
    assert [v.model for v in world.status.variants] == [renewed["model"]]


def promoted(world_of: Any) -> Any:
    """gbm reigns by promotion while the spec still says lr."""
    world = world_of({"champion": LR, "challengers": [GBM], "weights": {"gbm": 20}})
    world.settle()
    crown = ChampionStatus("gbm", "2", "2026-11-21T00:00:00.000Z", world.status.rollout_id)
    world.status = msgspec.structs.replace(world.status, champion=crown)
    world.settle()
    return world


def test_after_a_promotion_the_old_spec_changes_nothing_and_says_what_to_apply(world_of: Any) -> None:
    world = promoted(world_of)
    assert world.last.champion.name == "gbm"
    assert world.shares == {}
    current = world.condition("SpecCurrent")
    assert (current.status, current.reason) == ("False", "OtherReigns")
    assert "the weight of gbm is ignored" in current.message
    assert (
        '{"champion":{"name":"gbm","model":"models:/flights/2"},"challengers":[],"weights":{"gbm":null}}'
        in current.message
    )
    before = world.last
    world.edit({"champion": LR, "challengers": [GBM], "weights": {"gbm": 35}})
    assert [v.name for v in world.settle().routing.variants] == [v.name for v in before.variants]
    assert world.status.champion.name == "gbm"


def test_editing_the_spec_to_who_reigns_changes_no_traffic(world_of: Any) -> None:
    world = promoted(world_of)
    before = world.last
    world.edit({"champion": GBM})
    outcome = world.settle()
    assert outcome.routing.variants == before.variants
    assert (outcome.routing.ranges, outcome.routing.rollout_id) == (before.ranges, before.rollout_id)
    assert world.condition("SpecCurrent").status == "True"


def test_a_champion_that_left_the_spec_unnamed_keeps_reigning(world_of: Any) -> None:
    world = promoted(world_of)
    world.edit({"champion": LR})
    assert world.settle().routing.champion.name == "gbm"
