"""Phase, one sentence, and the events: what a person reads first."""

from collections.abc import Mapping

from kingmaker_contracts.routing import RoutingRecord
from kingmaker_contracts.status import Status, Summary, VariantStatus
from kingmaker_controller.rollout.conditions import MISMATCH, Finding
from kingmaker_controller.rollout.facts import Event
from kingmaker_controller.rollout.scene import Scene
from kingmaker_controller.rollout.traffic import Allotment
from kingmaker_controller.rollout.variants import identity_of

_MAX_MESSAGE = 1000


def phase_of(scene: Scene, routing: RoutingRecord | None) -> str:
    """Derived, for people; programs read the conditions."""
    if scene.throne.reigning is None or routing is None:
        champion = next(v for v in scene.running if identity_of(v) == scene.named)
        return {"Failed": "Degraded", "Pending": "Pending", "Fetching": "Pending"}.get(champion.phase, "Starting")
    claims = (
        ("Degraded", bool(sick(scene, routing))),
        ("Starting", not scene.is_ready(scene.throne.reigning)),
        ("Paused", scene.spec.paused),
        ("Progressing", any(v.weight for v in routing.variants if v.role == "challenger")),
        ("Shadowing", any(v.mirror and v.endpoints for v in routing.variants)),
    )
    return next((phase for phase, is_so in claims if is_so), "Stable")


def sick(scene: Scene, routing: RoutingRecord) -> list[VariantStatus]:
    """Variants that failed, or that own traffic and died. One on its first start is not sick."""
    owning = {v.name for v in routing.variants if v.weight and v.role == "challenger"}
    found = []
    for variant in scene.running:
        identity = identity_of(variant)
        seen = scene.observed.get(identity)
        if seen is None or seen.is_ready or variant.phase == "Pending":
            continue
        matters = identity == scene.throne.reigning or variant.name in owning
        if variant.phase == "Failed" or (matters and seen.restarts):
            found.append(variant)
    return found


def weights_text(routing: RoutingRecord | None) -> Summary:
    return Summary(weights=",".join(f"{v.name}={v.weight}" for v in routing.variants) if routing else "")


def message_of(
    scene: Scene, routing: RoutingRecord | None, allotment: Allotment | None, findings: Mapping[str, Finding]
) -> str:
    """The one sentence an operator wants, with whatever is wrong in front."""
    parts = []
    if findings["Accepted"][0] == "False":
        parts.append(f"the last edit is Invalid and was not applied: {findings['Accepted'][2]}")
    if findings["Programmed"][1] == "RedisUnavailable":
        parts.append(findings["Programmed"][2])
    if routing is None or allotment is None:
        parts.append(findings["Ready"][2])
        return "; ".join(parts)[:_MAX_MESSAGE]
    parts += [f"{v.name} is {v.phase}" + (f": {v.message}" if v.message else "") for v in sick(scene, routing)]
    if findings["SpecCurrent"][0] == "False":
        parts.append(findings["SpecCurrent"][2])
    cause = "while spec.paused is true" if scene.spec.paused else "until it is ready"
    parts += [f"{name}: weight {weight} % waits {cause}" for name, weight in allotment.waiting.items()]
    serving = ", ".join(f"{v.name} {v.weight} %" for v in routing.variants)
    mirrored = "".join(f", {v.name} mirrors {v.mirror} %" for v in routing.variants if v.mirror)
    is_ready = findings["Ready"][0] == "True"
    if not is_ready:
        parts.append(findings["Ready"][2])
    parts.append(f"{'live' if is_ready else 'routed'}: {serving}{mirrored}")
    return "; ".join(parts)[:_MAX_MESSAGE]


def events(previous: Status, status: Status, routing: RoutingRecord | None) -> list[Event]:
    """What is new between two statuses. The same status twice gives none."""
    found: list[Event] = []
    before = {c.type: c for c in previous.conditions}
    accepted = next(c for c in status.conditions if c.type == "Accepted")
    old = before.get("Accepted")
    if accepted.status == "False" and (old is None or old.message != accepted.message):
        found.append(Event("InvalidSpec", accepted.message))
    elif accepted.status == "True" and (old is None or old.status != "True" or _generation_moved(previous, status)):
        found.append(Event("SpecAccepted", accepted.message))
    found += _variant_events(previous, status)
    found += _routing_events(previous, status, routing)
    together = next(c for c in status.conditions if c.type == "VariantsReady")
    were = before.get("VariantsReady")
    if together.reason == MISMATCH and (were is None or were.message != together.message):
        found.append(Event(MISMATCH, together.message))
    programmed = next(c for c in status.conditions if c.type == "Programmed")
    was = before.get("Programmed")
    if programmed.reason == "RedisUnavailable" and (was is None or was.reason != programmed.reason):
        found.append(Event("RoutingNotProgrammed", programmed.message))
    return found


def _generation_moved(previous: Status, status: Status) -> bool:
    return previous.observed_generation != status.observed_generation


def _variant_events(previous: Status, status: Status) -> list[Event]:
    found = []
    before = {(v.name, v.model): v for v in previous.variants}
    for variant in status.variants:
        old = before.pop((variant.name, variant.model), None)
        if variant.version and (old is None or not old.version):
            found.append(Event("VersionPinned", f"{variant.name}: {variant.model} is version {variant.version}"))
        if old is None or old.phase != variant.phase:
            if variant.phase == "Ready":
                found.append(Event("VariantReady", f"{variant.name} version {variant.version} is loaded and warmed"))
            elif variant.phase == "Failed":
                found.append(Event("VariantFailed", f"{variant.name}: {variant.message}"))
            elif variant.phase == "Draining":
                found.append(Event("VariantDraining", f"{variant.name} version {variant.version} gets no new traffic"))
    found += [Event("VariantStopped", f"{v.name} version {v.version} is not wanted any more") for v in before.values()]
    return found


def _routing_events(previous: Status, status: Status, routing: RoutingRecord | None) -> list[Event]:
    found = []
    if status.rollout_id and status.rollout_id != previous.rollout_id:
        names = ", ".join(f"{v.name} (version {v.version})" for v in routing.variants) if routing else ""
        found.append(Event("RolloutStarted", f"{status.rollout_id}: {names}"))
    old, new = previous.champion, status.champion
    if new is not None and (old is None or (old.name, old.version, old.since) != (new.name, new.version, new.since)):
        if old is None:
            found.append(Event("ChampionCrowned", f"{new.name} (version {new.version}) is ready and serves first"))
        else:
            text = f"{new.name} (version {new.version}) is ready and replaces {old.name} (version {old.version})"
            found.append(Event("ChampionDeposed", f"{text}, because spec.champion names it"))
    was = {w.name: w.weight for w in previous.routing.variants} if previous.routing else {}
    now = {w.name: w.weight for w in status.routing.variants} if status.routing else {}
    moved = [f"{n} {a} -> {b} %" for n in {**was, **now} if (a := was.get(n, 0)) != (b := now.get(n, 0))]
    if moved and status.routing:
        moved_by = f"revision {status.routing.revision}, generation {status.observed_generation}"
        found.append(Event("WeightChanged", f"{', '.join(moved)} ({moved_by})"))
    return found
