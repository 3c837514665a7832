"""Columns of a profile and what was counted of them, as evidence of drift. The statistics are `stats.drift` and
`stats.verdict`; this file knows the profile's bins on one side and the contract's words on the other."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from kingmaker_contracts.evidence import DriftVerdict, FeatureDrift
from kingmaker_monitor.binning import Binning
from kingmaker_monitor.stats import drift
from kingmaker_monitor.stats.layout import Layout
from kingmaker_monitor.stats.verdict import Level, levels

NO_DATA: Final = FeatureDrift(verdict="NoData", n=0)
VERDICTS: Final[dict[int, DriftVerdict]] = {
    Level.NO_DATA: "NoData",
    Level.STABLE: "Stable",
    Level.WARNING: "Warning",
    Level.DRIFTED: "Drifted",
}


def of_features(binning: Binning, block: NDArray[np.int64]) -> dict[str, FeatureDrift]:
    """Drift of each feature against training; one without a reference has no data. block: of binning.layout."""
    judged = _judged(binning.layout, block)
    known = dict(zip([name for name, _ in binning.known], judged, strict=True))
    return {name: known.get(name, NO_DATA) for name, _ in binning.columns}


def of_score(binning: Binning, block: NDArray[np.int64] | None) -> FeatureDrift:
    """Drift of the score against training, alone in its family of tests. block: of binning.score_layout."""
    if binning.score_layout is None or block is None:
        return NO_DATA
    return _judged(binning.score_layout, block)[0]


def number(value: np.float64) -> float | None:
    """A number that does not exist is null in evidence, never NaN."""
    return float(value) if np.isfinite(value) else None


def _judged(layout: Layout, block: NDArray[np.int64]) -> list[FeatureDrift]:
    found = drift.measure(layout, block)
    verdicts = levels(found)
    return [_evidence(found, verdicts, i) for i in range(len(layout.columns))]


def _evidence(found: drift.Measures, verdicts: NDArray[np.int8], i: int) -> FeatureDrift:
    n = int(found.n[i])
    if n == 0:
        return NO_DATA
    return FeatureDrift(
        verdict=VERDICTS[int(verdicts[i])],
        n=n,
        psi=number(found.psi.value[i]),
        psi_corrected=number(found.psi.corrected[i]),
        noise=number(found.psi.noise[i]),
        ks=number(found.ks.statistic[i]),
        missing=number(found.missing[i]),
    )
