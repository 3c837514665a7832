"""The routing record: everything a gateway needs to know of one model, in one JSON value.

One writer (the controller that holds the lease) replaces it whole by compare on (epoch, revision);
gateways keep the last one they could read. Percentages are whole numbers for people; what decides
is `ranges`, the buckets each challenger owns (see `buckets`).
"""

from typing import Literal

import msgspec

from kingmaker_contracts import buckets
from kingmaker_contracts.labels import Mode, Role


class Sticky(msgspec.Struct, frozen=True):
    """What keeps a caller with one variant. name: the header or feature; salt: default namespace/name."""

    source: Literal["Header", "Feature", "PredictionId"]
    salt: str
    name: str | None = None


class Limits(msgspec.Struct, frozen=True):
    """Bounds of one request and of one model, each settable in the ServedModel."""

    deadline_ms: int = 1000
    max_body_bytes: int = 4 * 1024 * 1024
    max_in_flight: int = 512
    max_frame_rows: int = 256


class RoutedVariant(msgspec.Struct, frozen=True):
    """One model version that can answer.

    version: the registry's; model_name: what the upstream server calls the model; endpoints: host:port;
    weight: percent of live traffic meant for it; mirror: percent of the champion's requests copied to it;
    profile: sha256 of its profile, None when it has none (the signature then comes from its metadata).
    """

    name: str
    role: Role
    version: str
    model_name: str
    endpoints: list[str]
    weight: int
    mirror: int
    profile: str | None


class RoutingRecord(msgspec.Struct, frozen=True):
    """Who answers for `namespace/name`. Exactly one variant is champion; `ranges` names challengers only.

    sensitive: features, or columns of blocks, whose values are recorded nowhere.
    """

    namespace: str
    name: str
    revision: int
    epoch: int
    generation: int
    rollout_id: str
    mode: Mode
    variants: list[RoutedVariant]
    ranges: str
    sticky: Sticky
    overrides: Literal["Denied", "Allowed"]
    limits: Limits
    source: str
    updated_at: str
    sensitive: list[str] = []
    v: Literal[1] = 1

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.variants]
        if len(set(names)) != len(names):
            raise ValueError("two variants carry one name")
        if sum(variant.role == "champion" for variant in self.variants) != 1:
            raise ValueError("exactly one variant must be champion")
        if any(not 0 <= percent <= 100 for v in self.variants for percent in (v.weight, v.mirror)):
            raise ValueError("weight and mirror are percentages, 0 to 100")
        challengers = {variant.name for variant in self.variants if variant.role == "challenger"}
        unknown = set(buckets.parse(self.ranges)) - challengers
        if unknown:
            raise ValueError(f"ranges name {', '.join(sorted(unknown))}, no challenger of this record")

    @property
    def champion(self) -> RoutedVariant:
        return next(variant for variant in self.variants if variant.role == "champion")

    @property
    def order(self) -> tuple[int, int]:
        """What a newer record has more of."""
        return self.epoch, self.revision


class Withdrawal(msgspec.Struct, frozen=True):
    """A model was deleted: records of this epoch and of lower ones are no longer in force."""

    namespace: str
    name: str
    epoch: int
    v: Literal[1] = 1
