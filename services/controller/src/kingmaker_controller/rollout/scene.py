"""All that is known in the middle of one reconcile, once it is settled who reigns and which versions run."""

from collections.abc import Mapping
from dataclasses import dataclass

from kingmaker_contracts.served_model import ServedModel, Spec
from kingmaker_contracts.status import Status, VariantStatus
from kingmaker_controller.rollout.facts import Identity, Observed
from kingmaker_controller.rollout.throne import Throne


@dataclass(frozen=True, slots=True)
class Scene:
    """running: the status of every variant that shall run, who reigns first."""

    resource: ServedModel
    generation: int
    previous: Status
    observed: Mapping[Identity, Observed]
    throne: Throne
    running: list[VariantStatus]

    @property
    def spec(self) -> Spec:
        return self.resource.spec

    def is_ready(self, identity: Identity | None) -> bool:
        return identity is not None and identity in self.observed and self.observed[identity].is_ready

    @property
    def named(self) -> Identity:
        """Whom spec.champion names."""
        return Identity(self.spec.champion.name, self.spec.champion.model)
