"""The conditions, in the words an operator reads with `kubectl describe` or `kingmaker get`."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from kingmaker_contracts.routing import RoutingRecord
from kingmaker_contracts.served_model import Spec
from kingmaker_contracts.status import CONDITIONS, Condition, ConditionStatus, Status
from kingmaker_controller.rollout import traffic
from kingmaker_controller.rollout.facts import Desired, Identity, RedisView, stamp
from kingmaker_controller.rollout.scene import Scene
from kingmaker_controller.rollout.variants import NO_REPLICAS, identity_of

Finding = tuple[ConditionStatus, str, str]
"""Status, reason, message of one condition."""

MISMATCH: Final = "SignatureMismatch"
_MAX_MESSAGE = 2000


def accepted(desired: Desired) -> Finding:
    if not desired.faults:
        return "True", "Accepted", f"generation {desired.generation} is obeyed"
    faults = "; ".join(map(str, desired.faults))
    kept = " (the last valid spec stays in force)" if desired.resource is not None else ""
    return "False", "Invalid", f"{faults}{kept}"


def resolved(scene: Scene) -> Finding:
    failed = []
    for variant in scene.running:
        seen = scene.observed.get(identity_of(variant))
        if seen is not None and seen.phase == "Failed" and not seen.version:
            failed.append((seen.reason or "FetchFailed", f"{variant.name}: {seen.message}"))
    if failed:
        return "False", failed[0][0], "; ".join(text for _, text in failed)
    open_ones = [v.name for v in scene.running if not v.version]
    if open_ones:
        return "Unknown", "Resolving", f"{', '.join(open_ones)}: not fetched yet"
    return "True", "Resolved", ", ".join(f"{v.name} is version {v.version}" for v in scene.running)


def ready(scene: Scene) -> Finding:
    who = scene.throne.reigning or scene.named
    champion = next(v for v in scene.running if identity_of(v) == who)
    if scene.throne.reigning is not None and scene.is_ready(who):
        return "True", "ChampionServes", f"{champion.name} serves version {champion.version}"
    detail = f": {champion.message}" if champion.message else ""
    return "False", f"Champion{champion.phase}", f"champion {champion.name} is {champion.phase}{detail}"


def variants_ready(scene: Scene, mismatched: Mapping[str, str]) -> Finding:
    """Whether everybody runs and can have traffic, champion and challengers; the reason is that of the first who
    does not. mismatched: see `signatures`."""
    failing = []
    waiting = []
    for variant in scene.running:
        seen = scene.observed.get(identity_of(variant))
        text = f"{variant.name} is {variant.phase}" + (f": {variant.message}" if variant.message else "")
        if variant.phase == "Failed":
            failing.append((seen.reason if seen and seen.reason else "VariantFailed", text))
        elif variant.name in mismatched:
            failing.append((MISMATCH, f"{variant.name} gets no traffic: {mismatched[variant.name]}"))
        elif variant.phase != "Ready" and variant.message != NO_REPLICAS:
            waiting.append(text)
    if failing:
        return "False", failing[0][0], "; ".join([text for _, text in failing] + waiting)
    if waiting:
        return "Unknown", "Starting", "; ".join(waiting)
    return "True", "AllReady", f"{len(scene.running)} variants are ready"


def programmed(routing: RoutingRecord | None, redis: RedisView, now: datetime) -> Finding:
    if not redis.reachable:
        return "False", "RedisUnavailable", f"Redis does not answer ({redis.error}); gateways keep their last record"
    if routing is None:
        return "False", "NoRouting", "nothing to route before a champion is ready"
    if redis.record != routing:
        return "False", "NotWritten", f"revision {routing.revision} is not in Redis yet"
    live, behind = traffic.acknowledged(routing, redis, now)
    if not live:
        return "Unknown", "NoGateway", f"revision {routing.revision} is in Redis, and no gateway is live"
    if behind:
        return "False", "GatewaysBehind", f"{behind} of {live} gateways have not applied revision {routing.revision}"
    return "True", "Programmed", f"all {live} gateways have applied revision {routing.revision}"


def spec_current(scene: Scene) -> Finding:
    spec, named, reigning = scene.spec, scene.named, scene.throne.reigning
    if reigning is None:
        return "Unknown", "NoChampion", f"{named.name} reigns as soon as it is ready"
    notes = []
    if scene.throne.aspirant is not None:
        notes.append(f"{reigning.name} reigns until {named.name} ({named.model}) is ready")
    elif reigning != named:
        notes.append(f"{reigning.name} ({reigning.model}) reigns, spec.champion is {named.name}")
    if reigning.name in spec.weights:
        notes.append(f"the weight of {reigning.name} is ignored: it reigns and gets what the challengers leave")
    if scene.throne.aspirant is not None:
        return "False", "ChampionPending", "; ".join(notes)
    if reigning != named:
        notes.append(f"to make the spec say so, apply {_patch(spec, reigning)}")
        return "False", "OtherReigns", "; ".join(notes)
    return "True", "Current", f"spec.champion {reigning.name} reigns"


def _patch(spec: Spec, reigning: Identity) -> str:
    others = [c.model_dump(by_alias=True, exclude_unset=True) for c in spec.challengers if c.name != reigning.name]
    change: dict[str, object] = {
        "champion": {"name": reigning.name, "model": reigning.model},
        "challengers": others,
    }
    if reigning.name in spec.weights:
        change["weights"] = {reigning.name: None}
    return json.dumps({"spec": change}, separators=(",", ":"))


def listed(findings: Mapping[str, Finding], previous: Status, generation: int, now: datetime) -> list[Condition]:
    """Every condition of the contract, in its order; lastTransitionTime moves only with the status."""
    before = {condition.type: condition for condition in previous.conditions}
    conditions = []
    for kind in CONDITIONS:
        status, reason, message = findings[kind]
        old = before.get(kind)
        since = old.last_transition_time if old is not None and old.status == status else stamp(now)
        conditions.append(Condition(kind, status, reason, message[:_MAX_MESSAGE], since, generation))
    return conditions
