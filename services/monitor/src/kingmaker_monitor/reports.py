"""Windows and segments of one model, from sums that stand in memory: pure, the time is an argument."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from kingmaker_contracts.plan import Plan, PlannedVariant
from kingmaker_contracts.report import Against, DriftTable, SegmentReport, WindowName, WindowReport
from kingmaker_monitor import tables
from kingmaker_monitor.aggregates import Aggregate
from kingmaker_monitor.evidence import ArmIndex, Sums, routed, served
from kingmaker_monitor.profiles import Profiles
from kingmaker_monitor.segments import share_in_training
from kingmaker_monitor.state import ModelState
from kingmaker_monitor.windows import HOURS

SHOWN: Final[tuple[WindowName, ...]] = ("1h", "24h", "rollout")
_ALL: Final = (*SHOWN, *HOURS[:-1])
_HOURS: Final = tuple(_ALL.index(name) for name in HOURS)

Windows = dict[str, dict[WindowName, WindowReport]]
Segments = dict[str, dict[str, dict[str, dict[WindowName, SegmentReport]]]]


@dataclass(slots=True, frozen=True)
class Reports:
    """What changes too slowly to be looked at every second. as_of: RFC 3339."""

    as_of: str
    windows: Windows
    segments: Segments


def of_model(state: ModelState, plan: Plan, profiles: Profiles, as_of: str) -> Reports:
    look = _Look(state, plan, profiles)
    windows = {variant.name: look.windows(variant) for variant in plan.variants}
    return Reports(as_of, windows, look.segments())


class _Look:
    """One look at one model."""

    def __init__(self, state: ModelState, plan: Plan, profiles: Profiles) -> None:
        self._state = state
        self._plan = plan
        self._profiles = profiles
        self._index = ArmIndex(state)
        self._champion = next((variant for variant in plan.variants if variant.role == "champion"), None)

    def windows(self, variant: PlannedVariant) -> dict[WindowName, WindowReport]:
        sums = self._sums(variant)
        drift = self._drift(variant, sums)
        return {name: self._window(name, sums[name], drift[i]) for i, name in enumerate(SHOWN)}

    def _sums(self, variant: PlannedVariant, segment: str = "") -> dict[str, Sums]:
        counted: dict[str, tuple[Mapping[int, Aggregate], str | None]] = {
            name: (window.sums, None) for name, window in self._state.windows.items()
        }
        counted["rollout"] = self._state.totals, self._plan.rollout_id
        found: dict[str, Sums] = {}
        for name in _ALL:
            by_arm, rollout = counted[name]
            found[name] = self._index.sums(by_arm, variant, rollout, segment)
        return found

    def _drift(self, variant: PlannedVariant, sums: dict[str, Sums]) -> list[dict[Against, DriftTable]]:
        mine = self._rows(variant, sums)
        if mine is None:
            return [{} for _ in SHOWN]
        found: list[dict[Against, DriftTable]] = [{"training": t} for t in tables.against_training(mine, _HOURS)]
        champion = self._champion
        if champion is not None and variant.role == "challenger":
            theirs = self._rows(champion, self._sums(champion))
            if theirs is not None:
                for table, one in zip(found, tables.against_champion(mine, theirs, _HOURS), strict=True):
                    table["champion"] = one
        return found

    def _rows(self, variant: PlannedVariant, sums: dict[str, Sums]) -> list[tables.Rows] | None:
        """Counts of all windows with one profile: the planned one, else that of the rollout's rows."""
        schema = variant.profile or sums["rollout"].schema
        binning = self._profiles.get(schema)
        if binning is None:
            return None
        nothing = Aggregate()
        return [
            tables.Rows(sums[name].profiled if sums[name].schema == schema else nothing, binning, schema)
            for name in _ALL
        ]

    def _window(self, name: WindowName, sums: Sums, drift: dict[Against, DriftTable]) -> WindowReport:
        return WindowReport(
            since=None if name == "rollout" else _text(self._state.windows[name].first),
            drift=drift,
            **routed(sums, self._profiles.get(sums.schema)),
        )

    def segments(self) -> Segments:
        found: Segments = {feature: {} for feature in self._plan.segments}
        whole = {variant.name: self._sums(variant) for variant in self._plan.variants}
        for segment in self._index.segments:
            feature, _, value = segment.partition("=")
            if feature not in found:
                continue
            parts = {variant.name: self._sums(variant, segment) for variant in self._plan.variants}
            reports = {
                variant.name: self._segment(variant, feature, value, parts, whole) for variant in self._plan.variants
            }
            if any(reports.values()):
                found[feature][value] = reports
        return found

    def _segment(
        self,
        variant: PlannedVariant,
        feature: str,
        value: str,
        parts: dict[str, dict[str, Sums]],
        whole: dict[str, dict[str, Sums]],
    ) -> dict[WindowName, SegmentReport]:
        """Windows in which the variant has rows of the segment."""
        mine, binning = parts[variant.name], self._profiles.get(variant.profile or "")
        compared = self._compared(variant, parts)
        training = None if binning is None else share_in_training(binning, feature, value)
        found: dict[WindowName, SegmentReport] = {}
        for i, name in enumerate(SHOWN):
            rows, all_rows = mine[name].everything, whole[variant.name][name].everything
            seen, of = (one.rows("answered") + one.rows("shadowed") for one in (rows, all_rows))
            if not seen:
                continue
            table = compared[i] if compared else None
            found[name] = SegmentReport(
                share=seen / of if of else None,
                reference_share=training,
                verdict=table.verdict if table else None,
                drifted=[n for n, c in table.columns.items() if c.verdict == "Drifted"] if table else None,
                headline=table.headline if table else None,
                prediction=table.prediction if table else None,
                **served(mine[name], binning),
            )
        return found

    def _compared(self, variant: PlannedVariant, parts: dict[str, dict[str, Sums]]) -> list[DriftTable]:
        if variant.role == "champion" or self._champion is None:
            return []
        mine, theirs = self._rows(variant, parts[variant.name]), self._rows(self._champion, parts[self._champion.name])
        if mine is None or theirs is None:
            return []
        return tables.against_champion(mine[: len(SHOWN)], theirs[: len(SHOWN)])


def _text(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
