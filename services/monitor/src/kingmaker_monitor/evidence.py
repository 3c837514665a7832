"""Evidence of one model from its totals: pure, the time is an argument.

What a number is made of, where a reader could wonder: latency is that of live answers, or of the copies
while a variant has seen nothing else; drift and quality count live rows and copies together, for both
are the same clients' requests; quality leaves out override, fallback and ineligible rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kingmaker_contracts import keys
from kingmaker_contracts.evidence import (
    Agreement,
    Events,
    Evidence,
    Feedback,
    Latency,
    LiveQuality,
    Routed,
    Served,
    VariantEvidence,
)
from kingmaker_contracts.plan import Plan, PlannedVariant
from kingmaker_monitor import accounts, drift
from kingmaker_monitor.aggregates import PAIRS, QUALITY, ROWS, Aggregate
from kingmaker_monitor.binning import SCORE, Binning
from kingmaker_monitor.profiles import Profiles
from kingmaker_monitor.state import Arm, ModelState
from kingmaker_monitor.stats import errors, latency, quality


def of_model(state: ModelState, plan: Plan, profiles: Profiles, as_of: str) -> Evidence:
    """Evidence of the planned rollout. as_of: RFC 3339."""
    namespace, name = keys.split_model_id(state.name)
    index = ArmIndex(state)
    totals = {variant.name: index.sums(state.totals, variant, plan.rollout_id) for variant in plan.variants}
    return Evidence(
        namespace=namespace,
        name=name,
        rollout_id=plan.rollout_id,
        as_of=as_of,
        variants={variant.name: _variant(variant, totals[variant.name], profiles) for variant in plan.variants},
        agreement={
            variant.name: _agreement(totals[variant.name].profiled)
            for variant in plan.variants
            if variant.role == "challenger" and "pairs" in totals[variant.name].profiled.arrays
        },
        events=_events(state),
        feedback=_feedback(state),
    )


@dataclass(slots=True, frozen=True)
class Sums:
    """Everything of a variant in one window; the part counted with the planned profile (or, failing that, with the
    profile most rows came with); that profile's sha256. Histograms of two profiles have
    different bins and never add up."""

    everything: Aggregate
    profiled: Aggregate
    schema: str


class ArmIndex:
    """The arms of a model by variant and segment."""

    def __init__(self, state: ModelState) -> None:
        self._arms: dict[tuple[str, str], list[tuple[Arm, int]]] = {}
        for arm, number in state.arms.items():
            self._arms.setdefault((arm.variant, arm.segment), []).append((arm, number))

    @property
    def segments(self) -> list[str]:
        return sorted({segment for _, segment in self._arms if segment})

    def sums(
        self, counted: Mapping[int, Aggregate], variant: PlannedVariant, rollout: str | None, segment: str = ""
    ) -> Sums:
        """counted: by arm; rollout: only rows of this one, None for all: an hour is an hour whatever was rolled out."""
        everything = Aggregate()
        by_schema: dict[str, Aggregate] = {}
        for arm, number in self._arms.get((variant.name, segment), ()):
            total = counted.get(number)
            if total is None or rollout not in (None, arm.rollout) or arm.version not in (variant.version, ""):
                continue
            for name in ("rows", "latency.live", "latency.shadow"):
                if name in total.arrays:
                    everything.add(name, total.arrays[name])
            if arm.version:
                by_schema.setdefault(arm.schema, Aggregate()).merge(total)
        best = max(
            by_schema,
            key=lambda schema: (schema == variant.profile, by_schema[schema].rows("answered")),
            default=variant.profile or "",
        )
        return Sums(everything, by_schema.get(best, Aggregate()), best)

    def all_rows(self, counted: Mapping[int, Aggregate], variant: PlannedVariant, rollout: str) -> dict[str, Aggregate]:
        """What a variant answered, by the profile it came with."""
        found: dict[str, Aggregate] = {}
        for arm, number in self._arms.get((variant.name, ""), ()):
            total = counted.get(number)
            if total is not None and arm.version == variant.version and arm.rollout == rollout:
                found.setdefault(arm.schema, Aggregate()).merge(total)
        return found


def _variant(variant: PlannedVariant, sums: Sums, profiles: Profiles) -> VariantEvidence:
    profiled, binning = sums.profiled, profiles.get(sums.schema)
    return VariantEvidence(
        role=variant.role,
        version=variant.version,
        drift={} if binning is None else drift.of_features(binning, features_block(profiled, binning)),
        score_drift=drift.NO_DATA if binning is None else drift.of_score(binning, score_block(profiled, binning)),
        **routed(sums, binning),
    )


def routed(sums: Sums, binning: Binning | None) -> dict[str, Any]:
    """The fields of `contracts.evidence.Routed`."""
    counts = {name: sums.everything.rows(name) for name in Routed.__struct_fields__ if name in ROWS}
    return counts | {
        "latency": latency_of(sums.everything),
        "quality": quality_of(sums.profiled, binning),
        "mean_score": mean_score(sums.profiled),
    }


def served(sums: Sums, binning: Binning | None) -> dict[str, Any]:
    """The fields of `contracts.evidence.Served`."""
    found = routed(sums, binning)
    return {name: found[name] for name in Served.__struct_fields__}


def latency_of(everything: Aggregate) -> Latency:
    """Of live answers, or of the copies while there are no others."""
    times = everything.get("latency.live", latency.BUCKETS)
    if not times.any():
        times = everything.get("latency.shadow", latency.BUCKETS)
    return Latency(*(latency.quantile_ms(times, q) for q in (0.5, 0.95, 0.99)))


def mean_score(profiled: Aggregate) -> float | None:
    total, n = (profiled.sums("score.live", 2) + profiled.sums("score.shadow", 2)).tolist()
    return quality.mean(total, int(n))


def both(aggregate: Aggregate, column: str, size: int) -> NDArray[np.int64]:
    """Live rows and copies of a column: both are the same clients' requests."""
    return aggregate.get(f"live/{column}", size) + aggregate.get(f"shadow/{column}", size)


