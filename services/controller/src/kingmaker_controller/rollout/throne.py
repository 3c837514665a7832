"""Who reigns. spec.champion says who serves first; only a new identity there deposes, and only once it is ready.

So after a promotion the old spec can be applied again without taking the crown back, and a champion
whose successor does not start keeps serving.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from kingmaker_contracts.served_model import Spec
from kingmaker_contracts.status import SpecChampion, Status
from kingmaker_controller.rollout.facts import Identity, Observed


@dataclass(frozen=True, slots=True)
class Throne:
    """reigning: None until a champion was ready once; aspirant: spec.champion while it waits to depose the
    reigning one; before: who reigned at the last reconcile; obeyed: the spec.champion that took effect last."""

    reigning: Identity | None
    aspirant: Identity | None
    before: Identity | None
    obeyed: Identity | None

    @property
    def changed(self) -> bool:
        return self.reigning != self.before


def decide(spec: Spec, previous: Status, observed: Mapping[Identity, Observed]) -> Throne:
    """Who reigns now, given who did."""
    named = Identity(spec.champion.name, spec.champion.model)
    obeyed = _obeyed(previous.spec_champion)
    before = reigning_before(previous)
    is_ready = named in observed and observed[named].is_ready
    if before is None:
        return Throne(named, None, None, named) if is_ready else Throne(None, None, None, obeyed)
    if named == obeyed:
        return Throne(before, None, before, obeyed)
    if named == before or is_ready:
        return Throne(named, None, before, named)
    return Throne(before, named, before, obeyed)


def reigning_before(previous: Status) -> Identity | None:
    """The identity behind status.champion, which holds only name and version."""
    champion = previous.champion
    if champion is None:
        return None
    candidates = [v for v in previous.variants if v.name == champion.name and v.version == champion.version]
    candidates.sort(key=lambda v: (not _is_obeyed(v.name, v.model, previous.spec_champion), v.phase == "Draining"))
    if candidates:
        return Identity(candidates[0].name, candidates[0].model)
    return _obeyed(previous.spec_champion)


def _is_obeyed(name: str, model: str, obeyed: SpecChampion | None) -> bool:
    return obeyed is not None and (name, model) == (obeyed.name, obeyed.model)


def _obeyed(spec_champion: SpecChampion | None) -> Identity | None:
    return None if spec_champion is None else Identity(spec_champion.name, spec_champion.model)
