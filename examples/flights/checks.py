"""What must hold of rows before a model is fitted on them. A gate on AUC alone would pass a model of broken data."""

from typing import Final

import pandas as pd

from examples.flights.features import FEATURES, LABEL

LEAST_TRAINING: Final = 10_000
LEAST_HELD_OUT: Final = 1_000
LATE_SHARE: Final = (0.02, 0.5)
"""About 15 % of these flights come late. A share outside says that labels are, not flights."""


def faults(training: pd.DataFrame, held_out: pd.DataFrame) -> list[str]:
    """What is wrong, in words; empty: train. Both as `features.build` makes them."""
    found: list[str] = []
    for name, rows, least in (("training", training, LEAST_TRAINING), ("held-out", held_out, LEAST_HELD_OUT)):
        if len(rows) < least:
            found.append(f"{len(rows)} {name} rows, expected at least {least}")
            continue
        share = float(rows[LABEL].mean())
        if not LATE_SHARE[0] <= share <= LATE_SHARE[1]:
            low, high = LATE_SHARE
            found.append(f"{share:.1%} of the {name} rows are late, expected {low:.0%} to {high:.0%}")
        missing = rows[FEATURES].isna().sum()
        found += [f"{count} {name} rows have no {column}" for column, count in missing.items() if count]
    if len(training) and len(held_out) and held_out["dep_at"].min() < training["dep_at"].max():
        found.append(
            f"held-out flights begin at {held_out['dep_at'].min()}, training ends at {training['dep_at'].max()}; "
            "expected every held-out flight to be later"
        )
    return found
