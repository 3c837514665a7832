"""What is known of a flight when it departs, and whether it then came late.

Seven features for the champion; the challenger also gets the recent gain: how much time flights that have
ALREADY ARRIVED won or lost in the air, by origin and by destination. A flight still in the air, or landing
later than this one departs, must not be in it: that is the leak such features usually have.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

NUMERIC: Final = ["dep_delay", "hour", "weekday", "distance"]
CATEGORICAL: Final = ["carrier", "origin", "dest"]
RECENT: Final = ["rg_origin", "rg_dest"]
BASIC: Final = NUMERIC + CATEGORICAL
FEATURES: Final = NUMERIC + RECENT + CATEGORICAL
LABEL: Final = "late"

LATE_MINUTES: Final = 30
DEFAULT_GAIN: Final = -5.0
"""Minutes, before anything has arrived: flights win about five minutes in the air."""
_LAST: Final = {"rg_origin": ("origin", 30), "rg_dest": ("dest", 5)}


def build(flights: pd.DataFrame) -> pd.DataFrame:
    """Features and label of every flight, with id, date, dep_at and arr_at; numbers are float32.

    Recent gains are rounded to 0.1: thresholds of trees then lie between values, not on them, and float32
    in the server decides as float64 does in scikit-learn.
    """
    frame = flights[["id", "date", "dep_at", "arr_at", "dep_delay", "hour", "distance", *CATEGORICAL]].copy()
    frame["weekday"] = flights["date"].dt.day_of_week
    gain = (flights["arr_delay"] - flights["dep_delay"]).to_numpy(dtype=np.float64)
    departed, arrived = _unix(flights["dep_at"]), _unix(flights["arr_at"])
    for name, (place, last) in _LAST.items():
        frame[name] = recent_gain(flights[place], departed, arrived, gain, last)
    frame[LABEL] = (flights["arr_delay"] > LATE_MINUTES).astype(int)
    return frame.astype(dict.fromkeys(NUMERIC + RECENT, np.float32))


def recent_gain(
    place: "pd.Series[Any]",
    departed: NDArray[np.int64],
    arrived: NDArray[np.int64],
    gain: NDArray[np.float64],
    last: int,
) -> NDArray[np.float64]:
    """Mean gain of the last `last` flights of the same place that arrived before each departure, shape (n,)."""
    result = np.full(len(place), DEFAULT_GAIN)
    codes = pd.factorize(place)[0]
    for code in range(codes.max() + 1):
        members = np.flatnonzero(codes == code)
        order = members[np.argsort(arrived[members], kind="stable")]
        total = np.concatenate([[0.0], np.cumsum(gain[order])])
        end = np.searchsorted(arrived[order], departed[members], side="left")
        start = np.maximum(0, end - last)
        known = end > 0
        result[members[known]] = (total[end] - total[start])[known] / (end - start)[known]
    return np.round(result, 1)


class Flight(NamedTuple):
    """One departed flight as a client would ask about it. features: JSON values; late: the truth at arr_at
    (unix seconds, as dep_at)."""

    id: str
    features: dict[str, float | int | str]
    late: int
    dep_at: float
    arr_at: float


def as_requests(frame: pd.DataFrame) -> Iterator[Flight]:
    """The rows of `build` as requests, in their order."""
    # float64 first: 0.1 as float32 would be written out with nine digits.
    values: list[list[Any]] = [frame[name].astype(np.float64).round(1).tolist() for name in NUMERIC + RECENT]
    values += [frame[name].tolist() for name in CATEGORICAL]
    times = zip(_unix(frame["dep_at"]).tolist(), _unix(frame["arr_at"]).tolist(), strict=True)
    rows = zip(*values, strict=True)
    for id, late, row, (departed, arrived) in zip(
        frame["id"].tolist(), frame[LABEL].tolist(), rows, times, strict=True
    ):
        yield Flight(id, dict(zip(FEATURES, row, strict=True)), late, departed, arrived)


def _unix(times: "pd.Series[Any]") -> NDArray[np.int64]:
    return np.asarray(times.dt.tz_convert(None).to_numpy(dtype="datetime64[s]"), dtype=np.int64)
