"""The seam of this suite: what a scenario needs of a cluster, whoever provides it.

`FakeCluster` is the default; `RealCluster` is whatever a kubeconfig leads to. Scenarios see a `Stage`, which knows
only this. One that needs more than a real cluster can give (a watch that breaks off now, a process that freezes) is
marked `fake_only` with the reason, and listed as not run when the suite points at a real one.
"""

from pathlib import Path
from typing import Any, Protocol

TOKEN = "t0ken"


class Controller(Protocol):
    """One controller that runs somewhere, and is not started again by anybody."""

    def kill(self) -> None:
        """It is gone at once, without a last word."""

    def terminate(self) -> None:
        """SIGTERM."""

    def ended(self, within_s: float) -> int | None:
        """Wait for its end: the exit code, None where nobody remembers it. Raises TimeoutError."""

    def is_running(self) -> bool: ...


class Registry(Protocol):
    """MLflow, or what answers in its place: versions 1 to 4 of `flights`, alias `champion` on 1.

    Version N takes two numbers a row and adds N to them."""

    def mistag(self, version: str) -> None:
        """The tag with the model's sha256 is another's from now on."""

    def retag(self, version: str) -> None:
        """The tag is right again."""

    def go_away(self) -> None:
        """Nobody answers at its address."""

    def come_back(self) -> None: ...


class Cluster(Protocol):
    """api: base address of the Kubernetes API, no login needed; redis: a client of the stack's own Redis; patience:
    how many times longer than on a quiet fake cluster things may take."""

    api: str
    namespace: str
    kubeconfig: Path
    redis: Any
    patience: float

    @property
    def registry(self) -> Registry: ...

    def start_controller(self, name: str, settings: dict[str, str]) -> Controller:
        """settings: of the controller, without its prefix, beside those it needs to work here."""

    def start_gateway(self) -> str:
        """The address where it can be reached from here."""

    def logs(self) -> str:
        """What everybody said lately, for people."""
