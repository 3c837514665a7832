"""Who gets which row counted, and that counting does not depend on how rows were cut into batches."""

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kingmaker_contracts import events
from kingmaker_contracts.labels import REASONS
from kingmaker_contracts.profile import Feature, Reference
from kingmaker_monitor import binning
from kingmaker_monitor.aggregates import Aggregate, pack, unpack
from kingmaker_monitor.ingest import fold

if TYPE_CHECKING:
    from services.monitor.tests.conftest import Counting, World


def test_each_row_is_counted_for_the_variant_it_belongs_to(counting: "Counting", world: "World") -> None:
    reasons = ["weight", "sticky", "fallback", "ineligible", "override", "weight"]
    champion = world.batch(1, 6, reason=reasons, assigned=[0, 0, 1, 1, 0, 0], status=[200] * 5 + [503])
    shadow = world.batch(2, 4, "gbm", reason="shadow", assigned=0, status=[200, 200, 200, 504], sent=6)
    found = counting.take(champion, shadow).variants
    lr, gbm = found["lr"], found["gbm"]
    assert (lr.assigned, lr.answered, lr.errors, lr.fallbacks, lr.ineligible) == (3, 6, 1, 0, 0)
    assert (gbm.assigned, gbm.answered, gbm.errors, gbm.fallbacks, gbm.ineligible) == (2, 0, 0, 1, 1)
    assert (gbm.shadowed, gbm.shadow_errors, lr.shadowed) == (4, 1, 0)


def test_copies_that_failed_are_counted_though_they_have_no_features(counting: "Counting", world: "World") -> None:
    """They say nothing of a feature, and nothing against the profile."""
    bare = np.empty((0, 10), np.float32)
    failed = world.batch(2, 10, "gbm", reason="shadow", assigned=0, status=503, features=bare)
    found = counting.take(world.batch(1, 10, "gbm", reason="shadow", assigned=0), failed).variants["gbm"]
    assert (found.shadowed, found.shadow_errors) == (20, 10)
    assert found.drift["distance"].n == 10
    assert [total.rows("unprofiled") for total in counting.state.totals.values()] == [0] * len(counting.state.totals)


def test_another_rollout_is_another_story(counting: "Counting", world: "World") -> None:
    old, now = world.batch(1, rollout="r0"), world.batch(2, 5, sent=10)
    evidence = counting.take(old, now)
    assert evidence.variants["lr"].answered == 5
    assert evidence.events.stored == 15


def test_rows_of_another_version_do_not_count_for_the_planned_one(counting: "Counting", world: "World") -> None:
    evidence = counting.take(world.batch(1, version="7"), world.batch(2, version="1"))
    assert evidence.variants["lr"].answered == 10


def test_copies_that_were_never_sent_do_not_make_a_shadow_fast(counting: "Counting", world: "World") -> None:
    away = world.batch(1, 10, "gbm", reason="shadow", assigned=0, latency=np.zeros(10), status=np.full(10, 502))
    found = counting.take(away).variants["gbm"]
    assert (found.shadow_errors, found.latency.p50_ms) == (10, None)
    asked = world.batch(2, 2, "gbm", reason="shadow", assigned=0, latency=np.full(2, 8000), sent=10, first=9000)
    assert counting.take(asked).variants["gbm"].latency.p50_ms == pytest.approx(8, rel=0.01)


def test_latency_of_a_shadow_alone_is_that_of_its_copies(counting: "Counting", world: "World") -> None:
    copies = world.batch(1, 10, "gbm", reason="shadow", assigned=0, latency=np.full(10, 8000))
    assert counting.take(copies).variants["gbm"].latency.p99_ms == pytest.approx(8, rel=0.01)
    live = world.batch(2, 10, "gbm", latency=np.full(10, 2000), first=9000)
    assert counting.take(live).variants["gbm"].latency.p99_ms == pytest.approx(2, rel=0.01)


def test_a_variant_without_rows_has_no_numbers(counting: "Counting") -> None:
    found = counting.evidence.variants["gbm"]
    assert found.latency.p50_ms is None
    assert found.quality.auc is None
    assert found.quality.accuracy is None
    assert found.mean_score is None
    assert found.drift["distance"].verdict == "NoData"
    assert found.drift["distance"].psi is None


def test_totals_equal_the_sum_of_panes(counting: "Counting", world: "World") -> None:
    later = world.t0 + 300_000
    counting.take(world.batch(1, 10), world.batch(2, 20, t0=later, sent=10), now_ms=later)
    state = counting.state
    arm = next(number for arm, number in state.arms.items() if arm.variant == "lr" and arm.version)
    panes = counting.store.sql.execute("SELECT raw FROM aggregates WHERE arm = ? AND pane >= 0", (arm,)).fetchall()
    assert len(panes) == 2
    total = Aggregate()
    for (raw,) in panes:
        total.merge(unpack(raw))
    assert_same(total, state.totals[arm])


def test_an_aggregate_survives_the_store(counting: "Counting", world: "World") -> None:
    counting.take(world.batch(1, 200))
    for total in counting.state.totals.values():
        assert_same(unpack(pack(total)), total)


