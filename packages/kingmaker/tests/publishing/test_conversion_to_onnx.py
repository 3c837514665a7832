"""Which estimators become ONNX, that they then answer as scikit-learn does, and what is said of the others."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder, SplineTransformer, StandardScaler

from kingmaker.publishing import columns, parity
from kingmaker.publishing.convert import convert
from kingmaker.publishing.errors import BadLabels, BadValues, NotFitted, ParityFailed, TooBig, UnsupportedModel
from kingmaker.publishing.estimator import describe
from kingmaker.publishing.predictor import Predictor

if TYPE_CHECKING:
    from packages.kingmaker.tests.publishing.conftest import Table

NUMBERS = ["delay", "miles flown"]


def converted(estimator: Any, reference: pd.DataFrame) -> tuple[Any, Predictor, list[columns.Column]]:
    model = describe(estimator)
    known = columns.columns_of(reference)
    raw = convert(model.estimator, model.task != "regression", known, reference.head(2))
    return model, Predictor(raw, model.task != "regression"), known


def difference(estimator: Any, reference: pd.DataFrame, test: pd.DataFrame) -> float:
    model, predictor, known = converted(estimator, reference)
    result, _ = parity.compare(
        model.predict(columns.as_fitted(test, known)), predictor.predict(columns.served(test, known, "test")), 1e-5
    )
    assert result.label_mismatches == 0
    return result.max_abs_difference


def test_numbers_and_strings_are_one_input_each_under_their_own_names(
    table: "Table", mixed: Callable[..., Any]
) -> None:
    pipeline = mixed().fit(table.train, table.train_label)
    _, predictor, _ = converted(pipeline, table.train)
    assert predictor.inputs == ["delay", "miles flown", "carrier"]
    assert [(o.name, o.datatype, o.shape) for o in predictor.outputs] == [
        ("label", "INT64", [-1]),
        ("probabilities", "FP32", [-1, 2]),
    ]
    assert difference(pipeline, table.train, table.test) < 1e-6


@pytest.mark.parametrize(
    "name", [int, lambda v: ["late", "on time"][v], bool, float], ids=["int", "str", "bool", "float"]
)
def test_labels_may_be_numbers_strings_or_booleans(
    table: "Table", mixed: Callable[..., Any], name: Callable[[int], Any]
) -> None:
    renamed = table.with_labels(name)
    assert difference(mixed().fit(table.train, renamed.train_label), table.train, table.test) < 1e-6


@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(),
        RandomForestClassifier(5, random_state=0),
        HistGradientBoostingClassifier(max_iter=10),
        Pipeline([("model", LogisticRegression())]),
        make_pipeline(StandardScaler(), LogisticRegression()),
        GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2),
        LinearRegression(),
        make_pipeline(StandardScaler(), LinearRegression()),
    ],
    ids=lambda e: type(e).__name__,
)
def test_estimators_need_no_column_transformer(table: "Table", estimator: Any) -> None:
    estimator.fit(table.train[NUMBERS], table.train_label)
    assert difference(estimator, table.train[NUMBERS], table.test[NUMBERS]) < 1e-5


def test_several_classes_convert(table: "Table", mixed: Callable[..., Any]) -> None:
    labels = np.digitize(table.train["delay"], [-0.5, 0.5])
    assert difference(mixed().fit(table.train, labels), table.train, table.test) < 1e-6


def test_a_column_no_step_reads_is_no_input(table: "Table") -> None:
    only = ColumnTransformer([("numbers", StandardScaler(), NUMBERS)])
    pipeline = Pipeline([("columns", only), ("model", LogisticRegression())]).fit(table.train, table.train_label)
    _, predictor, _ = converted(pipeline, table.train)
    assert predictor.inputs == NUMBERS


def test_missing_numbers_convert_where_the_model_takes_them(table: "Table") -> None:
    train, test = table.train[NUMBERS].copy(), table.test[NUMBERS].copy()
    train.iloc[::7, 0] = np.nan
    test.iloc[::5, 0] = np.nan
    model = HistGradientBoostingClassifier(max_iter=20, random_state=0).fit(train, table.train_label)
    assert [c.nullable for c in columns.columns_of(train)] == [True, False]
    assert difference(model, train, test) < 1e-6


def test_missing_numbers_are_refused_where_the_model_does_not_take_them(
    table: "Table", published: Callable[..., Any]
) -> None:
    model = LogisticRegression().fit(table.train[NUMBERS], table.train_label)
    holes = table.train[NUMBERS].copy()
    holes.iloc[3, 0] = np.nan
    with pytest.raises(BadValues, match="the model cannot predict the rows it was given: Input X contains NaN"):
        published(model, reference=holes, evaluation=(table.test[NUMBERS], table.test_label))


def test_categorical_features_of_boosting_convert_wrongly_and_are_refused(
    published: Callable[..., Any],
) -> None:
    rng = np.random.default_rng(0)

    def sample(count: int) -> tuple[pd.DataFrame, Any]:
        frame = pd.DataFrame({"delay": rng.normal(size=count), "carrier": rng.integers(0, 12, count)})
        odd = frame["carrier"].isin([1, 4, 6, 11])
        return frame.astype(np.float32), (odd ^ (rng.random(count) < 0.1)).astype(int)

    (train, labels), test = sample(3000), sample(1000)
    model = HistGradientBoostingClassifier(categorical_features=[1], max_iter=20).fit(train, labels)
    with pytest.raises(ParityFailed, match="categorical_features of HistGradientBoosting"):
        published(model, reference=train, evaluation=test)
    encoder = ColumnTransformer([("carrier", OrdinalEncoder(), ["carrier"])], remainder="passthrough")
    right = Pipeline([("columns", encoder), ("model", HistGradientBoostingClassifier(max_iter=20))]).fit(train, labels)
    assert difference(right, train, test[0]) < 1e-5


def test_a_scaler_in_front_of_trees_is_refused_when_it_moves_rows_across_thresholds(
    published: Callable[..., Any],
) -> None:
    rng = np.random.default_rng(0)

    def sample(count: int) -> tuple[pd.DataFrame, Any]:
        frame = pd.DataFrame({"a": rng.integers(0, 300, count), "b": rng.normal(size=count)}).astype(np.float32)
        return frame, (frame["a"] % 7 > 3).astype(int)

    (train, labels), test = sample(5000), sample(4000)
    model = make_pipeline(StandardScaler(), HistGradientBoostingClassifier(max_iter=60)).fit(train, labels)
    with pytest.raises(ParityFailed, match="a scaler before trees"):
        published(model, reference=train, evaluation=test)


@pytest.mark.parametrize(
    ("estimator", "error", "text"),
    [
        (LogisticRegression(), NotFitted, "LogisticRegression is not fitted: call fit before publishing"),
        (make_pipeline(StandardScaler(), LogisticRegression()), NotFitted, "Pipeline is not fitted"),
        (LogisticRegression, UnsupportedModel, "LogisticRegression is not a fitted scikit-learn estimator"),
        ({"model": 1}, UnsupportedModel, "dict is not a fitted scikit-learn estimator"),
    ],
    ids=str,
)
def test_what_is_not_a_fitted_estimator_is_refused(estimator: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        describe(estimator)


@pytest.mark.parametrize(
    ("estimator", "text"),
    [
        (RidgeClassifier(), "RidgeClassifier has no predict_proba"),
        (KMeans(2, n_init=1), "KMeans is neither a classifier nor a regressor"),
    ],
    ids=str,
)
def test_estimators_without_probabilities_or_a_task_are_refused(table: "Table", estimator: Any, text: str) -> None:
    with pytest.raises(UnsupportedModel, match=text):
        describe(estimator.fit(table.train[NUMBERS], table.train_label))


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (SplineTransformer(), r"step 'columns.numbers' \(SplineTransformer\) has no ONNX form"),
        (FunctionTransformer(np.abs), r"step 'columns.numbers' \(FunctionTransformer\) calls a Python function"),
    ],
    ids=["spline", "function"],
)
def test_a_step_without_onnx_form_is_named(table: "Table", step: Any, text: str) -> None:
    only = ColumnTransformer([("numbers", step, NUMBERS)])
    pipeline = Pipeline([("columns", only), ("model", LogisticRegression())]).fit(table.train, table.train_label)
    with pytest.raises(UnsupportedModel, match=text):
        converted(pipeline, table.train)


def test_several_numbers_a_row_are_not_supported_yet(table: "Table") -> None:
    labels = np.stack([table.train_label, table.train_label], axis=1)
    model = describe(LinearRegression().fit(table.train[NUMBERS], labels))
    with pytest.raises(UnsupportedModel, match="predicts 2 numbers a row, which is not supported yet"):
        model.predict(table.test[NUMBERS])


def test_a_model_beyond_the_limit_is_refused(table: "Table") -> None:
    model = RandomForestClassifier(20, random_state=0).fit(table.train[NUMBERS], table.train_label)
    with pytest.raises(TooBig, match=r"the model is .* MB as ONNX, more than the 0.1 MB"):
        convert(model, True, columns.columns_of(table.train[NUMBERS]), table.train[NUMBERS].head(2), limit=100_000)


def test_the_positive_class_can_be_chosen_and_must_exist(table: "Table", mixed: Callable[..., Any]) -> None:
    renamed = table.with_labels(lambda v: ["early", "late"][v])
    pipeline = mixed().fit(table.train, renamed.train_label)
    assert describe(pipeline).positive == "late"
    assert describe(pipeline, positive="early").column == 0
    with pytest.raises(BadLabels, match="positive is 'never', but the model's classes are early, late"):
        describe(pipeline, positive="never")


def test_the_profile_of_a_converted_model_says_what_may_be_missing(
    table: "Table", mixed: Callable[..., Any], published: Callable[..., Any], registry_uri: str
) -> None:
    train = table.train.copy()
    train.loc[::9, "carrier"] = ""
    pipeline = mixed().fit(train, table.train_label)
    version = published(pipeline, reference=train, name="nullable")
    client = MlflowClient(registry_uri, registry_uri)
    folder = client.get_model_version_download_uri("nullable", str(version.version))
    profile = json.loads((Path(folder) / "kingmaker" / "profile.json").read_text())
    assert {f["name"]: f["nullable"] for f in profile["inputs"]} == {
        "delay": False,
        "miles flown": False,
        "carrier": True,
    }
    assert profile["reference"]["categorical"]["carrier"]["missing"] == len(train.loc[::9])