def features_block(aggregate: Aggregate, binning: Binning) -> NDArray[np.int64]:
    """Shape as binning.layout says."""
    return binning.layout.block([both(aggregate, name, column.size) for name, column in binning.known])


def score_block(aggregate: Aggregate, binning: Binning) -> NDArray[np.int64] | None:
    if binning.score is None or binning.score_layout is None:
        return None
    return binning.score_layout.block([both(aggregate, SCORE, binning.score.size)])


def quality_of(aggregate: Aggregate, binning: Binning | None) -> LiveQuality:
    size = len(QUALITY)
    counts = aggregate.get("quality.live", size) + aggregate.get("quality.shadow", size)
    count = dict(zip(QUALITY, counts.tolist(), strict=True))
    losses = aggregate.sums("losses.live", 2) + aggregate.sums("losses.shadow", 2)
    auc = None
    mistakes = aggregate.get("errors.live", errors.BUCKETS) + aggregate.get("errors.shadow", errors.BUCKETS)
    deviation = binning.score.std if binning is not None and binning.score is not None else None
    if binning is not None:
        bins = len(binning.auc_edges) + 1
        positives, negatives = (
            aggregate.get(f"{side}.live", bins) + aggregate.get(f"{side}.shadow", bins)
            for side in ("positives", "negatives")
        )
        auc = quality.auc(positives, negatives)
    return LiveQuality(
        n=count["n"],
        positives=count["positives"],
        auc=auc,
        accuracy=quality.mean(count["right"], count["judged"]),
        log_loss=quality.mean(float(losses[0]), count["probabilities"]),
        brier=quality.mean(float(losses[1]), count["probabilities"]),
        mae=errors.mean_absolute(mistakes, deviation),
        rmse=errors.root_mean_square(mistakes, deviation),
        mean_error=errors.mean(mistakes, deviation),
    )


def _agreement(challenger: Aggregate) -> Agreement:
    count = dict(zip(PAIRS, challenger.get("pairs", len(PAIRS)).tolist(), strict=True))
    difference = float(challenger.sums("pairs.difference", 1)[0])
    return Agreement(
        n=count["n"],
        label=quality.mean(count["same"], count["classed"]),
        mean_abs_score_difference=quality.mean(difference, count["scored"]),
        champion_only_right=count["champion_only_right"],
        challenger_only_right=count["challenger_only_right"],
        labelled=count["labelled"],
    )


def _events(state: ModelState) -> Events:
    total = accounts.total(state.accounts.values())
    tally = state.tally
    return Events(
        sent=total.sent + tally.folded_sent,
        stored=total.stored + tally.folded_stored,
        dropped=total.dropped + tally.folded_dropped,
        lost=total.lost + tally.folded_lost,
        duplicates=tally.duplicates,
        malformed=tally.malformed,
        late_seconds=None if tally.late_ms < 0 else tally.late_ms / 1000,
    )


def _feedback(state: ModelState) -> Feedback:
    """The tally has the same words."""
    return Feedback(**{name: getattr(state.tally, name) for name in Feedback.__struct_fields__})
