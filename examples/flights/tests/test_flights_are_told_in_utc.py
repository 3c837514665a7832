"""The facts the demo rests on, checked on all 336,776 rows of the package."""

import pandas as pd
import pytest

from examples.flights import data


@pytest.fixture(scope="module")
def flights() -> pd.DataFrame:
    return data.load()


def of(flights: pd.DataFrame, id: str) -> "pd.Series":
    (row,) = [row for _, row in flights[flights["id"] == id].iterrows()]
    return row


def test_every_flight_that_departed_and_arrived_is_there_in_order_of_departure(flights: pd.DataFrame) -> None:
    assert len(flights) == 327_346
    assert flights["id"].is_unique
    assert flights["dep_at"].is_monotonic_increasing
    assert (flights["arr_delay"] > 30).mean() == pytest.approx(0.157, abs=0.0005)


def test_every_flight_is_in_the_air_for_a_believable_time(flights: pd.DataFrame) -> None:
    minutes = (flights["arr_at"] - flights["dep_at"]).dt.total_seconds() / 60
    assert minutes.min() > 20
    assert minutes.max() < 800
    assert minutes.median() == pytest.approx(159, abs=2)


def test_scheduled_times_and_delays_add_up(flights: pd.DataFrame) -> None:
    # Scheduled 05:15 in New York (UTC-5), 2 minutes late; 08:19 in Houston (UTC-6), 11 minutes late.
    first = of(flights, "2013-01-01-UA1545-EWR")
    assert first["dep_at"] == pd.Timestamp("2013-01-01T10:17Z")
    assert first["arr_at"] == pd.Timestamp("2013-01-01T14:30Z")


@pytest.mark.parametrize(("dest", "hours"), [("PHX", 7), ("HNL", 10), ("SJU", 4)])
def test_places_without_summer_time_keep_their_distance_to_utc(flights: pd.DataFrame, dest: str, hours: int) -> None:
    for month in (1, 7):
        rows = flights[(flights["dest"] == dest) & (flights["month"] == month)]
        due = rows["arr_at"] - pd.to_timedelta(rows["arr_delay"], unit="min") - pd.Timedelta(hours=hours)
        shown = due.dt.hour * 100 + due.dt.minute
        assert (shown == rows["sched_arr_time"] % 2400).all()


def test_a_flight_of_the_summer_departs_four_hours_behind_utc(flights: pd.DataFrame) -> None:
    rows = flights[flights["month"] == 7]
    due = rows["dep_at"] - pd.to_timedelta(rows["dep_delay"], unit="min") - pd.Timedelta(hours=4)
    assert (due.dt.hour == rows["hour"] % 24).all()
