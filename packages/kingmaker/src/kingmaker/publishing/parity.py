"""Does ONNX Runtime answer what scikit-learn answers? Pure: two sets of predictions in, a verdict out.

Probabilities are compared as they are; numbers of a regression relative to max(1, |value|), since float32
has 7 digits and no more. A differing label is a mismatch unless scikit-learn itself was undecided between
the two within the tolerance: then both answers are right.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kingmaker.publishing.columns import Rows
from kingmaker.publishing.errors import ParityFailed
from kingmaker.publishing.predictor import Predictions
from kingmaker_contracts.profile import Parity

MAX_ROWS = 20_000
MAX_MISSING_ROWS = 1_000


def chosen_rows(count: int, rng: np.random.Generator, limit: int = MAX_ROWS) -> NDArray[np.intp]:
    """All rows, or `limit` of them drawn without replacement, in order."""
    if count <= limit:
        return np.arange(count)
    return np.sort(rng.choice(count, limit, replace=False)).astype(np.intp)


def compare(theirs: Predictions, ours: Predictions, tolerance: float) -> tuple[Parity, int]:
    """scikit-learn's predictions against ONNX Runtime's: the record, and the position of the worst row."""
    expected, found = np.asarray(theirs.values, np.float64), np.asarray(ours.values, np.float64)
    if expected.shape != found.shape:
        raise ParityFailed(f"scikit-learn answers in shape {expected.shape}, the ONNX model in {found.shape}")
    difference = np.abs(expected - found)
    if expected.ndim == 1:
        difference /= np.maximum(1.0, np.abs(expected))
    else:
        difference = difference.max(axis=1)
    difference = np.where(np.isfinite(difference), difference, np.inf)
    worst = int(np.argmax(difference))
    mismatch = _mismatches(theirs, ours, tolerance)
    if mismatch.any() and difference[worst] <= tolerance:
        worst = int(np.argmax(mismatch))
    parity = Parity(
        rows=len(difference),
        max_abs_difference=float(difference.max()),
        tolerance=tolerance,
        label_mismatches=int(mismatch.sum()),
    )
    return parity, worst


def require(
    parity: Parity, theirs: Predictions, ours: Predictions, *, row: int, rows: Rows, index: Sequence[Any]
) -> None:
    """Raise ParityFailed when the two disagree, showing the worst row."""
    if parity.max_abs_difference <= parity.tolerance and not parity.label_mismatches:
        return
    values = ", ".join(f"{name}={_shown(column[row])}" for name, column in list(rows.items())[:12])
    raise ParityFailed(
        f"the ONNX model differs from scikit-learn by {parity.max_abs_difference:.3g} (tolerance {parity.tolerance:g}) "
        f"with {parity.label_mismatches} other labels on {parity.rows} rows; worst is row {index[row]!r}: "
        f"scikit-learn {_answer(theirs, row)}, ONNX {_answer(ours, row)} for {values}. "
        "Usual causes: categorical_features of HistGradientBoosting (use an encoder before it), a scaler before trees "
        "(drop it), missing strings (fill them with '' before fit)"
    )


def _mismatches(theirs: Predictions, ours: Predictions, tolerance: float) -> NDArray[np.bool_]:
    if theirs.labels is None or ours.labels is None:
        return np.zeros(len(theirs.values), dtype=bool)
    best = np.sort(theirs.values, axis=1)
    tied = best[:, -1] - best[:, -2] <= 2 * tolerance
    return np.asarray((theirs.labels != ours.labels) & ~tied, dtype=bool)


def _answer(predictions: Predictions, row: int) -> str:
    values = np.atleast_1d(predictions.values[row])
    text = "/".join(f"{value:.6g}" for value in values[:10])
    return text if predictions.labels is None else f"{predictions.labels[row]} ({text})"


def _shown(value: Any) -> str:
    return repr(str(value)) if isinstance(value, str) else f"{value:.7g}"
