"""A real registry for the session (making its database takes seconds), and rows and pipelines to publish."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from kingmaker.publishing.publisher import Published, publish


@dataclass
class Table:
    """Training and held-out rows with labels. Numbers are continuous, so no row occurs twice."""

    train: pd.DataFrame
    train_label: Any
    test: pd.DataFrame
    test_label: Any

    def with_labels(self, name: Callable[[int], Any]) -> "Table":
        def renamed(labels: Any) -> "pd.Series[Any]":
            return pd.Series([name(int(v)) for v in labels])

        return Table(self.train, renamed(self.train_label), self.test, renamed(self.test_label))


def rows(count: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "delay": rng.normal(size=count).astype(np.float32),
            "miles flown": rng.gamma(2.0, 300.0, size=count).astype(np.float32),
            "carrier": rng.choice(["UA", "B6", "DL"], count),
        }
    )


def truth(frame: pd.DataFrame, seed: int) -> "np.ndarray[Any, Any]":
    rng = np.random.default_rng(seed)
    signal = frame["delay"] + (frame["carrier"] == "UA") + frame["miles flown"] / 1000
    return (signal + rng.normal(size=len(frame)) > 1).astype(int).to_numpy()


@pytest.fixture
def table() -> Table:
    train, test = rows(600, 1), rows(300, 2)
    return Table(train, truth(train, 3), test, truth(test, 4))


def mixed_pipeline(model: Any = None) -> Pipeline:
    columns = ColumnTransformer(
        [
            ("numbers", StandardScaler(), ["delay", "miles flown"]),
            ("names", OneHotEncoder(handle_unknown="ignore"), ["carrier"]),
        ]
    )
    return Pipeline([("columns", columns), ("model", model or LogisticRegression())])


@pytest.fixture
def mixed() -> Callable[..., Pipeline]:
    return mixed_pipeline


@pytest.fixture(scope="session")
def registry_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('registry') / 'mlflow.db'}"


@pytest.fixture
def published(table: Table, registry_uri: str) -> Callable[..., Published]:
    """publish(...) with the table's rows; arguments given replace the usual ones."""

    def call(pipeline: Any, **changed: Any) -> Published:
        usual: dict[str, Any] = {
            "reference": table.train,
            "evaluation": (table.test, table.test_label),
            "name": "delays",
            "registry": registry_uri,
        }
        return publish(pipeline, **(usual | changed))

    return call


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Boosting's threads wait for each other by spinning: slow where other tests want the cores too."""
    with threadpool_limits(1):
        yield
