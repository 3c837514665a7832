"""One step from what is wanted and what is seen to what shall be: pure, so that a replay gives the same answer.

Order: who reigns, which versions run, who gets which buckets, the record's revision, then the words for
people. Nothing here raises for a bad resource: its faults come in, and the last accepted spec stays in force.
"""

from collections.abc import Mapping
from datetime import datetime

from kingmaker_contracts import buckets
from kingmaker_contracts.routing import RoutingRecord
from kingmaker_contracts.status import (
    CONDITIONS,
    ChampionStatus,
    RoutedWeight,
    RoutingStatus,
    SpecChampion,
    Status,
)
from kingmaker_controller.rollout import conditions, signatures, summary, throne, traffic, variants
from kingmaker_controller.rollout.facts import DRAIN_S, Desired, Event, Identity, Observed, Outcome, RedisView, stamp
from kingmaker_controller.rollout.scene import Scene


def reconcile(
    *,
    desired: Desired,
    previous: Status,
    observed: Mapping[Identity, Observed],
    redis: RedisView,
    last: RoutingRecord | None,
    now: datetime,
    epoch: int,
    drain_s: float = DRAIN_S,
) -> Outcome:
    """The next status, the records wanted in Redis, the variants wanted, and what happened.

    last: the routing record of this controller's last outcome, None after its start.
    epoch: the lease's fencing number. drain_s: the longest a variant that left the record waits for live gateways
    to take notice. Persist the status before acting on the rest.
    """
    if desired.resource is None:
        return _never_accepted(desired, previous, redis, now)
    spec = desired.resource.spec
    reign = throne.decide(spec, previous, observed)
    active = variants.active(spec, reign)
    running = variants.running(active, previous, observed)
    scene = Scene(desired.resource, desired.generation, previous, observed, reign, running)
    allotment, routing = None, None
    if reign.reigning is not None:
        allotment = traffic.allot(scene, reign.reigning)
        content = traffic.record(scene, reign.reigning, allotment)
        routing = traffic.ordered(content, last, previous, redis, now=now, epoch=epoch)
    leaving = variants.draining(active, previous, observed, traffic.has_drained(routing, redis, now, drain_s))
    mismatched = signatures.mismatched(running, redis.inputs, observed)
    findings = {
        "Accepted": conditions.accepted(desired),
        "ResolvedRefs": conditions.resolved(scene),
        "Ready": conditions.ready(scene),
        "VariantsReady": conditions.variants_ready(scene, mismatched),
        "Programmed": conditions.programmed(routing, redis, now),
        "SpecCurrent": conditions.spec_current(scene),
    }
    status = Status(
        observed_generation=desired.newest,
        phase=summary.phase_of(scene, routing),
        message=summary.message_of(scene, routing, allotment, findings),
        rollout_id=routing.rollout_id if routing else "",
        champion=_champion(scene, routing, now),
        spec_champion=SpecChampion(*reign.obeyed) if reign.obeyed else None,
        summary=summary.weights_text(routing),
        routing=_routing_status(routing) if routing else previous.routing,
        variants=running + leaving,
        conditions=conditions.listed(findings, previous, desired.newest, now),
    )
    return Outcome(
        status=status,
        routing=routing,
        plan=traffic.plan_of(routing, spec) if routing else None,
        wanted=variants.wanted(active, running, leaving, spec),
        events=(*summary.events(previous, status, routing), *_redis_events(previous, redis, routing)),
    )


def _never_accepted(desired: Desired, previous: Status, redis: RedisView, now: datetime) -> Outcome:
    unknown: conditions.Finding = ("Unknown", "Invalid", "the resource was never valid")
    findings = dict.fromkeys(CONDITIONS, unknown)
    findings["Accepted"] = conditions.accepted(desired)
    findings["Programmed"] = conditions.programmed(None, redis, now)
    status = Status(
        observed_generation=desired.newest,
        phase="Invalid",
        message=findings["Accepted"][2],
        champion=previous.champion,
        spec_champion=previous.spec_champion,
        routing=previous.routing,
        variants=previous.variants,
        conditions=conditions.listed(findings, previous, desired.newest, now),
    )
    return Outcome(
        status, None, None, variants.as_they_are(previous.variants), tuple(summary.events(previous, status, None))
    )


def _champion(scene: Scene, routing: RoutingRecord | None, now: datetime) -> ChampionStatus | None:
    reigning, old = scene.throne.reigning, scene.previous.champion
    if reigning is None or routing is None:
        return None
    version = next(v.version for v in scene.running if variants.identity_of(v) == reigning)
    if old is not None and (not scene.throne.changed or (old.name, old.version) == (reigning.name, version)):
        return old  # also when only another model string leads to the version that already reigns
    return ChampionStatus(reigning.name, version, stamp(now), routing.rollout_id)


def _routing_status(routing: RoutingRecord) -> RoutingStatus:
    return RoutingStatus(
        revision=routing.revision,
        epoch=routing.epoch,
        champion_weight=routing.champion.weight,
        ranges=buckets.format(buckets.parse(routing.ranges)),
        variants=[RoutedWeight(v.name, v.weight, v.mirror) for v in routing.variants if v.role == "challenger"],
    )


def _redis_events(previous: Status, redis: RedisView, routing: RoutingRecord | None) -> list[Event]:
    if routing is None or not redis.reachable:
        return []
    if redis.malformed and redis.known is not None:
        return [Event("WeightDriftCorrected", f"a malformed record was in Redis: {redis.malformed}")]
    if traffic.is_foreign(previous, redis) and redis.record is not None:
        found = redis.record
        text = f"somebody else wrote revision {found.revision}, epoch {found.epoch}, ranges {found.ranges or 'none'!r}"
        return [
            Event("WeightDriftCorrected", f"{text}; wrote revision {routing.revision}, {routing.ranges or 'none'!r}")
        ]
    if redis.record is None and redis.known is not None:
        text = f"the record was gone from Redis; wrote revision {routing.revision}, ranges {routing.ranges or 'none'!r}"
        return [Event("RoutingRestored", text)]
    return []
