"""Which inputs a model has, and the values that reach it when it is served.

One input per DataFrame column: FP32 for numbers and booleans, BYTES for strings. A request carries
float32 and has no None among strings, so that is also what the model is checked with: numbers are cast,
a missing string is "". scikit-learn, in contrast, is shown the strings as they were given; where it
treats a missing string differently from "", parity says so before a client does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kingmaker.publishing.errors import BadValues, ColumnMismatch, UnsupportedColumn

Rows = dict[str, NDArray[Any]]
"""Column name to values as served: float32 or object (str), shape (rows,)."""


@dataclass(slots=True, frozen=True)
class Column:
    """One input. nullable: its reference rows miss values, so requests may."""

    name: str
    kind: Literal["numeric", "categorical"]
    nullable: bool = False

    @property
    def datatype(self) -> str:
        return "FP32" if self.kind == "numeric" else "BYTES"


def aligned(frame: pd.DataFrame, expected: Sequence[str] | None, what: str) -> pd.DataFrame:
    """The frame with the model's columns in the model's order.

    expected: the names the model was fitted with, None when it was fitted without names.
    Raises ColumnMismatch naming what is missing and what is too much.
    """
    if not isinstance(frame, pd.DataFrame):
        raise ColumnMismatch(f"{what} is a {type(frame).__name__}, expected a pandas DataFrame with named columns")
    if not len(frame):
        raise ColumnMismatch(f"{what} has no rows")
    names = list(frame.columns)
    if odd := [name for name in names if not isinstance(name, str) or not name]:
        raise ColumnMismatch(f"{what}: column name {odd[0]!r} is not a string; inputs need names")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ColumnMismatch(f"{what}: column {twice[0]!r} stands twice")
    if expected is None:
        return frame
    missing = [name for name in expected if name not in names]
    extra = [name for name in names if name not in expected]
    if missing or extra:
        parts = [f"lacks {_listed(missing)}"] if missing else []
        parts += [f"has {_listed(extra)}, which the model was not fitted with"] if extra else []
        raise ColumnMismatch(f"{what} {' and '.join(parts)}")
    return frame[list(expected)]


def columns_of(reference: pd.DataFrame) -> list[Column]:
    """The inputs a frame of training rows stands for. Raises UnsupportedColumn and BadValues."""
    columns: list[Column] = []
    for name in reference.columns:
        kind = _kind(str(name), reference[name])
        nullable = bool(reference[name].isna().any())
        if kind == "categorical":
            nullable = nullable or bool((reference[name] == "").any())
        columns.append(Column(str(name), kind, nullable))
    return columns


def served(frame: pd.DataFrame, columns: Sequence[Column], what: str) -> Rows:
    """A frame's values as a request would carry them.

    Raises UnsupportedColumn for a column of another kind than the reference's, BadValues for infinities
    and for missing values in a column that is not nullable.
    """
    rows: Rows = {}
    for column in columns:
        series = frame[column.name]
        kind = _kind(column.name, series)
        if kind != column.kind and len(series.dropna()):
            raise UnsupportedColumn(f"column {column.name!r} is {column.kind} in the reference rows, {kind} in {what}")
        missing = series.isna()
        if column.kind == "numeric":
            rows[column.name] = _numbers(column.name, series, what)
        else:
            values = series.astype(object).where(~missing, "").to_numpy(dtype=object)
            missing = missing | (values == "")
            rows[column.name] = values
        if missing.any() and not column.nullable:
            raise BadValues(
                f"column {column.name!r} misses {int(missing.sum())} values in {what} but none in the reference rows, "
                "so requests without it will be refused: drop these rows, or train with such rows"
            )
    return rows


def as_fitted(frame: pd.DataFrame, columns: Sequence[Column]) -> pd.DataFrame:
    """The frame for scikit-learn: numbers as float32, which is all a request carries, strings untouched."""
    numeric = {c.name: np.float32 for c in columns if c.kind == "numeric"}
    return frame.astype(numeric)


def take(rows: Rows, index: NDArray[np.intp]) -> Rows:
    return {name: values[index] for name, values in rows.items()}


def missing_rows(rows: Rows) -> NDArray[np.bool_]:
    """Which rows miss at least one value."""
    masks = [np.isnan(v) if v.dtype == np.float32 else np.asarray(v == "", dtype=bool) for v in rows.values()]
    return np.asarray(np.logical_or.reduce(masks), dtype=np.bool_)


def _kind(name: str, series: "pd.Series[Any]") -> Literal["numeric", "categorical"]:
    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        dtype = series.cat.categories.dtype
        if not _all_strings(pd.Series(series.cat.categories)):
            raise UnsupportedColumn(
                f"column {name!r} is a category of {dtype}; only categories of strings are supported"
            )
        return "categorical"
    if pd.api.types.is_bool_dtype(dtype) or (
        pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_complex_dtype(dtype)
    ):
        return "numeric"
    if pd.api.types.is_string_dtype(dtype) or pd.api.types.is_object_dtype(dtype):
        if _all_strings(series):
            return "categorical"
        odd = next(v for v in series.dropna() if not isinstance(v, str))
        raise UnsupportedColumn(
            f"column {name!r} holds {odd!r} ({type(odd).__name__}), expected only strings or only numbers"
        )
    raise UnsupportedColumn(f"column {name!r} has type {dtype}; numbers, booleans and strings are supported")


def _all_strings(series: "pd.Series[Any]") -> bool:
    return all(isinstance(value, str) for value in series.dropna())


def _numbers(name: str, series: "pd.Series[Any]", what: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        values = series.to_numpy(dtype=np.float64, na_value=np.nan).astype(np.float32)
    if (infinite := np.isinf(values)).any():
        at = int(np.argmax(infinite))
        raise BadValues(
            f"column {name!r} holds an infinity (or a number beyond float32) in {what}, row {series.index[at]!r}"
        )
    return values


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:8])
    return f"column{'s' if len(names) > 1 else ''} {shown}" + (f" and {len(names) - 8} more" if len(names) > 8 else "")
