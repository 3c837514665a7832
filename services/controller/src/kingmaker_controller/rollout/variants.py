"""Which model versions run, and which version each identity is pinned to.

A version is resolved once, when an identity first appears, and stays in status.variants: an alias that
moves later, or a controller that starts again, changes nothing that serves. An identity that nobody
wants any more drains: it runs on until the routing record without it has reached the gateways.
"""

from collections.abc import Mapping
from typing import Final

from kingmaker_contracts.served_model import Challenger, Champion, Spec
from kingmaker_contracts.status import Status, VariantStatus
from kingmaker_controller.rollout.facts import Identity, Observed, WantedVariant
from kingmaker_controller.rollout.throne import Throne

NO_REPLICAS: Final = "replicas is 0"
_UNSEEN: Final = Observed("Pending")


def identity_of(variant: VariantStatus) -> Identity:
    return Identity(variant.name, variant.model)


Asked = Champion | Challenger | None
"""What the spec says of a variant; None for one that reigns without being in the spec any more."""


def active(spec: Spec, throne: Throne) -> dict[Identity, Asked]:
    """Identities that shall run: who reigns first, then spec.champion, then challengers."""
    asked: dict[Identity, Asked] = {Identity(spec.champion.name, spec.champion.model): spec.champion}
    for challenger in spec.challengers:
        asked.setdefault(Identity(challenger.name, challenger.model or ""), challenger)
    if throne.reigning is None:
        return asked
    # one that reigns without being in the spec any more runs on: only a new champion deposes it
    reigning: dict[Identity, Asked] = {throne.reigning: asked.get(throne.reigning)}
    return reigning | {identity: variant for identity, variant in asked.items() if identity not in reigning}


def settled(previous: Status) -> dict[Identity, VariantStatus]:
    """Variants of the last reconcile that were wanted then."""
    return {identity_of(v): v for v in previous.variants if v.phase != "Draining"}


def running(
    active_ones: Mapping[Identity, Asked], previous: Status, observed: Mapping[Identity, Observed]
) -> list[VariantStatus]:
    """The status of every active identity, its pin kept or, on first sight of a version, set."""
    pins = {identity_of(v): v for v in previous.variants}
    return [_status(i, pins.get(i), observed.get(i, _UNSEEN), replicas_of(a)) for i, a in active_ones.items()]


def draining(
    active_ones: Mapping[Identity, Asked], previous: Status, observed: Mapping[Identity, Observed], is_done: bool
) -> list[VariantStatus]:
    """Variants nobody wants any more that still run; none once is_done."""
    left = [v for v in previous.variants if identity_of(v) not in active_ones and identity_of(v) in observed]
    if is_done:
        return []
    return [
        VariantStatus(
            v.name, v.model, v.version, "Draining", v.sha256, v.profile, "left the routing record, stops shortly"
        )
        for v in left
    ]


def wanted(
    active_ones: Mapping[Identity, Asked], variants: list[VariantStatus], leaving: list[VariantStatus], spec: Spec
) -> tuple[WantedVariant, ...]:
    """What the runtime is asked for."""
    running_on = []
    for variant in variants:
        asked = active_ones[identity_of(variant)]
        pin = (variant.version, variant.sha256, variant.profile)
        replicas = replicas_of(asked)
        running_on.append(WantedVariant(variant.name, variant.model, *pin, replicas, asked=asked, limits=spec.limits))
    return (*running_on, *as_they_are(leaving))


def as_they_are(leaving: list[VariantStatus]) -> tuple[WantedVariant, ...]:
    """The runtime shall neither stop these nor start them again."""
    return tuple(WantedVariant(v.name, v.model, v.version, v.sha256, v.profile, 0, draining=True) for v in leaving)


def replicas_of(asked: Asked) -> int:
    """How many model servers, where the runtime has none yet to keep."""
    return 1 if asked is None else asked.replicas


def _status(identity: Identity, pin: VariantStatus | None, seen: Observed, replicas: int) -> VariantStatus:
    pinned = pin if pin is not None and pin.version else None
    return VariantStatus(
        name=identity.name,
        model=identity.model,
        version=pinned.version if pinned else seen.version,
        phase="Pending" if replicas == 0 else seen.phase if seen.phase != "Draining" else "Pending",
        sha256=pinned.sha256 if pinned else seen.sha256,
        profile=pinned.profile if pinned else seen.profile,
        message=NO_REPLICAS if replicas == 0 else seen.message,
    )
