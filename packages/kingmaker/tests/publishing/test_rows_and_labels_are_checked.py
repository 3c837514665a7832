from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from kingmaker.publishing import columns
from kingmaker.publishing.errors import BadLabels, BadValues, ColumnMismatch, PublishError, UnsupportedColumn

if TYPE_CHECKING:
    from packages.kingmaker.tests.publishing.conftest import Table


@pytest.mark.parametrize(
    ("values", "kind", "nullable"),
    [
        ([1, 2], "numeric", False),
        ([True, False], "numeric", False),
        ([1.5, None], "numeric", True),
        (pd.array([1, None], dtype="Int64"), "numeric", True),
        (["a", "b"], "categorical", False),
        (["a", ""], "categorical", True),
        (["a", None], "categorical", True),
        (pd.Categorical(["a", "b"]), "categorical", False),
        (pd.Series(["a", "b"], dtype=object), "categorical", False),
    ],
    ids=str,
)
def test_a_column_is_numbers_or_strings_and_knows_whether_it_misses_values(
    values: Any, kind: str, nullable: bool
) -> None:
    (column,) = columns.columns_of(pd.DataFrame({"x": values}))
    assert (column.kind, column.nullable) == (kind, nullable)
    assert column.datatype == ("FP32" if kind == "numeric" else "BYTES")


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (pd.to_datetime(["2013-01-01"]), r"column 'x' has type datetime64\[.*\]; numbers, booleans and strings"),
        ([1 + 2j], "column 'x' has type complex128"),
        (pd.Series(["a", 7], dtype=object), r"column 'x' holds 7 \(int\), expected only strings or only numbers"),
        (pd.Categorical([1, 2]), "column 'x' is a category of int64; only categories of strings"),
    ],
    ids=str,
)
def test_a_column_of_another_type_is_named(values: Any, text: str) -> None:
    with pytest.raises(UnsupportedColumn, match=text):
        columns.columns_of(pd.DataFrame({"x": values}))


def test_values_are_served_as_float32_and_text() -> None:
    frame = pd.DataFrame({"n": pd.array([1, None], dtype="Int64"), "b": [True, False], "s": ["a", None]})
    rows = columns.served(frame, columns.columns_of(frame), "these rows")
    assert {name: values.dtype for name, values in rows.items()} == {"n": np.float32, "b": np.float32, "s": object}
    assert rows["n"][0] == 1
    assert np.isnan(rows["n"][1])
    assert rows["b"].tolist() == [1.0, 0.0]
    assert rows["s"].tolist() == ["a", ""]
    assert columns.missing_rows(rows).tolist() == [False, True]


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e300])
def test_an_infinity_names_column_and_row(value: float) -> None:
    frame = pd.DataFrame({"x": [1.0, value]}, index=["mon", "tue"])
    with pytest.raises(BadValues, match=r"column 'x' holds an infinity .* in these rows, row 'tue'"):
        columns.served(frame, columns.columns_of(frame), "these rows")


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (
            lambda f: f.drop(columns=["carrier", "delay"]),
            ColumnMismatch,
            "evaluation lacks columns 'delay', 'carrier'$",
        ),
        (lambda f: f.assign(gate=1), ColumnMismatch, "evaluation has column 'gate', which the model was not fitted"),
        (
            lambda f: f.rename(columns={"delay": "Delay"}),
            ColumnMismatch,
            "evaluation lacks column 'delay' and has column 'Delay'",
        ),
        (lambda f: f.head(0), ColumnMismatch, "evaluation has no rows"),
        (lambda f: f.to_numpy(), ColumnMismatch, "evaluation is a ndarray, expected a pandas DataFrame"),
        (lambda f: f.rename(columns={"delay": 7}), ColumnMismatch, "evaluation: column name 7 is not a string"),
        (
            lambda f: f.rename(columns={"delay": "carrier"}),
            ColumnMismatch,
            "evaluation: column 'carrier' stands twice",
        ),
        (
            lambda f: f.assign(delay=f["delay"].astype(str)),
            UnsupportedColumn,
            "column 'delay' is numeric in the reference rows, categorical in the evaluation rows",
        ),
        (
            lambda f: f.assign(delay=f["delay"].where(f.index != 5)),
            BadValues,
            "column 'delay' misses 1 values in the evaluation rows but none in the reference rows",
        ),
    ],
)
def test_evaluation_rows_that_do_not_fit_are_refused(
    table: "Table",
    mixed: Callable[..., Any],
    published: Callable[..., Any],
    change: Any,
    error: type[Exception],
    text: str,
) -> None:
    pipeline = mixed().fit(table.train, table.train_label)
    frame = change(table.test)
    with pytest.raises(error, match=text):
        published(pipeline, evaluation=(frame, table.test_label[: len(frame)]))


def test_columns_in_another_order_are_put_right(
    table: "Table", mixed: Callable[..., Any], published: Callable[..., Any]
) -> None:
    pipeline = mixed().fit(table.train, table.train_label)
    turned = table.test[["carrier", "miles flown", "delay"]]
    again = published(pipeline, evaluation=(turned, table.test_label), name="order")
    assert again.metrics == published(pipeline, name="order").metrics


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (lambda y: y[:-1], "there are 300 evaluation rows but 299 labels"),
        (
            lambda y: np.where(np.arange(len(y)) % 100 == 7, np.nan, y),
            r"3 of 300 evaluation labels are missing \(NaN\), first at index 7",
        ),
        (lambda y: y * 0, "all 300 evaluation labels are '0': quality cannot be measured with one class only"),
        (lambda y: y + 1, "evaluation label '2' is not one of the model's classes 0, 1"),
        (lambda y: np.stack([y, y], axis=1), r"the evaluation labels have shape \(300, 2\)"),
    ],
)
def test_labels_that_measure_nothing_are_refused(
    table: "Table", mixed: Callable[..., Any], published: Callable[..., Any], labels: Any, text: str
) -> None:
    pipeline = mixed().fit(table.train, table.train_label)
    with pytest.raises(BadLabels, match=text):
        published(pipeline, evaluation=(table.test, labels(table.test_label)))


def test_evaluation_is_rows_and_labels(
    table: "Table", mixed: Callable[..., Any], published: Callable[..., Any]
) -> None:
    pipeline = mixed().fit(table.train, table.train_label)
    with pytest.raises(BadLabels, match=r"evaluation is \(rows, labels\)"):
        published(pipeline, evaluation=table.test)


def test_a_string_that_scikit_learn_sees_missing_is_refused_where_the_server_would_see_text(
    table: "Table", mixed: Callable[..., Any], published: Callable[..., Any]
) -> None:
    train = table.train.copy()
    train.loc[train["delay"] > 1, "carrier"] = None
    train["carrier"] = train["carrier"].astype(object).where(train["carrier"].notna(), None)
    pipeline = mixed().fit(train, table.train_label)
    with pytest.raises(PublishError):
        published(pipeline, reference=train)
