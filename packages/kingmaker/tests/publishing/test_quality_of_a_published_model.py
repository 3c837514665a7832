"""Metrics against scikit-learn's own, which are written independently."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as oracle
from sklearn.linear_model import LinearRegression

from kingmaker.publishing import quality
from kingmaker.publishing.errors import BadLabels
from kingmaker.publishing.estimator import Model
from kingmaker.publishing.predictor import Predictions, Predictor, spelled

if TYPE_CHECKING:
    from packages.kingmaker.tests.publishing.conftest import Table

BINARY = Model(None, "binary", ("no", "yes"), 1, None)
SEVERAL = Model(None, "multiclass", ("a", "b", "c"), 0, None)
REGRESSION = Model(None, "regression", (), 0, None)


def answers(model: Model, count: int, seed: int) -> tuple[Predictions, Any]:
    rng = np.random.default_rng(seed)
    values = rng.dirichlet(np.ones(len(model.labels)), count)
    names = np.array(model.labels, dtype=object)
    truth = names[[rng.choice(len(names), p=row) for row in values]]
    return Predictions(values, names[values.argmax(axis=1)]), truth


def test_binary_metrics_are_those_of_scikit_learn() -> None:
    found, truth = answers(BINARY, 500, 0)
    assert quality.metrics(BINARY, found, truth) == pytest.approx(
        {
            "auc": oracle.roc_auc_score(truth, found.values[:, 1]),
            "accuracy": oracle.accuracy_score(truth, found.labels),
            "log_loss": oracle.log_loss(truth, found.values),
            "brier": oracle.brier_score_loss(truth, found.values[:, 1], pos_label="yes"),
        }
    )


def test_metrics_of_several_classes_are_those_of_scikit_learn() -> None:
    found, truth = answers(SEVERAL, 500, 1)
    measured = quality.metrics(SEVERAL, found, truth)
    assert measured["auc"] == pytest.approx(oracle.roc_auc_score(truth, found.values, multi_class="ovr"))
    assert measured["log_loss"] == pytest.approx(oracle.log_loss(truth, found.values))


def test_a_class_without_evaluation_rows_stays_out_of_the_auc() -> None:
    found, truth = answers(SEVERAL, 500, 1)
    keep = truth != "c"
    values, rest = found.values[keep], truth[keep]
    expected = np.mean([oracle.roc_auc_score(rest == label, values[:, i]) for i, label in enumerate("ab")])
    assert quality.auc(SEVERAL, values, rest) == pytest.approx(expected)


def test_a_certain_and_wrong_answer_costs_much_but_not_infinity() -> None:
    sure = Predictions(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array(["no", "yes"], dtype=object))
    assert 30 < quality.metrics(BINARY, sure, np.array(["yes", "no"], dtype=object))["log_loss"] < 40


def test_a_regression_is_measured_by_its_errors() -> None:
    found = Predictions(np.array([1.0, 2.0, 4.0]), None)
    truth = np.array([1.0, 3.0, 2.0])
    assert quality.metrics(REGRESSION, found, truth) == pytest.approx(
        {"rmse": np.sqrt(5 / 3), "mae": 1.0, "r2": oracle.r2_score(truth, found.values)}
    )


@pytest.mark.parametrize("label", [np.inf, -np.inf, "inf", 1e300, "nan"])
def test_a_label_that_makes_every_error_infinite_is_refused_by_its_row(label: Any) -> None:
    labels = pd.Series([1.0, label], index=["mon", "tue"], dtype=object)
    with pytest.raises(BadLabels, match=r"evaluation label .* at index 'tue' is no number of float32's range"):
        quality.labels_of(labels, 2, labels.index, REGRESSION)


def test_calibration_bins_hold_every_row_once() -> None:
    found, truth = answers(BINARY, 1000, 2)
    bins = quality.calibration(BINARY, found, truth)
    assert len(bins) == 10
    assert sum(b.count for b in bins) == 1000
    score = found.values[:, 1]
    inside = (score >= 0.3) & (score < 0.4)
    assert bins[3].count == inside.sum()
    assert bins[3].mean_score == pytest.approx(score[inside].mean())
    assert bins[3].positive_share == pytest.approx((truth[inside] == "yes").mean())


def test_a_score_of_one_is_in_the_last_calibration_bin_and_empty_bins_are_left_out() -> None:
    sure = Predictions(np.array([[0.0, 1.0], [1.0, 0.0]]), None)
    bins = quality.calibration(BINARY, sure, np.array(["yes", "no"], dtype=object))
    assert [(b.count, b.mean_score, b.positive_share) for b in bins] == [(1, 0.0, 0.0), (1, 1.0, 1.0)]


def test_importance_ranks_inputs_and_an_unused_one_is_worth_nothing() -> None:
    class Echo(Predictor):
        """Answers with the value of one input."""

        def __init__(self) -> None:
            self.inputs = ["used", "idle"]

        def predict(self, rows: dict[str, Any]) -> Predictions:
            p = rows["used"].astype(np.float64)
            return Predictions(np.stack([1 - p, p], axis=1), None)

    rng = np.random.default_rng(0)
    rows = {"used": rng.random(3000).astype(np.float32), "idle": rng.random(3000).astype(np.float32)}
    truth = np.where(rows["used"] > 0.5, "yes", "no").astype(object)
    found = quality.importance(BINARY, Echo(), rows, truth, np.random.default_rng(1))
    assert found["idle"] == 0
    assert found["used"] == pytest.approx(0.5, abs=0.06)


def test_labels_of_a_regression_are_numbers() -> None:
    index = pd.RangeIndex(2)
    assert quality.labels_of([1, 2.5], 2, index, REGRESSION).tolist() == [1.0, 2.5]
    with pytest.raises(BadLabels, match="the evaluation labels are not numbers"):
        quality.labels_of(["much", "little"], 2, index, REGRESSION)


def test_a_gate_on_auc_needs_a_classifier(table: "Table", published: Callable[..., Any]) -> None:
    numbers = ["delay", "miles flown"]
    model = LinearRegression().fit(table.train[numbers], table.train_label)
    with pytest.raises(BadLabels, match="min_auc is for classifiers"):
        published(
            model, reference=table.train[numbers], evaluation=(table.test[numbers], table.test_label), min_auc=0.5
        )


def test_spelling_survives_an_empty_list() -> None:
    assert spelled([]).tolist() == []
