"""Were evaluation rows training rows? Then their quality is no evidence. Pure.

Two signs, each with the same slack of 1 % of the evaluation rows (at least 3 rows):

index  rows with the same index label and the same values in both frames. Only looked at when the frames
       carry an index that means something, that is, not both the 0, 1, 2... of a fresh frame.
values rows whose values stand in the reference too. In tables of few distinct values that happens by chance
       (the same flight at the same hour next week), so what chance explains is allowed: the share of
       reference rows that have a twin among the other reference rows, plus three standard deviations.
       Where nearly every reference row has a twin, this sign says nothing, and the index alone can tell.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kingmaker.publishing.columns import Rows

SLACK_SHARE = 0.01
SLACK_ROWS = 3


@dataclass(slots=True, frozen=True)
class Overlap:
    """Evaluation rows that stand in the reference: by index and values, by values alone, and how many may by chance."""

    rows: int
    same_index: int
    same_values: int
    allowed_index: int
    allowed_values: int

    @property
    def is_suspicious(self) -> bool:
        return self.same_index > self.allowed_index or self.same_values > self.allowed_values

    @property
    def text(self) -> str:
        if self.same_index > self.allowed_index:
            return (
                f"{self.same_index} of {self.rows} evaluation rows have the index and the values of a reference row "
                f"(at most {self.allowed_index} are accepted)"
            )
        return (
            f"{self.same_values} of {self.rows} evaluation rows also stand in the reference rows "
            f"(at most {self.allowed_values} are explained by chance)"
        )


def overlap(reference: Rows, reference_index: pd.Index, evaluation: Rows, evaluation_index: pd.Index) -> Overlap:
    """Compare rows as served, all columns."""
    ours, theirs = _hashes(evaluation), _hashes(reference)
    n = len(ours)
    _, inverse, counts = np.unique(theirs, return_inverse=True, return_counts=True)
    twins = float((counts[inverse] > 1).mean())
    slack = max(SLACK_SHARE * n, SLACK_ROWS)
    return Overlap(
        rows=n,
        same_index=_same_index(theirs, reference_index, ours, evaluation_index),
        same_values=int(np.isin(ours, theirs).sum()),
        allowed_index=math.floor(slack),
        allowed_values=math.floor(twins * n + 3 * math.sqrt(n * twins * (1 - twins)) + slack),
    )


def _hashes(rows: Rows) -> NDArray[np.uint64]:
    return np.asarray(pd.util.hash_pandas_object(pd.DataFrame(rows), index=False), dtype=np.uint64)


def _same_index(
    theirs: NDArray[np.uint64],
    their_index: pd.Index,
    ours: NDArray[np.uint64],
    our_index: pd.Index,
) -> int:
    if _is_fresh(their_index) and _is_fresh(our_index):
        return 0
    left = pd.DataFrame({"label": our_index.to_numpy(), "hash": ours})
    right = pd.DataFrame({"label": their_index.to_numpy(), "hash": theirs})
    try:
        both = left.merge(right.drop_duplicates(), on=["label", "hash"])
    except (ValueError, TypeError):  # labels of different kinds name different rows
        return 0
    return len(both)


def _is_fresh(index: pd.Index) -> bool:
    return bool(np.array_equal(index.to_numpy(), np.arange(len(index)))) if index.dtype.kind in "iu" else False
