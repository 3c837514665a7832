"""What it takes to call a column drifted, and when nobody can know.

Effect and significance together: PSI less what chance is expected to add must reach the threshold, PSI must exceed what
chance makes once in twenty samples, and the chi-square test must still stand with all columns tested at once. One
without the other calls either every large sample or every small one drifted. Twice in three windows, before anybody
is woken: what one odd hour did is gone in the next.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from kingmaker_monitor.stats import false_discovery
from kingmaker_monitor.stats.drift import Measures

Floats = NDArray[np.float64]
Levels = NDArray[np.int8]
"""Values of `Level`."""

FLOOR: Final = 200
"""No setting asks for fewer rows: with so few, one sample in twenty has a PSI above 0.08 although nothing changed."""
WINDOWS: Final = 3


class Level(IntEnum):
    NO_DATA = -1
    STABLE = 0
    WARNING = 1
    DRIFTED = 2


@dataclass(slots=True, frozen=True)
class Rules:
    """min_rows: on both sides, below is NO_DATA; warning, drifted: corrected PSI in nats from which a column is so;
    false_discovery: expected share of wrong ones among the columns called significant, each look.

    Raises ValueError for rules that would give verdicts without data.
    """

    min_rows: int = 500
    warning: float = 0.1
    drifted: float = 0.25
    false_discovery: float = 0.01

    def __post_init__(self) -> None:
        if self.min_rows < FLOOR:
            raise ValueError(f"min_rows is {self.min_rows}, a verdict takes at least {FLOOR}")
        if not 0 < self.warning <= self.drifted:
            raise ValueError(f"warning {self.warning} must be above 0 and not above drifted {self.drifted}")
        if not 0 < self.false_discovery < 1:
            raise ValueError(f"false_discovery {self.false_discovery} is no share")


DEFAULT: Final = Rules()


@dataclass(slots=True, frozen=True, eq=False)
class Summary:
    """All columns of one window in a few numbers. Shape (...,) each; NaN while no column has data.

    judged: columns with a verdict; drifted, warned: of them; drifted_share: drifted / judged; headline: corrected PSI
    averaged by importance over judged columns, nats.
    """

    judged: NDArray[np.int64]
    drifted: NDArray[np.int64]
    warned: NDArray[np.int64]
    drifted_share: Floats
    headline: Floats


def levels(found: Measures, rules: Rules = DEFAULT) -> Levels:
    """The verdict of each column in each window by itself. Shape (..., columns): all columns of a look must be in."""
    judged = (found.n >= rules.min_rows) & (found.reference_n >= rules.min_rows)
    p_value = false_discovery.adjusted(np.where(judged, found.chi_square.p_value, np.nan))
    with np.errstate(invalid="ignore"):
        is_real = (p_value <= rules.false_discovery) & (found.psi.value > found.psi.noise)
        level = np.where(is_real & (found.psi.corrected >= rules.warning), Level.WARNING, Level.STABLE)
        level = np.where(is_real & (found.psi.corrected >= rules.drifted), Level.DRIFTED, level)
    return np.where(judged, level, Level.NO_DATA).astype(np.int8)


def persisted(history: Levels) -> Levels:
    """The verdict after up to three windows that follow each other without overlap. Shape (...,).

    history: shape (windows, ...), oldest first, each as `levels` gives it. DRIFTED takes two drifted windows of the
    last three; the newest alone warns. NO_DATA when the newest window has none; an older one without
    data supports nothing. Raises ValueError without a window.
    """
    if not len(history):
        raise ValueError("no window to judge")
    last = history[-WINDOWS:]
    newest = last[-1]
    second = np.sort(last, axis=0)[-2] if len(last) > 1 else np.full_like(newest, Level.STABLE)
    level = np.maximum(second, np.minimum(newest, Level.WARNING))
    return np.where(newest == Level.NO_DATA, Level.NO_DATA, level).astype(np.int8)


def summary(levels: Levels, corrected: Floats, importance: Floats | None = None) -> Summary:
    """levels, corrected: shape (..., columns), verdicts and corrected PSI.

    importance: shape (columns,); a column without one (NaN) or of negative importance weighs nothing, so that a useless
    column that drifts wakes nobody. All columns weigh the same when none has any.
    """
    judged = levels != Level.NO_DATA
    count = judged.sum(axis=-1)
    drifted = (levels == Level.DRIFTED).sum(axis=-1)
    weights = np.ones(levels.shape[-1]) if importance is None else np.fmax(importance, 0.0)
    if not weights.any():
        weights = np.ones_like(weights)
    weighed = np.where(judged, weights, 0.0)
    total = weighed.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = drifted / count
        headline = (weighed * np.where(judged, corrected, 0.0)).sum(axis=-1) / total
    return Summary(count, drifted, (levels == Level.WARNING).sum(axis=-1), share, headline)
