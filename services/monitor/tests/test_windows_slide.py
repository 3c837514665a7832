"""Windows are sums of panes, whatever came when, across restarts, and of a size that can be stated."""

import itertools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kingmaker_contracts.plan import PlannedVariant
from kingmaker_contracts.profile import (
    CategoricalReference,
    Feature,
    NumericReference,
    Profile,
    Reference,
    sha256_of,
)
from kingmaker_contracts.wire import write_json
from kingmaker_monitor import binning, reports
from kingmaker_monitor.aggregates import Aggregate, pack, unpack
from kingmaker_monitor.ingest import fold
from kingmaker_monitor.state import Arm
from kingmaker_monitor.stats import verdict
from kingmaker_monitor.steady_clock import SteadyClock
from kingmaker_monitor.windows import PANE_MS, WINDOWS, pane_of

if TYPE_CHECKING:
    from services.monitor.tests.conftest import Counting, World

FILES = itertools.count()
NOW = pane_of(round(time.time() * 1000)) + 60_000


def look(counting: "Counting") -> reports.Reports:
    return reports.of_model(counting.state, counting.state.plan, counting.book.profiles, "now")


def rows(counting: "Counting", window: str) -> int:
    return sum(total.rows("answered") for total in counting.state.windows[window].sums.values())


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 40)), min_size=1, max_size=12), data=st.data())
def test_a_window_holds_the_panes_it_should(
    new_counting: "Callable[..., Counting]", world: "World", steps: list[tuple[int, int]], data: Any
) -> None:
    """Time goes on by any steps, rows come on time or late, the monitor restarts: each window against a plain count."""
    counting = new_counting(f"w{next(FILES)}.db")
    now, seen = NOW, []
    counting.book.slide(now)
    for seq, (late_panes, panes) in enumerate(steps, 1):
        now += panes * PANE_MS
        at = now - late_panes * PANE_MS
        counting.take(world.batch(seq, 3, t0=at), now_ms=now)
        seen.append(at)
        if data.draw(st.integers(0, 3)) == 0:
            counting.reopen()
        counting.book.slide(now)
        for name, (length, ago) in WINDOWS.items():
            end = pane_of(now) + PANE_MS - ago
            assert rows(counting, name) == 3 * sum(end - length <= pane_of(t) < end for t in seen), name
    counting.store.close()


def test_rows_of_an_impossible_time_count_for_the_rollout_alone(counting: "Counting", world: "World") -> None:
    counting.book.slide(NOW)
    ahead, old = world.batch(1, t0=NOW + 3600_000), world.batch(2, t0=NOW - 25 * 3600_000)
    evidence = counting.take(ahead, old, world.batch(3, t0=NOW), now_ms=NOW)
    assert evidence.variants["lr"].answered == 30
    assert counting.state.tally.misdated == 20
    assert (rows(counting, "1h"), rows(counting, "24h")) == (10, 10)


def test_an_hour_that_drifted_alone_warns_and_a_second_one_is_drift(counting: "Counting", world: "World") -> None:
    def strange(seq: int, t0: int) -> Any:
        batch = world.batch(seq, 2000, t0=t0)
        batch.features[0] += 600
        return batch

    hour = 3600_000
    counting.take(world.batch(1, 2000, t0=NOW), now_ms=NOW)
    counting.take(strange(2, NOW + hour), now_ms=NOW + hour)
    counting.book.slide(NOW + hour)
    column = look(counting).windows["lr"]["1h"].drift["training"].columns["distance"]
    assert (column.now, column.verdict) == ("Drifted", "Warning")
    counting.take(strange(3, NOW + 2 * hour), now_ms=NOW + 2 * hour)
    counting.book.slide(NOW + 2 * hour)
    found = look(counting).windows["lr"]["1h"]
    assert found.drift["training"].columns["distance"].verdict == "Drifted"
    assert found.drift["training"].verdict == "Drifted"


def test_a_score_beyond_all_measure_leaves_no_trace_when_it_leaves_the_window(
    counting: "Counting", world: "World"
) -> None:
    hour = 3600_000
    wild = world.batch(1, 4, t0=NOW, score=np.array([0.25, 3e38, 0.5, 0.5], "<f4"))
    counting.take(wild, world.batch(2, 4, t0=NOW + hour, sent=4, score=0.25), now_ms=NOW + hour)
    counting.book.slide(NOW + hour - PANE_MS)
    mean = look(counting).windows["lr"]["1h"].mean_score
    assert mean is not None and mean > 1e37
    counting.book.slide(NOW + hour)
    assert look(counting).windows["lr"]["1h"].mean_score == 0.25
    assert rows(counting, "24h") == 8


