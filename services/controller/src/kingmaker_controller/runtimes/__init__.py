"""What keeps variants running: child processes or Deployments, behind the same `Runtime`."""

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Protocol

from kingmaker_controller.rollout.facts import Identity, Observed, WantedVariant


class Runtime(Protocol):
    def apply(self, model: str, wanted: Sequence[WantedVariant]) -> None:
        """Run exactly these variants of `namespace/name`. Returns at once; the rest is seen by `observe`."""
        ...

    def observe(self, model: str, pinned: Set[Identity]) -> Mapping[Identity, Observed]:
        """What runs. pinned: whose version the status knows; only of the others it has to be told."""
        ...

    def changed(self) -> Iterable[str]:
        """Models with something new to observe since the last call."""
        ...

    def profile(self, model: str, sha256: str) -> bytes | None:
        """profile.json of a variant that runs or ran, by its sha256; None while it is not at hand."""
        ...

    async def close(self) -> None:
        """Let go of everything that shall not outlive the controller."""
        ...