def test_missing_unseen_and_out_of_range_values_have_counts_of_their_own(world: "World") -> None:
    bins = binning.of_profile(world.profile)
    (_, distance), (_, carrier) = bins.columns
    assert isinstance(distance, binning.Numeric) and isinstance(carrier, binning.Categorical)
    low, high = distance.minimum, distance.maximum
    counts = distance.count(np.array([np.nan, low, low - 1, high, high + 1, high + 9], np.float32))
    assert counts[distance.bins :].tolist() == [1, 1, 2]
    assert counts[: distance.bins].sum() == 5
    assert carrier.count(np.array([0, 1, 1, 2, 3, np.nan], np.float32)).tolist() == [1, 2, 2, 0, 1]


def assert_same(one: Aggregate, other: Aggregate) -> None:
    assert set(one) == set(other)
    for name in one:
        np.testing.assert_allclose(one.arrays[name], other.arrays[name], rtol=1e-9, atol=1e-12, err_msg=name)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.sets(st.integers(1, 119), max_size=12), seed=st.integers(0, 50))
def test_any_split_of_rows_into_batches_gives_the_same_counts(world: "World", cuts: set[int], seed: int) -> None:
    dice = np.random.default_rng(seed)
    reasons = dice.choice(REASONS, 120)
    whole = world.batch(1, 120, reason=reasons, assigned=dice.integers(0, 2, 120), status=dice.choice([200, 503], 120))
    whole.features[0, dice.integers(0, 120, 9)] = np.nan
    bins = binning.of_profile(world.profile)
    expected = fold.of_answering(fold.join([whole]), bins)
    meant = fold.of_assigned(fold.join([whole]))
    edges = [0, *sorted(cuts), 120]
    answered, assigned = Aggregate(), {"lr": Aggregate(), "gbm": Aggregate()}
    pieces = [cut(whole, a, b) for a, b in itertools.pairwise(edges)]
    for group in (pieces[:2], *[[piece] for piece in pieces[2:]]):
        answered.merge(fold.of_answering(fold.join(group), bins))
        for name, added in fold.of_assigned(fold.join(group)).items():
            assigned[name].merge(added)
    assert_same(answered, expected)
    for name, total in meant.items():
        assert_same(assigned[name], total)


def cut(batch: events.EventBatch, first: int, end: int) -> events.EventBatch:
    columns = {name: column[first:end] for name, column in batch.columns.items()}
    piece = events.EventBatch(
        **{name: getattr(batch, name) for name in events.EventBatch.__slots__ if name not in ("columns", "features")},
        columns=columns,
        features=batch.features[:, first:end],
    )
    return events.decode(events.encode(piece))


@pytest.mark.parametrize("rounds", [1, 3, 7])
def test_the_number_of_rounds_does_not_matter(new_counting: Callable[..., Any], world: "World", rounds: int) -> None:
    batches = [world.batch(seq, 10, "gbm" if seq % 3 == 0 else "lr") for seq in range(1, 22)]
    together = new_counting("one.db").take(*batches)
    apart = new_counting(f"{rounds}.db")
    for some in np.array_split(np.arange(21), rounds):
        evidence = apart.take(*[batches[i] for i in some])
    assert evidence.variants["lr"].drift == together.variants["lr"].drift
    assert evidence.variants["gbm"].answered == together.variants["gbm"].answered
    assert evidence.feedback == together.feedback
    assert evidence.events == together.events


def test_a_block_input_is_as_many_columns_as_it_has_numbers(world: "World") -> None:
    block = Feature("x", "FP32", [-1, 3], "numeric")
    assert world.profile.reference is not None
    reference = Reference(rows=20_000, numeric={"x[1]": world.profile.reference.numeric["distance"]})
    bins = binning.of_profile(msgspec.structs.replace(world.profile, inputs=[block], reference=reference))
    assert [(name, column is not None) for name, column in bins.columns] == [
        ("x[0]", False),
        ("x[1]", True),
        ("x[2]", False),
    ]


@pytest.mark.parametrize("count", [1, 4095, 4096, 4097, 10_000])
def test_a_block_of_any_length_is_counted_as_row_by_row(world: "World", count: int) -> None:
    bins = binning.of_profile(world.profile)
    (_, column), _ = bins.columns
    assert isinstance(column, binning.Numeric)
    dice = np.random.default_rng(count)
    features = dice.normal(1000, 300, (2, count)).astype(np.float32)
    features[0, dice.random(count) < 0.1] = np.nan
    features[0, ::7] = column.edges[dice.integers(0, len(column.edges), len(features[0, ::7]))]
    features[1] = dice.integers(0, 4, count)
    before = features.copy()
    found = bins.count(features, {"distance": [("again", column)]})
    np.testing.assert_array_equal(features, before)
    values = features[0][~np.isnan(features[0])].astype(np.float64)
    want = np.bincount(np.searchsorted(column.edges, values, side="left"), minlength=column.bins).tolist()
    want += [count - len(values), (values < column.minimum).sum(), (values > column.maximum).sum()]
    assert found["distance"].tolist() == found["again"].tolist() == want
    codes = features[1].astype(int)
    assert found["carrier"].tolist() == [(codes == 0).sum(), (codes == 1).sum(), (codes >= 2).sum(), 0, 0]
