"""The body of the monitor's `/api/models/{m}`: evidence, and behind it everything a person asks next.

A superset of `evidence`, which stays small because it is written to Redis every second. A number that does
not exist is null, never 0. Fields are only ever added; `v` changes when one changes its meaning.
"""

from typing import Literal

import msgspec

from kingmaker_contracts.evidence import DriftVerdict, Evidence, Routed, Served

WindowName = Literal["1h", "24h", "rollout"]
Against = Literal["training", "champion"]


class ColumnDrift(msgspec.Struct, frozen=True):
    """One column of a variant's rows beside a reference.

    verdict: for the 1 h window it takes two of three hours that follow each other, see `now` for this hour alone; for
    other windows both are the same. n, reference_n: rows. psi, psi_corrected, noise: see `evidence.FeatureDrift`.
    kl: of the reference to the rows, nats. jensen_shannon: distance, base 2, 0 to 1. chi_square_p, ks_p: chance
    of such a difference without drift, one column looked at alone. wasserstein, mean_shift: in standard deviations of
    training. missing, reference_missing, out_of_range, new: shares of rows. classes_moved: categories whose share
    changed by
    more than 10 % of itself and not by chance.
    """

    verdict: DriftVerdict
    now: DriftVerdict
    n: int
    reference_n: int
    psi: float | None = None
    psi_corrected: float | None = None
    noise: float | None = None
    kl: float | None = None
    jensen_shannon: float | None = None
    hellinger: float | None = None
    largest_difference: float | None = None
    chi_square: float | None = None
    chi_square_p: float | None = None
    ks: float | None = None
    ks_p: float | None = None
    wasserstein: float | None = None
    mean_shift: float | None = None
    missing: float | None = None
    reference_missing: float | None = None
    out_of_range: float | None = None
    new: float | None = None
    classes_moved: int | None = None


class ClassShare(msgspec.Struct, frozen=True):
    """A predicted class. change: live / reference - 1, null when the reference has none; moved: by more than 10 % of
    itself, and not by chance."""

    share: float
    reference: float
    change: float | None
    moved: bool


class DriftTable(msgspec.Struct, frozen=True):
    """All columns against one reference.

    verdict: the worst of the judged columns and the prediction; judged: columns with enough rows; drifted, warned:
    of them;
    drifted_share: drifted / judged; headline: corrected PSI averaged by importance, nats; prediction: the score;
    classes: predicted classes against the champion's, null against training, which has none.
    """

    verdict: DriftVerdict
    judged: int
    drifted: int
    warned: int
    drifted_share: float | None
    headline: float | None
    columns: dict[str, ColumnDrift]
    prediction: ColumnDrift
    classes: dict[str, ClassShare] | None = None


class WindowReport(Routed, frozen=True, kw_only=True):
    """One variant in one window. since: its first moment, null for the rollout's."""

    since: str | None
    drift: dict[Against, DriftTable]


class SegmentReport(Served, frozen=True, kw_only=True):
    """One variant's rows of one segment in one window.

    share: of the variant's rows; reference_share: of its training rows, null where the profile cannot say. verdict,
    drifted, headline, prediction: a challenger against the champion's rows of the same segment; null for the champion.
    """

    share: float | None
    reference_share: float | None
    verdict: DriftVerdict | None = None
    drifted: list[str] | None = None
    headline: float | None = None
    prediction: ColumnDrift | None = None


class Producer(msgspec.Struct, frozen=True):
    """One life of a gateway, in rows: stored = sent - dropped - lost. closed: it is over."""

    producer: str
    partition: int
    sent: int
    stored: int
    dropped: int
    lost: int
    closed: bool


class StreamHealth(msgspec.Struct, frozen=True):
    """One stream. read: entries so far; waiting: entries not read yet; behind_seconds: how much older the last one
    read is
    than the newest."""

    key: str
    read: int
    waiting: int
    behind_seconds: float


class ProfileHealth(msgspec.Struct, frozen=True):
    """What a variant is held against. state: none (it has no profile), missing (not in Redis, or not what its name
    says),
    usable; faults: where it does not fit its model, for people; unprofiled: rows that could not be binned;
    foreign: rows that came with another profile and are not mixed in; new_unknown: features whose rare categories it
    does not know, so that new ones count as rare."""

    sha256: str | None
    state: Literal["none", "missing", "usable"]
    faults: list[str]
    unprofiled: int
    foreign: int
    new_unknown: list[str] = []


class Mishap(msgspec.Struct, frozen=True):
    """Something that was lost with the state file. at: RFC 3339."""

    at: str
    what: str


class Pipeline(msgspec.Struct, frozen=True):
    """How far the numbers can be trusted. trimmed_*: entries that left a stream unread; misdated: rows whose time no
    window
    holds (they count for the rollout); replaced: streams that were read anew from their beginning; damaged_panes:
    panes that could not be read back; producers: the newest 50 lives; folded_lives: older ones that are over, of which
    the sum in `events` is all that is kept; lease: its token; segment_faults, sensitive_faults: what is
    declared and cannot be, and why."""

    redis_up: bool
    lease: int
    producers: list[Producer]
    streams: list[StreamHealth]
    trimmed_events: int
    trimmed_feedback: int
    misdated: int
    replaced: int
    damaged_panes: int
    clock_jumps: int
    profiles: dict[str, ProfileHealth]
    segment_faults: list[str]
    mishaps: list[Mishap]
    folded_lives: int = 0
    sensitive_faults: list[str] = []


class ModelReport(Evidence, frozen=True, kw_only=True):
    """evidence, and: windows by variant and window; segments by feature, value, variant and window; drift_as_of: when
    windows and segments were looked at."""

    drift_as_of: str
    windows: dict[str, dict[WindowName, WindowReport]]
    segments: dict[str, dict[str, dict[str, dict[WindowName, SegmentReport]]]]
    pipeline: Pipeline
