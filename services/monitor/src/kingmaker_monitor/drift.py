"""Which statistic looks at which column, and what it takes to call a column drifted.

Effect and significance together: PSI must reach the threshold and exceed what noise alone makes. One
without the other calls either every large sample or every small one drifted. Below MIN_ROWS the numbers
are shown and the verdict is NoData.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from kingmaker_contracts.evidence import DriftVerdict, FeatureDrift
from kingmaker_monitor.binning import Column, Numeric
from kingmaker_monitor.stats import psi, two_sample

MIN_ROWS: Final = 500
WARNING: Final = 0.1
DRIFTED: Final = 0.25
NO_DATA: Final = FeatureDrift(verdict="NoData", n=0)


def of_column(column: Column, counts: NDArray[np.int64]) -> FeatureDrift:
    """Drift of one column. counts: as `column.count` gives them.

    PSI sees ten bins merged by training quantiles (a category each its own, unseen ones with the rare ones),
    and missing values as a bin of their own, so that a column that goes missing is drift. KS is numeric only.
    """
    live, missing = counts[: column.bins], int(counts[column.size - 1])
    if isinstance(column, Numeric):
        missing = int(counts[column.bins])
    else:
        live = np.append(live[:-1], live[-1] + counts[column.bins])  # new ones are as rare as the rare ones
    n = int(live.sum()) + missing
    if n == 0:
        return NO_DATA
    reference = column.reference
    merged_reference, merged = reference, live
    ks = None
    if isinstance(column, Numeric):
        plan = psi.merge_plan(reference)
        merged_reference, merged = psi.merge(reference, plan), psi.merge(live, plan)
        ks = two_sample.kolmogorov_smirnov(reference, live)
    found = psi.of_counts(np.append(merged_reference, column.missing), np.append(merged, missing))
    if found is None:
        return FeatureDrift(verdict="NoData", n=n, ks=ks, missing=missing / n)
    return FeatureDrift(
        verdict=verdict(n, found),
        n=n,
        psi=found.value,
        psi_corrected=found.corrected,
        noise=found.noise,
        ks=ks,
        missing=missing / n,
    )


def verdict(n: int, found: psi.Psi) -> DriftVerdict:
    """n: live rows."""
    if n < MIN_ROWS:
        return "NoData"
    if found.value <= found.noise or found.value < WARNING:
        return "Stable"
    return "Drifted" if found.value >= DRIFTED else "Warning"
