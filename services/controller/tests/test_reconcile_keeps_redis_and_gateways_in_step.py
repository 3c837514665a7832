"""reconcile and the stored record: revisions, epochs, foreign records, acknowledgements."""

from typing import Any

import msgspec

LR = {"name": "lr", "model": "models:/flights/1"}
GBM = {"name": "gbm", "model": "models:/flights/2"}
SPEC = {"champion": LR, "challengers": [GBM], "weights": {"gbm": 20}}


def test_a_status_and_a_record_without_news_stay_as_they_are(world_of: Any) -> None:
    world = world_of(SPEC)
    before = world.settle()
    world.now = world.now.replace(hour=9)
    after = world.step()
    assert (after.status, after.routing, after.events) == (before.status, before.routing, ())


def test_revisions_only_rise_and_an_outage_does_not_use_any_up(world_of: Any) -> None:
    world = world_of(SPEC)
    first = world.settle().routing.revision
    world.reachable = False
    world.edit({**SPEC, "weights": {"gbm": 30}})
    assert [world.step().routing.revision for _ in range(5)] == [first + 1] * 5
    assert world.condition("Programmed").reason == "RedisUnavailable"
    assert "Redis does not answer" in world.status.message
    world.reachable = True
    assert world.step().routing.revision == first + 1


def test_a_wiped_redis_gets_the_ranges_of_the_status_back_not_new_ones_from_weights(world_of: Any) -> None:
    world = world_of({**SPEC, "challengers": [GBM, {"name": "ann", "model": "models:/flights/3"}]})
    world.settle()
    world.edit(
        {**SPEC, "challengers": [GBM, {"name": "ann", "model": "models:/flights/3"}], "weights": {"gbm": 10, "ann": 10}}
    )
    world.settle()
    assert world.status.routing.ranges == "gbm:0-999,ann:1000-1999"  # from weights alone it would be ann:0-999
    world.record = None
    outcome = world.step()
    assert outcome.routing.ranges == "gbm:0-999,ann:1000-1999"
    assert [e.reason for e in outcome.events] == ["RoutingRestored"]
    world.record = None
    world.restart_controller()
    assert world.step().routing.ranges == "gbm:0-999,ann:1000-1999"


def test_a_foreign_record_is_overtaken_and_reported_once(world_of: Any) -> None:
    world = world_of(SPEC)
    mine = world.settle().routing
    world.record = msgspec.structs.replace(mine, ranges="gbm:0-9999", revision=mine.revision + 40)
    outcome = world.step()
    assert outcome.routing.revision == mine.revision + 41
    assert outcome.routing.ranges == mine.ranges
    assert [e.reason for e in outcome.events] == ["WeightDriftCorrected"]
    assert world.step().events == ()


def test_a_foreign_record_of_the_same_revision_is_overtaken_too(world_of: Any) -> None:
    world = world_of(SPEC)
    mine = world.settle().routing
    world.record = msgspec.structs.replace(mine, ranges="gbm:5000-6999")
    assert world.step().routing.revision == mine.revision + 1


def test_a_restarted_controller_writes_one_new_revision_under_its_higher_epoch(world_of: Any) -> None:
    world = world_of(SPEC)
    before = world.settle().routing
    world.restart_controller()
    outcome = world.step()
    assert outcome.routing.order == (before.epoch + 1, before.revision + 1)
    assert [v.endpoints for v in outcome.routing.variants] == [[], []]
    assert "WeightDriftCorrected" not in [e.reason for e in outcome.events]
    assert (outcome.status.champion, outcome.routing.ranges) == (world.status.champion, before.ranges)


def test_programmed_needs_every_live_gateway(world_of: Any) -> None:
    world = world_of(SPEC)
    record = world.settle().routing
    assert (world.condition("Programmed").status, world.condition("Programmed").reason) == ("Unknown", "NoGateway")
    world.gateway(record.epoch, record.revision)
    world.gateway(record.epoch, record.revision - 1, id="b")
    world.step()
    assert (world.condition("Programmed").status, world.condition("Programmed").reason) == ("False", "GatewaysBehind")
    world.gateway(record.epoch, record.revision - 1, age_s=11, id="b")
    world.step()
    assert world.condition("Programmed").status == "True", "a gateway that went silent does not count"
    world.gateway(record.epoch - 1, record.revision + 5, id="b")
    world.step()
    assert world.condition("Programmed").status == "False", "an older epoch is behind whatever its revision"


def test_what_the_monitor_alone_has_to_know_changes_the_plan_and_no_routing(world_of: Any) -> None:
    world = world_of(SPEC)
    before = world.settle()
    assert (before.plan.retention.pending_seconds, before.plan.segments) == (30 * 86_400, [])
    world.edit({**SPEC, "feedback": {"waitSeconds": 86_400}, "segments": ["carrier"]})
    after = world.step()
    assert (after.plan.retention.pending_seconds, after.plan.segments) == (86_400, ["carrier"])
    assert after.plan.retention.parked_seconds == 900
    assert (after.routing.ranges, after.routing.variants) == (before.routing.ranges, before.routing.variants)
