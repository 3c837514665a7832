from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kingmaker.publishing.shared_rows import Overlap, overlap


def found(reference: pd.DataFrame, evaluation: pd.DataFrame) -> Overlap:
    def served(frame: pd.DataFrame) -> dict[str, np.ndarray[Any, Any]]:
        return {str(name): column.to_numpy() for name, column in frame.items()}

    return overlap(served(reference), reference.index, served(evaluation), evaluation.index)


def continuous(count: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"a": rng.normal(size=count).astype(np.float32), "b": rng.choice(["x", "y"], count)})


def coarse(count: int, seed: int) -> pd.DataFrame:
    """Rows of few distinct values: strangers look alike."""
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"a": rng.integers(0, 40, count).astype(np.float32), "b": rng.choice(["x", "y"], count)})


def test_rows_never_seen_are_not_suspicious() -> None:
    assert found(continuous(1000, 1), continuous(500, 2)) == Overlap(500, 0, 0, 5, 5)


@pytest.mark.parametrize("make", [continuous, coarse])
def test_a_split_of_one_table_is_not_suspicious(make: Callable[[int, int], pd.DataFrame]) -> None:
    whole = make(3000, 3)
    assert not found(whole.iloc[:2000], whole.iloc[2000:]).is_suspicious
    shuffled = whole.sample(frac=1, random_state=0)
    assert not found(shuffled.iloc[:2000], shuffled.iloc[2000:]).is_suspicious


@pytest.mark.parametrize("make", [continuous, coarse])
def test_training_rows_among_the_evaluation_rows_are_told_by_their_index(
    make: Callable[[int, int], pd.DataFrame],
) -> None:
    whole = make(3000, 3)
    result = found(whole.iloc[:2000], whole.iloc[1950:])
    assert result.is_suspicious
    assert result.same_index == 50
    assert "50 of 1050 evaluation rows have the index and the values of a reference row" in result.text


def test_training_rows_are_told_by_their_values_when_the_index_says_nothing() -> None:
    whole = continuous(3000, 3)
    result = found(whole.iloc[:2000], whole.iloc[1980:].reset_index(drop=True))
    assert (result.is_suspicious, result.same_values) == (True, 20)
    assert "20 of 1020 evaluation rows also stand in the reference rows" in result.text


def test_evaluating_on_the_training_rows_is_told_although_strangers_look_alike() -> None:
    rng = np.random.default_rng(0)
    train = pd.DataFrame({"a": rng.integers(0, 4000, 2000).astype(np.float32)})
    result = found(train, train.sample(frac=1, random_state=1).reset_index(drop=True))
    assert result.same_values == 2000
    assert result.allowed_values < 1000
    assert result.is_suspicious


def test_three_shared_rows_are_accepted_even_among_few() -> None:
    whole = continuous(60, 3)
    assert not found(whole.iloc[:43], whole.iloc[40:]).is_suspicious
    assert found(whole.iloc[:44], whole.iloc[40:]).is_suspicious


def test_equal_index_labels_of_other_rows_are_no_sign() -> None:
    train, test = continuous(500, 1), continuous(500, 2)
    train.index = test.index = pd.Index([f"flight {i}" for i in range(500)])
    assert found(train, test).same_index == 0
