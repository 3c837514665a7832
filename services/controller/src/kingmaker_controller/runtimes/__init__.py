"""What keeps variants running: child processes now, Deployments later, behind the same `Runtime`."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from kingmaker_controller.rollout.facts import Identity, Observed, WantedVariant


class Runtime(Protocol):
    def apply(self, model: str, wanted: Sequence[WantedVariant]) -> None:
        """Run exactly these variants of `namespace/name`. Returns at once; the rest is seen by `observe`."""
        ...

    def observe(self, model: str) -> Mapping[Identity, Observed]: ...

    def profile(self, model: str, sha256: str) -> bytes | None:
        """profile.json of a variant that runs or ran, by its sha256."""
        ...

    async def close(self) -> None:
        """Stop everything."""
        ...
