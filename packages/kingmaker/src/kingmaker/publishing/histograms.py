"""What training rows look like: frozen histograms that live rows are held against for months. Pure.

Numbers get about 200 fine bins at quantiles, each edge a value that occurs, so that coarser bins can be
joined from them later without the rows. Wide models get fewer bins, since a profile may not exceed 1 MiB.
"""

from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from kingmaker_contracts import rare_categories
from kingmaker_contracts.profile import CategoricalReference, NumericReference

FINE_BINS: Final = 200
MIN_BINS: Final = 20
BIN_BUDGET: Final = 20_000
"""Bins of all numeric features together: about half of a profile's 1 MiB."""
MAX_DISCRETE: Final = 20
MAX_CATEGORIES: Final = 100
MAX_RARE: Final = 40_000
"""Rare categories of all features together: 213 kB of a profile's 1 MiB."""


def bins_for(numeric_features: int) -> int:
    """How many bins each of so many features gets."""
    return max(MIN_BINS, min(FINE_BINS, BIN_BUDGET // max(1, numeric_features)))


def numeric(values: NDArray[Any], bins: int = FINE_BINS) -> NumericReference:
    """A histogram of float values; NaN is missing. Infinities are not expected here.

    At most 20 distinct values: an edge at each but the last, so that every bin holds one value.
    """
    values = np.asarray(values, dtype=np.float64)
    present = values[~np.isnan(values)]
    missing = len(values) - len(present)
    if not len(present):
        return NumericReference([], [0], missing, None, None, None, None)
    distinct = np.unique(present)
    discrete = len(distinct) <= MAX_DISCRETE
    if discrete:
        edges = distinct[:-1]
    else:
        at = np.linspace(0, 1, bins + 1)[1:-1]
        edges = np.unique(np.quantile(present, at, method="inverted_cdf"))
        edges = edges[edges < distinct[-1]]
    counts = np.bincount(np.searchsorted(edges, present, side="left"), minlength=len(edges) + 1)
    return NumericReference(
        edges=[float(edge) for edge in edges],
        counts=[int(count) for count in counts],
        missing=missing,
        minimum=float(present.min()),
        maximum=float(present.max()),
        mean=float(present.mean()),
        std=float(present.std()),
        discrete=discrete,
    )


def categorical(values: NDArray[Any], most_rare: int = MAX_RARE) -> CategoricalReference:
    """Counts of strings, the commonest first; "" is missing. Up to 100 categories are named, the rest is other, and of
    up to most_rare of those it is kept which they are."""
    found, counts = np.unique(values.astype(str), return_counts=True) if len(values) else (np.array([]), np.array([]))
    pairs = [(str(name), int(count)) for name, count in zip(found, counts, strict=True)]
    missing = sum(count for name, count in pairs if name == "")
    ranked = sorted((pair for pair in pairs if pair[0] != ""), key=lambda pair: (-pair[1], pair[0]))
    named, rest = ranked[:MAX_CATEGORIES], ranked[MAX_CATEGORIES:]
    return CategoricalReference(
        categories=[name for name, _ in named],
        counts=[count for _, count in named],
        other=sum(count for _, count in rest),
        missing=missing,
        rare=rare_categories.of(name for name, _ in rest) if 0 < len(rest) <= most_rare else None,
    )


def within_budget(found: dict[str, CategoricalReference], most: int = MAX_RARE) -> dict[str, CategoricalReference]:
    """The same with the rare categories of as many features as fit, the features with the fewest first."""
    kept: dict[str, CategoricalReference] = {}
    for name, reference in sorted(found.items(), key=lambda item: _rare(item[1])):
        most -= _rare(reference)
        kept[name] = reference if most >= 0 else msgspec.structs.replace(reference, rare=None)
    return {name: kept[name] for name in found}


def _rare(reference: CategoricalReference) -> int:
    return 0 if reference.rare is None else reference.rare.count
