"""How good a model is on evaluation rows: metrics, calibration, importance. Of the converted model, since
that is the one that will answer. AUC of several classes: the mean over those present of one against the rest.
"""

from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from kingmaker.publishing.columns import Rows, take
from kingmaker.publishing.errors import BadLabels
from kingmaker.publishing.estimator import Model
from kingmaker.publishing.predictor import Predictions, Predictor, spelled
from kingmaker_contracts.profile import CalibrationBin

CALIBRATION_BINS: Final = 10
IMPORTANCE_ROWS: Final = 2_000
_TINY: Final = 1e-15
_LARGEST: Final = float(np.finfo(np.float32).max)


def labels_of(y: Any, rows: int, index: pd.Index, model: Model) -> NDArray[Any]:
    """The truth of each evaluation row, shape (rows,): strings as feedback spells them, or float64 for a
    regression. Raises BadLabels."""
    array = np.asarray(y)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise BadLabels(f"the evaluation labels have shape {array.shape}, expected one label a row")
    if len(array) != rows:
        raise BadLabels(f"there are {rows} evaluation rows but {len(array)} labels")
    missing = np.asarray(pd.isna(pd.Series(array, dtype=object)), dtype=bool)
    if missing.any():
        first = int(np.argmax(missing))
        raise BadLabels(
            f"{int(missing.sum())} of {rows} evaluation labels are missing (NaN), first at index {index[first]!r}"
        )
    if model.task == "regression":
        try:
            numbers = array.astype(np.float64)
        except (ValueError, TypeError) as error:
            raise BadLabels(f"the evaluation labels are not numbers, but the model is a regressor: {error}") from error
        if (odd := ~(np.abs(numbers) <= _LARGEST)).any():
            first = int(np.argmax(odd))
            raise BadLabels(
                f"evaluation label {numbers[first]:g} at index {index[first]!r} is no number of float32's range, "
                "which is all the model can answer"
            )
        return numbers
    labels = spelled(array)
    found = set(labels)
    if unknown := sorted(found - set(model.labels)):
        raise BadLabels(f"evaluation label {unknown[0]!r} is not one of the model's classes {', '.join(model.labels)}")
    if len(found) < 2:
        raise BadLabels(
            f"all {rows} evaluation labels are {labels[0]!r}: quality cannot be measured with one class only"
        )
    return labels


def metrics(model: Model, answers: Predictions, truth: NDArray[Any]) -> dict[str, float]:
    """auc, accuracy, log_loss, brier; or rmse, mae, r2."""
    if model.task == "regression":
        error = answers.score(0) - truth
        spread = float(((truth - truth.mean()) ** 2).sum())
        result = {"rmse": float(np.sqrt((error**2).mean())), "mae": float(np.abs(error).mean())}
        return result | ({"r2": 1 - float((error**2).sum()) / spread} if spread else {})
    values = np.asarray(answers.values, dtype=np.float64)
    hits = _one_hot(model, truth)
    # Binary: of the positive class alone, as scikit-learn's brier_score_loss; several classes: their sum.
    brier = ((values - hits) ** 2).sum(axis=1).mean() / (2 if model.task == "binary" else 1)
    return {
        "auc": auc(model, values, truth),
        "accuracy": float(np.mean(answers.labels == truth)),
        "log_loss": float(-np.log(np.clip((values * hits).sum(axis=1), _TINY, 1)).mean()),
        "brier": float(brier),
    }


def auc(model: Model, values: NDArray[Any], truth: NDArray[Any]) -> float:
    """values: probabilities (n, classes); truth holds at least two classes."""
    if model.task == "binary":
        return float(roc_auc_score(truth == model.positive, values[:, model.column]))
    present = [i for i, label in enumerate(model.labels) if (truth == label).any()]
    return float(np.mean([roc_auc_score(truth == model.labels[i], values[:, i]) for i in present]))


def calibration(model: Model, answers: Predictions, truth: NDArray[Any]) -> list[CalibrationBin]:
    """Ten bins of equal width over the score; empty ones are left out. Nothing for a regression."""
    if model.task == "regression":
        return []
    score = answers.score(model.column)
    positive = truth == model.positive
    place = np.clip((score * CALIBRATION_BINS).astype(int), 0, CALIBRATION_BINS - 1)
    masks = [place == i for i in range(CALIBRATION_BINS)]
    return [
        CalibrationBin(int(mask.sum()), float(score[mask].mean()), float(positive[mask].mean()))
        for mask in masks
        if mask.any()
    ]


def importance(
    model: Model, predictor: Predictor, rows: Rows, truth: NDArray[Any], rng: np.random.Generator
) -> dict[str, float]:
    """What shuffling one input costs: the drop of AUC, or the rise of RMSE. One shuffle of at most 2,000
    rows: enough to rank inputs, not to prove anything. Empty when the drawn rows hold one class."""
    chosen = rng.permutation(len(truth))[:IMPORTANCE_ROWS]
    rows, truth = take(rows, chosen), truth[chosen]
    if model.task != "regression" and len(set(truth)) < 2:
        return {}

    def goodness(candidate: Rows) -> float:
        answers = predictor.predict(candidate)
        if model.task == "regression":
            return -float(np.sqrt(((answers.score(0) - truth) ** 2).mean()))
        return auc(model, np.asarray(answers.values, dtype=np.float64), truth)

    base = goodness(rows)
    order = rng.permutation(len(truth))
    return {name: base - goodness(rows | {name: rows[name][order]}) for name in predictor.inputs}


def _one_hot(model: Model, truth: NDArray[Any]) -> NDArray[np.bool_]:
    return np.stack([np.asarray(truth == label, dtype=bool) for label in model.labels], axis=1)