def test_few_rows_are_no_verdict_and_never_ok(counting: "Counting", world: "World") -> None:
    counting.take(world.batch(1, verdict.FLOOR - 1, t0=NOW), now_ms=NOW)
    counting.book.slide(NOW)
    table = look(counting).windows["lr"]["1h"].drift["training"]
    assert table.verdict == "NoData"
    assert (table.judged, table.drifted_share) == (0, None)
    assert table.columns["distance"].psi is not None


def cut_otherwise(world: "World") -> tuple[str, bytes]:
    """A challenger's profile of the same features, with other bins and other categories."""
    dice = np.random.default_rng(5)
    numeric = world.reference(dice.normal(990, 210, 9000).astype(np.float32), bins=60)
    assert isinstance(numeric, NumericReference)
    assert world.profile.reference is not None
    reference = msgspec.structs.replace(
        world.profile.reference,
        numeric={"distance": numeric},
        categorical={"carrier": CategoricalReference(["DL", "UA"], [5000, 4000], 0, 0)},
    )
    raw = write_json(msgspec.structs.replace(world.profile, reference=reference))
    return sha256_of(raw), raw


def test_a_challenger_with_other_bins_is_held_against_the_champions_rows(
    new_counting: "Callable[..., Counting]", world: "World"
) -> None:
    schema, raw = cut_otherwise(world)
    plan = world.plan()
    plan = msgspec.structs.replace(plan, variants=[plan.variants[0], PlannedVariant("gbm", "challenger", "2", schema)])
    counting = new_counting(plan=plan)
    counting.book.learn(schema, raw, NOW)
    champion = world.batch(1, 4000, t0=NOW)
    challenger = world.batch(2, 4000, "gbm", t0=NOW, schema=schema, sent=4000)
    challenger.features[1] = 1 - challenger.features[1]  # codes of its own profile: the same carriers
    counting.take(champion, challenger, now_ms=NOW)
    counting.book.slide(NOW)
    against = look(counting).windows["gbm"]["1h"].drift["champion"]
    distance, carrier = against.columns["distance"], against.columns["carrier"]
    assert (distance.n, distance.reference_n, distance.verdict) == (4000, 4000, "Stable")
    assert (carrier.n, carrier.reference_n, carrier.verdict) == (4000, 4000, "Stable")
    bins = counting.book.profiles.get(schema)
    assert bins is not None
    (column,) = [c for name, c in bins.columns if name == "distance"]
    assert column is not None
    number = next(n for arm, n in counting.state.arms.items() if arm.variant == "lr" and arm.version)
    counted = counting.state.totals[number].get(f"as.{schema}/distance", column.size)
    np.testing.assert_array_equal(counted, column.count(champion.features[0]))
    assert against.prediction.verdict == "Stable"


def test_segments_add_up_and_a_drift_of_one_shows_in_one(
    new_counting: "Callable[..., Counting]", world: "World"
) -> None:
    plan = msgspec.structs.replace(world.plan(), segments=["carrier", "distance", "nothing"])
    counting = new_counting(plan=plan)
    champion, challenger = world.batch(1, 6000, t0=NOW), world.batch(2, 6000, "gbm", t0=NOW, sent=6000)
    challenger.features[0, challenger.features[1] == 1] += 600
    champion.features[1, :5] = np.nan
    counting.take(champion, challenger, world.labels((1000, 1), (1001, 0)), now_ms=NOW)
    counting.book.slide(NOW)
    found = look(counting).segments
    assert found["distance"] == found["nothing"] == {}
    carrier = found["carrier"]
    assert set(carrier) == {"UA", "DL", "(missing)"}
    for window in ("1h", "24h", "rollout"):
        assert sum(by["lr"][window].answered for by in carrier.values() if window in by["lr"]) == 6000
    assert sum(by["lr"]["1h"].quality.n for by in carrier.values() if by["lr"]) == 2
    assert carrier["DL"]["gbm"]["24h"].drifted == ["distance"]
    assert carrier["DL"]["gbm"]["24h"].verdict == "Drifted"
    assert carrier["UA"]["gbm"]["24h"].drifted == []
    assert carrier["UA"]["lr"]["1h"].reference_share == pytest.approx(0.6)
    counting.reopen()
    counting.book.slide(NOW)
    assert look(counting).segments == found


