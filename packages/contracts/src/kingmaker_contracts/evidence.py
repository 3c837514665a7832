"""Evidence: what the monitor measured, as JSON with the time it was measured.

A number that could not be computed is null, never 0; `verdict` says why. Evidence older than
STALE_SECONDS counts as no data.
"""

from typing import Literal

import msgspec

from kingmaker_contracts.labels import Role

STALE_SECONDS = 60

DriftVerdict = Literal["NoData", "Stable", "Warning", "Drifted"]


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds from the request's arrival to its answer, as the gateway measured them."""

    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class FeatureDrift(msgspec.Struct, frozen=True):
    """One column of live rows against the training rows.

    psi: population stability index in nats; psi_corrected: less its expectation without drift;
    noise: the value psi stays under with 95 % probability without drift; ks: Kolmogorov-Smirnov distance
    (None for categories); n: live rows; missing: live share without a value.
    """

    verdict: DriftVerdict
    n: int
    psi: float | None = None
    psi_corrected: float | None = None
    noise: float | None = None
    ks: float | None = None
    missing: float | None = None


class LiveQuality(msgspec.Struct, frozen=True):
    """Quality from joined labels. n: labelled rows; positives: of them with the positive label; mae, rmse, mean_error:
    of a regression, in the target's unit, the last one above 0 when the model says too much."""

    n: int
    positives: int
    auc: float | None
    accuracy: float | None
    log_loss: float | None
    brier: float | None
    mae: float | None = None
    rmse: float | None = None
    mean_error: float | None = None


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """What a variant did with rows. answered: rows it answered live; errors: of them, with an error; shadowed: rows it
    saw as a copy."""

    answered: int
    errors: int
    shadowed: int
    latency: Latency
    quality: LiveQuality
    mean_score: float | None


class Routed(Served, frozen=True, kw_only=True):
    """And what became of the rows that were meant for it. assigned: rows the split meant for it; fallbacks: of them,
    those the champion answered after it failed; ineligible: those that lack its inputs; shadow_errors: copies answered
    with an error."""

    assigned: int
    fallbacks: int
    ineligible: int
    shadow_errors: int


class VariantEvidence(Routed, frozen=True, kw_only=True):
    """One variant since the start of its rollout."""

    role: Role
    version: str
    drift: dict[str, FeatureDrift]
    score_drift: FeatureDrift


class Agreement(msgspec.Struct, frozen=True):
    """The champion and one challenger on the same rows. label: share with the same class."""

    n: int
    label: float | None
    mean_abs_score_difference: float | None
    champion_only_right: int
    challenger_only_right: int
    labelled: int


class Events(msgspec.Struct, frozen=True):
    """Accounts of the event pipeline, in rows: stored = sent - dropped - lost once all have arrived."""

    sent: int
    stored: int
    dropped: int
    lost: int
    duplicates: int
    malformed: int
    late_seconds: float | None


class Feedback(msgspec.Struct, frozen=True):
    """What became of labels. parked: came before their prediction and still wait."""

    received: int
    joined: int
    duplicate: int
    conflicting: int
    unknown: int
    expired: int
    parked: int
    pending: int


class Evidence(msgspec.Struct, frozen=True):
    """Value of `km:{ns/name}:evidence`, and the body of the monitor's `/api/models/{m}`."""

    namespace: str
    name: str
    rollout_id: str
    as_of: str
    variants: dict[str, VariantEvidence]
    agreement: dict[str, Agreement]
    events: Events
    feedback: Feedback
    v: Literal[1] = 1
