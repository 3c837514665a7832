"""Who gets which buckets, and the routing record and plan that say so.

Live weight grows only towards a challenger that is loaded and warmed; one that crashed keeps its
buckets, with no endpoints, so that its callers come back to it and meanwhile get the champion.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime

import msgspec

from kingmaker_contracts import buckets, keys
from kingmaker_contracts.labels import Role
from kingmaker_contracts.plan import Plan, PlannedVariant, Retention
from kingmaker_contracts.routing import Limits, RoutedVariant, RoutingRecord, Sticky
from kingmaker_contracts.served_model import Spec
from kingmaker_contracts.status import Status
from kingmaker_controller import allocation
from kingmaker_controller.rollout.facts import ACK_FRESH_S, DRAIN_S, Identity, RedisView, age_s, stamp
from kingmaker_controller.rollout.scene import Scene
from kingmaker_controller.rollout.variants import identity_of, settled


@dataclass(frozen=True, slots=True)
class Allotment:
    """ranges: the new ones; mirrors: percent by routed challenger, in the order of the record; waiting:
    challengers whose weight is not applied yet, with the weight that waits."""

    ranges: buckets.Ranges
    mirrors: dict[Identity, int]
    waiting: dict[str, int]


def allot(scene: Scene, reigning: Identity) -> Allotment:
    """The buckets of each challenger."""
    spec, previous = scene.spec, scene.previous
    pinned = {identity_of(v) for v in scene.running if v.version}
    before = settled(previous)
    old = buckets.parse(previous.routing.ranges) if previous.routing else {}
    kept: buckets.Ranges = {}
    mirrors: dict[Identity, int] = {}
    sizes: dict[str, int] = {}
    waiting: dict[str, int] = {}
    for challenger in spec.challengers:
        identity = Identity(challenger.name, challenger.model or "")
        weight = spec.weights.get(challenger.name, 0) if challenger.replicas else 0
        if challenger.name == reigning.name:
            continue
        if identity not in pinned:
            waiting |= {challenger.name: weight} if weight else {}
            continue
        # buckets belong to an identity: another model under the same name starts from none
        kept[challenger.name] = old.get(challenger.name, []) if identity in before else []
        default = 100 if spec.mode == "Shadow" else 0
        mirrors[identity] = default if challenger.mirror_percent is None else challenger.mirror_percent
        current = buckets.size(kept[challenger.name])
        target = weight * buckets.PER_PERCENT
        is_held = spec.paused or (target > current and not scene.is_ready(identity))
        sizes[challenger.name] = current if is_held else target
        if sizes[challenger.name] != target:
            waiting[challenger.name] = weight
    aspirant = scene.throne.aspirant
    if aspirant is not None and aspirant in before and aspirant.name in old and aspirant.name != reigning.name:
        # a challenger named as the next champion keeps its buckets until the one revision that crowns it
        kept[aspirant.name] = old[aspirant.name]
        sizes[aspirant.name] = min(buckets.size(old[aspirant.name]), buckets.COUNT - sum(sizes.values()))
        mirrors[aspirant] = 0
    return Allotment(allocation.move(kept, sizes), mirrors, waiting)


def record(scene: Scene, reigning: Identity, allotment: Allotment) -> RoutingRecord:
    """The record without its order and time: epoch 0, revision 0, updated_at ""."""
    spec, metadata = scene.spec, scene.resource.metadata
    by_identity = {identity_of(v): v for v in scene.running}
    weights = {name: buckets.size(owned) // buckets.PER_PERCENT for name, owned in allotment.ranges.items()}

    def routed(identity: Identity, role: Role, weight: int, mirror: int) -> RoutedVariant:
        seen = scene.observed.get(identity)
        return RoutedVariant(
            name=identity.name,
            role=role,
            version=by_identity[identity].version,
            model_name=metadata.name,
            endpoints=sorted(seen.endpoints) if seen else [],
            weight=weight,
            mirror=mirror,
            profile=by_identity[identity].profile,
        )

    all_routed = [routed(reigning, "champion", 100 - sum(weights.values()), 0)]
    all_routed += [routed(i, "challenger", weights.get(i.name, 0), m) for i, m in allotment.mirrors.items()]
    salt = keys.model_id(metadata.namespace, metadata.name)
    sticky = Sticky("PredictionId", salt)
    if spec.sticky is not None:
        sticky = Sticky(spec.sticky.source, spec.sticky.salt or salt, spec.sticky.name)
    bounds = spec.limits
    return RoutingRecord(
        namespace=metadata.namespace,
        name=metadata.name,
        revision=0,
        epoch=0,
        generation=scene.generation,
        rollout_id=rollout_id(metadata.name, all_routed),
        mode=spec.mode,
        variants=all_routed,
        ranges=buckets.format(allotment.ranges),
        sticky=sticky,
        overrides=spec.overrides,
        limits=Limits(bounds.deadline_milliseconds, bounds.max_body_bytes, bounds.max_in_flight, bounds.max_frame_rows),
        source=spec.rollout.strategy,
        updated_at="",
        sensitive=spec.sensitive,
    )


def rollout_id(name: str, routed: list[RoutedVariant]) -> str:
    """The story evidence belongs to: the same champion and the same challengers, in the same versions."""
    champion, *challengers = (f"{v.name}\0{v.version}" for v in routed)
    text = "\n".join((champion, *sorted(challengers)))
    return f"{name}-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"


def ordered(
    content: RoutingRecord, last: RoutingRecord | None, previous: Status, redis: RedisView, *, now: datetime, epoch: int
) -> RoutingRecord:
    """The record with its order: the last one asked for when nothing changed, else the next revision."""
    stored = redis.record
    if last is not None and last.epoch == epoch and _content(last) == content:
        overtaken = stored is not None and stored != last and stored.order >= last.order
        if not overtaken:
            return last
    known = (previous.routing.revision if previous.routing else 0, last.revision if last else 0)
    revision = max(*known, stored.revision if stored else 0) + 1
    return msgspec.structs.replace(content, revision=revision, epoch=epoch, updated_at=stamp(now))


def is_foreign(previous: Status, redis: RedisView) -> bool:
    """Whether somebody else wrote the stored record."""
    stored = redis.record
    if stored is None:
        return False
    if redis.known is not None:
        return stored != redis.known
    mine = previous.routing
    if mine is None:
        return False
    return stored.order > (mine.epoch, mine.revision) or (
        stored.order == (mine.epoch, mine.revision) and stored.ranges != mine.ranges
    )


def has_drained(routing: RoutingRecord | None, redis: RedisView, now: datetime, drain_s: float = DRAIN_S) -> bool:
    """Whether what left the record may stop: every live gateway has it, or had drain_s seconds for it.

    Never while Redis is away: gateways still send to whom they last knew.
    """
    if routing is None:
        return True
    if not redis.reachable or redis.record != routing:
        return False
    live, behind = acknowledged(routing, redis, now)
    if live == 0:
        return age_s(routing.updated_at, now) >= min(drain_s, DRAIN_S)
    return behind == 0 or age_s(routing.updated_at, now) >= drain_s


def acknowledged(routing: RoutingRecord, redis: RedisView, now: datetime) -> tuple[int, int]:
    """How many gateways are live, and how many of them have not applied this record."""
    from_live = [g for g in redis.gateways if age_s(g.updated_at, now) <= ACK_FRESH_S]
    return len(from_live), sum((g.epoch, g.revision) < routing.order for g in from_live)


def plan_of(routing: RoutingRecord, spec: Spec) -> Plan:
    """spec: for what the monitor alone has to know, which changes nothing about traffic and so is no part of the
    record."""
    return Plan(
        namespace=routing.namespace,
        name=routing.name,
        revision=routing.revision,
        epoch=routing.epoch,
        rollout_id=routing.rollout_id,
        variants=[PlannedVariant(v.name, v.role, v.version, v.profile) for v in routing.variants],
        segments=spec.segments,
        sensitive=spec.sensitive,
        retention=Retention(pending_seconds=spec.feedback.wait_seconds),
    )


def _content(routing: RoutingRecord) -> RoutingRecord:
    return msgspec.structs.replace(routing, revision=0, epoch=0, updated_at="")