def busy_pane(world: "World", rows: int = 5000) -> Aggregate:
    """25 features of 200 bins, normal as in training."""
    dice = np.random.default_rng(3)
    reference = world.reference(dice.normal(0, 1, 50_000).astype(np.float32), bins=200)
    names = [f"f{i}" for i in range(25)]
    profile = Profile(
        "m", "", [Feature(n, "FP32", [-1, 1], "numeric") for n in names], [], None,
        Reference(50_000, dict.fromkeys(names, reference)), None, None, "",
    )  # fmt: skip
    bins = binning.of_profile(profile)
    batch = world.batch(1, rows, features=dice.normal(0, 1, (25, rows)).astype(np.float32))
    return fold.of_answering(fold.join([batch]), bins)


def test_the_size_of_a_feature_in_a_pane(world: "World") -> None:
    """In memory 8 bytes a slot and kind of answer; in the file, compressed, a fifth of that for a busy pane."""
    counted = busy_pane(world)
    features = Aggregate({name: values for name, values in counted.arrays.items() if name.startswith("live/")})
    assert sum(values.nbytes for values in features.arrays.values()) == 25 * 203 * 8
    assert len(pack(features)) / 25 < 450
    assert set(unpack(pack(features))) == set(features)


@pytest.mark.parametrize(("rows", "bytes_each"), [(20, 250), (5000, 450)])
def test_the_size_of_a_day_of_panes(counting: "Counting", world: "World", rows: int, bytes_each: int) -> None:
    """288 panes lie in the file, each feature's as large as stated; memory holds sums, however many panes there are."""
    pane, arms, store, state = busy_pane(world, rows), 2, counting.store, counting.state
    empty = counting.path.stat().st_size
    with store.transaction():
        for name in ("lr", "gbm")[:arms]:
            number = store.arm_number(state, Arm("r1", name, "1", world.schema, "champion"))
            for ago in range(288):
                store.save_aggregate(number, pane_of(NOW) - ago * PANE_MS, pane)
    counting.reopen()
    assert counting.path.stat().st_size - empty < arms * 288 * 25 * bytes_each
    counting.book.slide(NOW)
    day = counting.state.windows["24h"].sums
    assert [total.rows("answered") for total in day.values()] == [288 * rows] * arms
    kept = [total.arrays for window in counting.state.windows.values() for total in window.sums.values()]
    features = [values.nbytes for arrays in kept for name, values in arrays.items() if name.startswith("live/")]
    assert sum(features) == len(WINDOWS) * arms * 25 * 203 * 8
    counting.book.slide(NOW + 48 * 3600_000)
    assert not any(window.sums for window in counting.state.windows.values())


def test_a_jump_of_the_clock_makes_age_wait() -> None:
    clock = SteadyClock()
    assert clock.is_so(1000.0, 10.0)
    assert clock.is_so(1001.1, 11.0)
    assert not clock.is_so(90_000.0, 12.0)
    assert clock.jumps == 1
    assert not clock.is_so(1003.0, 13.0)
    assert clock.jumps == 2
    assert not clock.is_so(1503.0, 513.0)
    assert clock.is_so(1803.0, 813.0)


@pytest.mark.parametrize("where", ["pane", "total"])
def test_a_damaged_count_is_said_and_not_mixed_in(
    new_counting: "Callable[..., Counting]", world: "World", where: str
) -> None:
    counting = new_counting()
    counting.take(world.batch(1, t0=NOW), world.batch(2, t0=NOW - PANE_MS, sent=10), now_ms=NOW)
    sign = "= -1" if where == "total" else f"= {pane_of(NOW)}"
    counting.store.sql.execute(f"UPDATE aggregates SET raw = x'789c00' WHERE pane {sign}")
    counting.reopen()
    if where == "total":
        assert counting.book.models == {}
        ((_, what),) = counting.book.mishaps
        assert "set aside as state.db.damaged-1" in what
        assert "20 predictions and 0 labels" in what
    else:
        counting.book.slide(NOW)
        assert rows(counting, "1h") == 10
        assert counting.state.tally.damaged_panes == 2
        assert counting.evidence.variants["lr"].answered == 20
        counting.take(world.batch(3, t0=NOW, sent=20), now_ms=NOW)
        assert rows(counting, "1h") == 20
