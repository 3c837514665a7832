"""What a scikit-learn object is: fitted or not, which task, which classes, which columns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
from numpy.typing import NDArray
from sklearn.base import is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from kingmaker.publishing.errors import BadLabels, BadValues, NotFitted, UnsupportedModel
from kingmaker.publishing.predictor import Predictions, spelled


@dataclass(slots=True, frozen=True)
class Model:
    """A fitted estimator, known well enough to publish.

    labels: the classes in the order of its probability columns, spelled as feedback spells them; empty
    for a regression. column: the probability that is the score; positive: its label.
    """

    estimator: Any
    task: Literal["binary", "multiclass", "regression"]
    labels: tuple[str, ...]
    column: int
    feature_names: tuple[str, ...] | None

    @property
    def positive(self) -> str | None:
        return self.labels[self.column] if self.labels else None

    def predict(self, frame: pd.DataFrame) -> Predictions:
        """scikit-learn's own answers. Raises BadValues when it cannot take the rows."""
        try:
            if self.task == "regression":
                return Predictions(_column(self.estimator.predict(frame)), None)
            return Predictions(self.estimator.predict_proba(frame), spelled(self.estimator.predict(frame)))
        except (ValueError, TypeError, KeyError) as error:
            raise BadValues(f"the model cannot predict the rows it was given: {_first_line(error)}") from error


def describe(estimator: Any, positive: str | int | bool | None = None) -> Model:
    """Read a fitted estimator. positive: the class the score speaks for; by default the second of two
    classes, the first of several. Raises NotFitted, UnsupportedModel, BadLabels."""
    if isinstance(estimator, type) or not hasattr(estimator, "fit") or not hasattr(estimator, "predict"):
        raise UnsupportedModel(f"{_named(estimator)} is not a fitted scikit-learn estimator with predict")
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        raise NotFitted(f"{_named(estimator)} is not fitted: call fit before publishing") from None
    # A search is published as what it found.
    estimator = getattr(estimator, "best_estimator_", estimator)
    names = getattr(estimator, "feature_names_in_", None)
    feature_names = None if names is None else tuple(str(name) for name in names)
    if is_regressor(estimator):
        if positive is not None:
            raise BadLabels(f"positive is {positive!r}, but {_named(estimator)} is a regressor and has no classes")
        return Model(estimator, "regression", (), 0, feature_names)
    if not is_classifier(estimator):
        raise UnsupportedModel(f"{_named(estimator)} is neither a classifier nor a regressor")
    if not hasattr(estimator, "predict_proba"):
        raise UnsupportedModel(f"{_named(estimator)} has no predict_proba: a classifier needs probabilities")
    if isinstance(estimator.classes_, list):
        raise UnsupportedModel(f"{_named(estimator)} predicts several outputs at once, which is not supported yet")
    labels = tuple(spelled(estimator.classes_))
    if len(labels) < 2:
        raise BadLabels(f"{_named(estimator)} was fitted with one class only ({labels[0]})")
    task: Literal["binary", "multiclass"] = "binary" if len(labels) == 2 else "multiclass"
    return Model(estimator, task, labels, _positive_column(labels, positive), feature_names)


def _positive_column(labels: Sequence[str], positive: str | int | bool | None) -> int:
    if positive is None:
        return 1 if len(labels) == 2 else 0
    wanted = spelled([positive])[0]
    if wanted not in labels:
        raise BadLabels(f"positive is {positive!r}, but the model's classes are {', '.join(labels)}")
    return labels.index(wanted)


def _column(values: NDArray[Any]) -> NDArray[Any]:
    if values.ndim == 2 and values.shape[1] != 1:
        raise UnsupportedModel(f"the model predicts {values.shape[1]} numbers a row, which is not supported yet")
    return values.reshape(-1)


def _named(estimator: Any) -> str:
    return estimator.__name__ if isinstance(estimator, type) else type(estimator).__name__


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:300]
