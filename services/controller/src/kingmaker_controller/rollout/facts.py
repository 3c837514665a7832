"""What reconcile is told and what it answers: plain values that a file, a cluster or a test can fill."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple

from kingmaker_contracts.plan import Plan
from kingmaker_contracts.routing import RoutingRecord
from kingmaker_contracts.served_model import Challenger, Champion, Fault, LimitsSpec, ServedModel
from kingmaker_contracts.status import Status

Phase = Literal["Pending", "Fetching", "Starting", "Ready", "Draining", "Failed"]

ACK_FRESH_S: Final = 10.0
"""A gateway that has not said anything for this long does not count as live."""
DRAIN_S: Final = 2.0
"""A variant that left the routing record runs on until every live gateway knows it, but no longer than this: the
default of `reconcile`, for child processes, whose gateways are beside them."""


class Identity(NamedTuple):
    """What makes a variant another one: its name and its model string. Two may share a name for a moment."""

    name: str
    model: str


@dataclass(frozen=True, slots=True)
class Desired:
    """resource: the last one that was accepted, None before the first; faults: of a newer one that was refused.

    generation: of the accepted resource; seen: of the newest one, where the source counts refused ones too.
    """

    resource: ServedModel | None
    faults: tuple[Fault, ...]
    generation: int
    seen: int = 0

    @property
    def newest(self) -> int:
        return max(self.generation, self.seen)


@dataclass(frozen=True, slots=True)
class Observed:
    """One variant as the runtime sees it.

    version, sha256, profile: "" and None until fetched; endpoints: host:port of the replicas that are
    ready now; reason: one word when the phase is Failed; restarts: deaths since the variant was started;
    inputs: of a variant without a profile, type by name as its server says; nothing until it said so.
    """

    phase: Phase
    version: str = ""
    sha256: str = ""
    profile: str | None = None
    endpoints: tuple[str, ...] = ()
    message: str = ""
    reason: str = ""
    restarts: int = 0
    inputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_ready(self) -> bool:
        return self.phase == "Ready" and bool(self.endpoints)


@dataclass(frozen=True, slots=True)
class GatewayView:
    """One gateway's acknowledgement of one model; epoch and revision 0: it has none."""

    id: str
    updated_at: str
    epoch: int
    revision: int


@dataclass(frozen=True, slots=True)
class RedisView:
    """What stands in Redis for one model.

    known: the record this controller wrote last, or has already reported as foreign; None before that.
    malformed: why the stored routing record could not be read, "" when it could.
    inputs: type by name, as FP32 or FP32[4], by the sha256 of each profile that was read there.
    """

    reachable: bool
    error: str = ""
    record: RoutingRecord | None = None
    known: RoutingRecord | None = None
    malformed: str = ""
    gateways: tuple[GatewayView, ...] = ()
    inputs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WantedVariant:
    """A variant the runtime shall keep running. version, sha256, profile: the pin, "" and None before it is resolved.

    draining: leave it as it runs, and do not start it again. asked: what the spec says of its pods; None when the
    spec does not name it any more: then it keeps the pods it has, for it may have all of the traffic. limits:
    those of the model, which its servers have to live up to.
    """

    name: str
    model: str
    version: str
    sha256: str
    profile: str | None
    replicas: int
    draining: bool = False
    asked: Champion | Challenger | None = None
    limits: LimitsSpec = field(default_factory=LimitsSpec)

    @property
    def identity(self) -> Identity:
        return Identity(self.name, self.model)


class Event(NamedTuple):
    """A decision for the audit log. reason: CamelCase; message: a sentence with the numbers."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """routing and plan are None while there is nothing to route (no champion was ready yet)."""

    status: Status
    routing: RoutingRecord | None
    plan: Plan | None
    wanted: tuple[WantedVariant, ...]
    events: tuple[Event, ...] = field(default=())


def stamp(now: datetime) -> str:
    """RFC 3339 with milliseconds, UTC."""
    return now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def age_s(text: str, now: datetime) -> float:
    """Seconds since an RFC 3339 time; infinity for a text that is none."""
    try:
        then = datetime.fromisoformat(text)
    except ValueError:
        return float("inf")
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return (now - then).total_seconds()
