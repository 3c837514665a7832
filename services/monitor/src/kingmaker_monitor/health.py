"""How far a model's numbers can be trusted: where its streams stand, what was lost on the way, which profiles fit."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from kingmaker_contracts.plan import Plan, PlannedVariant
from kingmaker_contracts.report import Mishap, Pipeline, Producer, ProfileHealth, StreamHealth
from kingmaker_monitor import segments
from kingmaker_monitor.aggregates import Aggregate
from kingmaker_monitor.binning import Binning
from kingmaker_monitor.evidence import ArmIndex
from kingmaker_monitor.positions import Standing
from kingmaker_monitor.profiles import Profiles
from kingmaker_monitor.state import ModelState

MAX_PRODUCERS: Final = 50


def of_model(
    state: ModelState,
    profiles: Profiles,
    standings: Mapping[str, Standing],
    mishaps: Iterable[tuple[int, str]],
    *,
    redis_up: bool,
    clock_jumps: int,
) -> Pipeline:
    """standings: by stream key; mishaps: of the state file; clock_jumps: of this process."""
    tally = state.tally
    return Pipeline(
        redis_up=redis_up,
        lease=state.token,
        producers=_producers(state),
        streams=[
            StreamHealth(key, found.position.read, found.waiting, found.behind_ms / 1000)
            for key, found in sorted(standings.items())
        ],
        trimmed_events=tally.trimmed_events,
        trimmed_feedback=tally.trimmed_feedback,
        misdated=tally.misdated,
        replaced=tally.replaced,
        damaged_panes=tally.damaged_panes,
        clock_jumps=clock_jumps,
        profiles={} if state.plan is None else _profiles(state, state.plan, profiles),
        segment_faults=[] if state.plan is None else _segment_faults(state.plan, profiles),
        sensitive_faults=[] if state.plan is None else _sensitive_faults(state.plan, profiles),
        mishaps=[Mishap(_text(at), what) for at, what in mishaps],
        folded_lives=tally.folded_lives,
    )


def _producers(state: ModelState) -> list[Producer]:
    """The newest lives, in the order they were first seen."""
    newest = list(state.accounts.items())[-MAX_PRODUCERS:]
    return [
        Producer(
            producer=who.id,
            partition=who.partition,
            sent=account.sent,
            stored=account.stored,
            dropped=account.dropped,
            lost=account.lost,
            closed=account.closed,
        )
        for who, account in newest
    ]


def _profiles(state: ModelState, plan: Plan, profiles: Profiles) -> dict[str, ProfileHealth]:
    index = ArmIndex(state)
    return {
        variant.name: _profile(variant, profiles, index.all_rows(state.totals, variant, plan.rollout_id))
        for variant in plan.variants
    }


def _profile(variant: PlannedVariant, profiles: Profiles, by_schema: dict[str, Aggregate]) -> ProfileHealth:
    binning: Binning | None = profiles.get(variant.profile or "")
    foreign = [total for schema, total in by_schema.items() if schema != (variant.profile or "")]
    return ProfileHealth(
        sha256=variant.profile,
        state="usable" if binning is not None else "missing" if variant.profile else "none",
        faults=list(binning.faults) if binning is not None else [],
        unprofiled=sum(total.rows("unprofiled") for total in by_schema.values()),
        foreign=sum(total.rows("answered") + total.rows("shadowed") for total in foreign) if variant.profile else 0,
        new_unknown=binning.new_unknown if binning is not None else [],
    )


def _segment_faults(plan: Plan, profiles: Profiles) -> list[str]:
    known = [(variant.name, profiles.get(variant.profile or "")) for variant in plan.variants]
    return [
        f"{name}: {found}"
        for feature in plan.segments
        for name, binning in known
        if binning is not None and (found := segments.fault(binning, feature)) is not None
    ]


def _sensitive_faults(plan: Plan, profiles: Profiles) -> list[str]:
    """Names that protect nothing, a mistyped one say: no variant takes such a feature."""
    known = [profiles.get(variant.profile or "") for variant in plan.variants]
    columns = {name for binning in known if binning is not None for name, _ in binning.columns}
    if not columns or None in known:
        return []
    blocks = {name.rpartition("[")[0] for name in columns if name.endswith("]")}
    return [f"sensitive {name} is no feature of any variant" for name in plan.sensitive if name not in columns | blocks]


def _text(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
