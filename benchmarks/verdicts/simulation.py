"""Many models that did not drift, and many of which one column did: what verdicts say of them.

Beside the product's verdict stands what two common rules would have said of the same counts: PSI above 0.2 with empty
bins filled up to 0.0001, and a chi-square test at 5 % for each column.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.verdicts.populations import NOTHING, Category, Change, Drawn, Number, Population, draw
from kingmaker_monitor.stats import drift, psi, shares
from kingmaker_monitor.stats.verdict import DEFAULT, Level, Rules, levels, persisted

WINDOWS: Final = 3
CHUNK: Final = 20
"""Models measured at once: more need more memory and are no faster."""
USUAL_PSI: Final = 0.2
USUAL_FLOOR: Final = 1e-4
USUAL_P: Final = 0.05


@dataclass(frozen=True, slots=True)
class Rate:
    """hits of trials."""

    hits: int
    trials: int

    @property
    def value(self) -> float:
        return self.hits / self.trials


@dataclass(frozen=True, slots=True)
class Alarms:
    """Of columns that did not change. n: live rows a window; m: training rows, or None beside the champion.

    Of columns in windows: no_data, warned (warning or more), drifted, and the two usual rules. Of models, all their
    columns together: any_warned, any_usual_psi, any_usual_p in the newest window, any_drifted after three windows.
    """

    n: int
    m: int | None
    columns: int
    no_data: Rate
    warned: Rate
    drifted: Rate
    usual_psi: Rate
    usual_p: Rate
    any_warned: Rate
    any_drifted: Rate
    any_usual_psi: Rate
    any_usual_p: Rate


@dataclass(frozen=True, slots=True)
class Power:
    """Of a column that changed, among others that did not. true_psi: as the function has it; warned, drifted: in the
    newest window; finally_drifted: after three."""

    n: int
    change: Change
    true_psi: float
    warned: Rate
    drifted: Rate
    finally_drifted: Rate


def model(columns: int) -> list[Population]:
    """Four numbers to one category; of those 3, 10, 30 and 100 values in turn."""
    values = (3, 10, 30, 100)
    return [Category(values[i // 5 % len(values)]) if i % 5 == 4 else Number() for i in range(columns)]


def false_alarms(
    seed: int, *, n: int, m: int = 10_000, columns: int = 50, looks: int = 1000, beside_champion: bool = False
) -> Alarms:
    """Three windows each of `looks` models of which no column changes."""
    dice = np.random.default_rng(seed)
    still = [(population, [NOTHING] * WINDOWS) for population in model(columns)]
    verdicts, by_psi, by_p = [], [], []
    for size in _chunks(looks):
        drawn = draw(dice, still, m=m, n=n, looks=size, beside_champion=beside_champion)
        found = drift.measure(drawn.layout, drawn.live, drawn.reference)
        verdicts.append(levels(found))
        by_psi.append(usual_psi(drawn) > USUAL_PSI)
        by_p.append(found.chi_square.p_value < USUAL_P)
    level = np.concatenate(verdicts, axis=1)
    too_far, too_rare = np.concatenate(by_psi, axis=1), np.concatenate(by_p, axis=1)
    return Alarms(
        n=n,
        m=None if beside_champion else m,
        columns=columns,
        no_data=_rate(level == Level.NO_DATA),
        warned=_rate(level >= Level.WARNING),
        drifted=_rate(level == Level.DRIFTED),
        usual_psi=_rate(too_far),
        usual_p=_rate(too_rare),
        any_warned=_rate((level[-1] >= Level.WARNING).any(axis=-1)),
        any_drifted=_rate((persisted(level) == Level.DRIFTED).any(axis=-1)),
        any_usual_psi=_rate(too_far[-1].any(axis=-1)),
        any_usual_p=_rate(too_rare[-1].any(axis=-1)),
    )


def power(
    seed: int,
    population: Population,
    changes: Sequence[Change],
    *,
    n: int,
    m: int = 10_000,
    columns: int = 20,
    looks: int = 300,
    rules: Rules = DEFAULT,
) -> Power:
    """Three windows each of `looks` models of which one column changes. changes: a change a window."""
    dice = np.random.default_rng(seed)
    others = [(other, [NOTHING] * WINDOWS) for other in model(columns)[1:]]
    parts = []
    for size in _chunks(looks):
        drawn = draw(dice, [(population, changes), *others], m=m, n=n, looks=size)
        parts.append(levels(drift.measure(drawn.layout, drawn.live, drawn.reference), rules)[..., 0])
    level = np.concatenate(parts, axis=1)
    return Power(
        n=n,
        change=changes[-1],
        true_psi=true_psi(population, changes[-1]),
        warned=_rate(level[-1] >= Level.WARNING),
        drifted=_rate(level[-1] == Level.DRIFTED),
        finally_drifted=_rate(persisted(level) == Level.DRIFTED),
    )


def true_psi(population: Population, change: Change, m: int = 10_000) -> float:
    """What corrected PSI becomes as live rows grow without end: its mean over trainings of m rows."""
    drawn = draw(np.random.default_rng(0), [(population, [change])], m=m, n=10**9, looks=200)
    return float(drift.measure(drawn.layout, drawn.live, drawn.reference).psi.corrected.mean())


def usual_psi(drawn: Drawn) -> NDArray[np.float64]:
    """PSI of shares that are at least 0.0001, over the same bins. Shape (windows, looks, columns)."""
    blocks = (drawn.layout.merged(block) for block in (drawn.reference, drawn.live))
    reference, live = (shares.plain(block) for block in blocks)
    is_used = (reference > 0) | (live > 0)
    return psi.of_shares(*(np.where(is_used, np.maximum(side, USUAL_FLOOR), 0.0) for side in (reference, live)))


def _chunks(looks: int) -> Iterator[int]:
    for start in range(0, looks, CHUNK):
        yield min(CHUNK, looks - start)


def _rate(hits: NDArray[np.bool_]) -> Rate:
    return Rate(int(hits.sum()), hits.size)
