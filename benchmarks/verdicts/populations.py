"""Columns whose true distribution is known, drawn as counts and never as rows.

What training's own chance does is drawn too. A number's bins are cut at quantiles of m training rows, so each
holds m / bins of them and its true share varies from one training to the next (Dirichlet, the law of
spacings); live rows then fall into bins by their true shares. A category's training counts are a multinomial sample.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from kingmaker_monitor.stats.layout import Categorical, Column, Layout, Numeric

FINE_BINS: Final = 200

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to a column after training. Nothing, by default.

    shift: of the mean, and spread: of the deviation, in training deviations; missing: live share without a value;
    new: live share of categories training never saw; swapped: share of rows that leaves the commonest category for
    the rarest.
    """

    shift: float = 0.0
    spread: float = 1.0
    missing: float = 0.01
    new: float = 0.0
    swapped: float = 0.0


NOTHING: Final = Change()


@dataclass(frozen=True, slots=True)
class Number:
    """Normally distributed, 1 % missing."""

    def column(self, m: int) -> Column:
        edges = ndtri(np.arange(1, FINE_BINS) / FINE_BINS)
        missing = round(m * NOTHING.missing)
        reference = np.append(_even(m - missing), [missing, 0, 0])
        return Numeric(edges, reference, -4.0, 4.0, 1.0)

    def draw(
        self, dice: np.random.Generator, m: int, n: int, looks: int, changes: Sequence[Change]
    ) -> tuple[Counts, Counts]:
        """Training counts of shape (looks, slots) and live ones of shape (looks, windows, slots): a change a window."""
        missing = dice.binomial(m, NOTHING.missing, looks)
        reference = np.stack([np.append(_even(m - gone), [gone, 0, 0]) for gone in missing])
        cuts = np.cumsum(dice.dirichlet(np.full(FINE_BINS, m / FINE_BINS), looks), axis=-1)[:, :-1]
        at = ndtri(np.clip(cuts, 1e-15, 1 - 1e-15))
        live = np.zeros((looks, len(changes), FINE_BINS + 3), np.int64)
        for window, change in enumerate(changes):
            up_to = ndtr((at - change.shift) / change.spread)
            shares = np.diff(up_to, axis=-1, prepend=0.0, append=1.0)
            live[:, window, : FINE_BINS + 1] = dice.multinomial(n, _with(shares, change.missing))
        return reference, live


@dataclass(frozen=True, slots=True)
class Category:
    """Categories whose shares fall like 1, 1/2, 1/3 and so on, 1 % missing."""

    categories: int

    @property
    def shares(self) -> Floats:
        weights = 1 / np.arange(1, self.categories + 1)
        found: Floats = weights / weights.sum()
        return found

    def column(self, m: int) -> Column:
        counts = np.round(self.shares * m * (1 - NOTHING.missing)).astype(np.int64)
        return Categorical(np.append(counts, [0, 0, round(m * NOTHING.missing)]))

    def draw(
        self, dice: np.random.Generator, m: int, n: int, looks: int, changes: Sequence[Change]
    ) -> tuple[Counts, Counts]:
        """Training counts of shape (looks, slots) and live ones of shape (looks, windows, slots): a change a window."""
        reference = dice.multinomial(m, self._slots(NOTHING), looks)
        return reference, np.stack([dice.multinomial(n, self._slots(change), looks) for change in changes], axis=1)

    def _slots(self, change: Change) -> Floats:
        """Shares of categories, other, new and missing."""
        shares = self.shares
        shares[0] -= change.swapped
        shares[-1] += change.swapped
        return _with(np.concatenate([shares * (1 - change.new), [0.0, change.new]]), change.missing)


Population = Number | Category


@dataclass(frozen=True, slots=True)
class Drawn:
    """Blocks for `drift.measure`: live of shape (windows, looks, columns, slots), reference one window of it."""

    layout: Layout
    reference: Counts
    live: Counts


def draw(
    dice: np.random.Generator,
    columns: Sequence[tuple[Population, Sequence[Change]]],
    *,
    m: int,
    n: int,
    looks: int,
    beside_champion: bool = False,
) -> Drawn:
    """Training rows and live windows of some models, independent of each other.

    columns: each with its change in every window; m: training rows; n: live rows a window; looks: how many models.
    beside_champion: the reference is what the champion, unchanged, saw in the first window: n rows in the same bins.
    """
    layout = Layout([population.column(m) for population, _ in columns])
    windows = len(columns[0][1])
    live = np.zeros((windows, looks, len(columns), layout.slots), np.int64)
    reference = np.zeros((1, looks, len(columns), layout.slots), np.int64)
    for i, (population, changes) in enumerate(columns):
        drawn = population.draw(dice, m, n, looks, [NOTHING, *changes] if beside_champion else changes)
        trained, seen = drawn[0], np.moveaxis(drawn[1], 1, 0)
        if beside_champion:
            trained, seen = seen[0], seen[1:]
        live[:, :, i, layout.places(i)] = seen
        reference[0][:, i, layout.places(i)] = trained
    return Drawn(layout, reference, live)


def _with(shares: Floats, missing: float) -> Floats:
    """Shares of values, and behind them that of missing ones; they sum to 1."""
    whole = np.concatenate([shares * (1 - missing), np.full((*shares.shape[:-1], 1), missing)], axis=-1)
    found: Floats = whole / whole.sum(axis=-1, keepdims=True)
    return found


def _even(rows: int) -> Counts:
    """Rows in fine bins as quantiles cut them."""
    up_to = np.linspace(0, rows, FINE_BINS + 1).astype(np.int64)
    return up_to[1:] - up_to[:-1]
