"""allocation against a brute-force oracle that keeps an owner for each of the 10000 buckets."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kingmaker_contracts import buckets
from kingmaker_controller import allocation

NAMES = ("ann", "bob", "gbm", "nn")


def owners(ranges: buckets.Ranges) -> list[str | None]:
    owned: list[str | None] = [None] * buckets.COUNT
    for name, spans in ranges.items():
        for first, last in spans:
            for bucket in range(first, last + 1):
                assert owned[bucket] is None, "a bucket has two owners"
                owned[bucket] = name
    return owned


def oracle(owned: list[str | None], weights: dict[str, int]) -> list[str | None]:
    """Bucket by bucket: give back the highest, then take the lowest free, in name order."""
    result = list(owned)
    for name in {o for o in owned if o is not None}:
        mine = [i for i, owner in enumerate(result) if owner == name]
        for bucket in mine[weights.get(name, 0) * 100 :]:
            result[bucket] = None
    for name in sorted(weights):
        missing = weights[name] * 100 - result.count(name)
        free = [i for i, owner in enumerate(result) if owner is None]
        for bucket in free[: max(0, missing)]:
            result[bucket] = name
    return result


@st.composite
def weight_maps(draw: st.DrawFn) -> dict[str, int]:
    left, weights = 100, {}
    for name in draw(st.permutations(NAMES)):
        if draw(st.booleans()):
            weights[name] = draw(st.integers(0, left))
            left -= weights[name]
    return weights


@given(st.lists(weight_maps(), min_size=1, max_size=6))
def test_every_history_of_edits_equals_the_oracle(history: list[dict[str, int]]) -> None:
    ranges: buckets.Ranges = {}
    owned: list[str | None] = [None] * buckets.COUNT
    for weights in history:
        ranges = allocation.allocate(ranges, weights)
        owned = oracle(owned, weights)
        assert owners(ranges) == owned
        assert {n: buckets.size(s) for n, s in ranges.items()} == {n: w * 100 for n, w in weights.items() if w}
        assert buckets.parse(buckets.format(ranges)) == ranges
        for spans in ranges.values():
            assert all(a[1] + 1 < b[0] for a, b in itertools.pairwise(spans)), "adjacent spans are merged"


@given(weight_maps(), st.sampled_from(NAMES), st.data())
def test_a_change_of_one_challenger_moves_exactly_the_difference_to_or_from_the_champion(
    weights: dict[str, int], name: str, data: st.DataObject
) -> None:
    before = allocation.allocate({}, weights)
    rest = 100 - sum(w for n, w in weights.items() if n != name)
    changed = {**weights, name: data.draw(st.integers(0, rest))}
    old, new = owners(before), owners(allocation.allocate(before, changed))
    moved = [(a, b) for a, b in zip(old, new, strict=True) if a != b]
    assert len(moved) == abs(changed[name] - weights.get(name, 0)) * 100
    assert all(set(pair) == {None, name} for pair in moved)


def test_raising_from_10_to_20_percent_moves_nobody_of_the_first_10() -> None:
    ten = allocation.allocate({}, {"gbm": 10})
    twenty = allocation.allocate(ten, {"gbm": 20})
    keys = [f"user-{i}" for i in range(5000)]
    first = {k for k in keys if owners(ten)[buckets.bucket_of("default/flights", k)] == "gbm"}
    grown = owners(twenty)
    assert first
    assert all(grown[buckets.bucket_of("default/flights", k)] == "gbm" for k in first)


@pytest.mark.parametrize(
    ("start", "weights", "expected"),
    [
        ("", {"gbm": 5, "nn": 5}, "gbm:0-499,nn:500-999"),
        ("gbm:0-499,nn:500-999", {"gbm": 10, "nn": 5}, "gbm:0-499,nn:500-999,gbm:1000-1499"),
        ("gbm:0-499,nn:500-999,gbm:1000-1499", {"gbm": 7, "nn": 5}, "gbm:0-499,nn:500-999,gbm:1000-1199"),
        ("gbm:0-499,nn:500-999", {"nn": 10}, "nn:0-999"),
        ("gbm:0-499,nn:500-999", {"gbm": 0, "nn": 0}, ""),
        ("gbm:0-9999", {"gbm": 50, "nn": 50}, "gbm:0-4999,nn:5000-9999"),
    ],
)
def test_edits_by_hand(start: str, weights: dict[str, int], expected: str) -> None:
    assert buckets.format(allocation.allocate(buckets.parse(start), weights)) == expected


@pytest.mark.parametrize("weights", [{"gbm": 60, "nn": 41}, {"gbm": -1}])
def test_weights_that_do_not_fit_are_refused(weights: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        allocation.allocate({}, weights)
