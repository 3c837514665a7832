from typing import Any

import numpy as np
import pytest

from kingmaker.publishing import parity
from kingmaker.publishing.errors import ParityFailed
from kingmaker.publishing.predictor import Predictions, spelled


def binary(*positive: float, labels: list[str] | None = None) -> Predictions:
    values = np.array([[1 - p, p] for p in positive])
    given = labels or ["1" if p > 0.5 else "0" for p in positive]
    return Predictions(values, np.array(given, dtype=object))


def numbers(*values: float) -> Predictions:
    return Predictions(np.array(values), None)


def test_the_worst_row_and_its_difference_are_found() -> None:
    result, worst = parity.compare(binary(0.2, 0.7, 0.9), binary(0.2, 0.701, 0.9004), 0.01)
    assert worst == 1
    assert result.max_abs_difference == pytest.approx(0.001)
    assert (result.rows, result.label_mismatches, result.tolerance) == (3, 0, 0.01)


def test_a_label_differs_only_where_scikit_learn_had_decided() -> None:
    tied = parity.compare(binary(0.500001), binary(0.499999), 1e-5)[0]
    decided = parity.compare(binary(0.6, labels=["1"]), binary(0.6, labels=["0"]), 1e-5)[0]
    assert (tied.label_mismatches, decided.label_mismatches) == (0, 1)


def test_numbers_are_compared_relative_to_their_size() -> None:
    assert parity.compare(numbers(1e6), numbers(1e6 + 1), 1e-5)[0].max_abs_difference == pytest.approx(1e-6)
    assert parity.compare(numbers(0.01), numbers(0.02), 1e-5)[0].max_abs_difference == pytest.approx(0.01)


def test_no_answer_is_infinitely_far_from_an_answer() -> None:
    assert parity.compare(numbers(1.0), numbers(float("nan")), 1e-5)[0].max_abs_difference == np.inf


def refuse(theirs: Predictions, ours: Predictions, **rows: Any) -> str:
    result, worst = parity.compare(theirs, ours, 1e-5)
    with pytest.raises(ParityFailed) as refusal:
        parity.require(
            result, theirs, ours, row=worst, rows={k: np.array(v) for k, v in rows.items()}, index=["mon", "tue"]
        )
    return str(refusal.value)


def test_the_refusal_shows_the_worst_row_with_both_answers() -> None:
    text = refuse(binary(0.1, 0.2), binary(0.1, 0.6), delay=[1.5, 2.5], carrier=["UA", "DL"])
    assert "differs from scikit-learn by 0.4 (tolerance 1e-05) with 1 other labels on 2 rows" in text
    assert "worst is row 'tue': scikit-learn 0 (0.8/0.2), ONNX 1 (0.4/0.6) for delay=2.5, carrier='DL'" in text


def test_another_label_alone_is_refused() -> None:
    text = refuse(binary(0.9, 0.8), binary(0.9, 0.8, labels=["1", "0"]), delay=[1.5, 2.5])
    assert "worst is row 'tue'" in text


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ParityFailed, match=r"shape \(1, 2\), the ONNX model in \(1,\)"):
        parity.compare(binary(0.5), numbers(0.5), 1e-5)


def test_at_most_so_many_rows_are_drawn_each_once() -> None:
    chosen = parity.chosen_rows(1000, np.random.default_rng(0), limit=100)
    assert len(set(chosen.tolist())) == 100
    assert parity.chosen_rows(7, np.random.default_rng(0)).tolist() == list(range(7))


@pytest.mark.parametrize(
    ("given", "text"),
    [([1, 0], ["1", "0"]), ([1.0, 0.0], ["1", "0"]), ([True, False], ["1", "0"]), (["a", "1"], ["a", "1"])],
)
def test_one_class_has_one_spelling(given: list[Any], text: list[str]) -> None:
    assert spelled(given).tolist() == text
