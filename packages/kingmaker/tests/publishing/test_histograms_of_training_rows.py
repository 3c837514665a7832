import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kingmaker.publishing import histograms, profile
from kingmaker.publishing.errors import TooBig
from kingmaker_contracts import profile as contract
from kingmaker_contracts import rare_categories, wire

finite = st.floats(-1e6, 1e6, width=32)
some_rows = st.lists(st.one_of(finite, st.just(float("nan"))), min_size=0, max_size=300)


@given(some_rows)
def test_every_row_is_in_the_bin_the_contract_says_or_missing(values: list[float]) -> None:
    found = histograms.numeric(np.array(values, dtype=np.float32), bins=50)
    present = [float(np.float32(v)) for v in values if v == v]
    bounds = [-np.inf, *found.edges, np.inf]
    # The contract in its own words: bin i holds edges[i-1] < x <= edges[i].
    expected = [sum(low < x <= high for x in present) for low, high in itertools.pairwise(bounds)]
    assert found.counts == expected
    assert found.missing == len(values) - len(present)
    assert sum(found.counts) + found.missing == len(values)


@given(st.lists(finite, min_size=21, max_size=400, unique=True))
def test_bins_of_many_distinct_values_are_about_equally_full(values: list[float]) -> None:
    found = histograms.numeric(np.array(values), bins=20)
    assert not found.discrete
    assert len(found.edges) <= 19
    assert max(found.counts) <= len(values) / 20 + 1


def test_two_hundred_bins_describe_a_continuous_feature() -> None:
    values = np.random.default_rng(0).normal(size=10_000)
    found = histograms.numeric(values)
    assert len(found.counts) == 200
    assert set(found.counts) <= {49, 50, 51}
    assert found.minimum == values.min()
    assert found.std == pytest.approx(values.std())


def test_a_feature_of_few_values_has_one_bin_a_value() -> None:
    found = histograms.numeric(np.array([3.0, 1.0, 1.0, 2.0, 3.0, 3.0]))
    assert (found.discrete, found.edges, found.counts) == (True, [1.0, 2.0], [2, 1, 3])


@pytest.mark.parametrize(("distinct", "discrete"), [(20, True), (21, False)])
def test_twenty_distinct_values_are_the_most_a_discrete_feature_has(distinct: int, discrete: bool) -> None:
    assert histograms.numeric(np.repeat(np.arange(distinct), 5)).discrete is discrete


def test_a_constant_and_a_wholly_missing_feature_have_one_bin() -> None:
    assert histograms.numeric(np.array([7.0, 7.0])).counts == [2]
    empty = histograms.numeric(np.array([np.nan, np.nan]))
    assert (empty.counts, empty.missing, empty.minimum) == ([0], 2, None)


def test_the_largest_value_is_never_an_edge_so_the_last_bin_holds_rows() -> None:
    found = histograms.numeric(np.concatenate([np.arange(30.0), np.full(1000, 30.0)]))
    assert max(found.edges) < 30.0
    assert found.counts[-1] >= 1000


def test_categories_are_ranked_and_the_empty_string_is_missing() -> None:
    found = histograms.categorical(np.array(["b", "a", "b", "", "c", "a", "b"], dtype=object))
    assert (found.categories, found.counts, found.other, found.missing) == (["b", "a", "c"], [3, 2, 1], 0, 1)


def test_beyond_a_hundred_categories_the_rarest_are_other() -> None:
    values = [f"c{i:03d}" for i in range(150) for _ in range(200 - i)]
    found = histograms.categorical(np.array(values, dtype=object))
    assert found.categories == [f"c{i:03d}" for i in range(100)]
    assert found.other == sum(200 - i for i in range(100, 150))
    rare = rare_categories.read(found.rare)
    assert rare is not None
    assert [name in rare for name in ("c100", "c149", "c099", "c150", "")] == [True, True, False, False, False]


def test_a_hundred_categories_leave_nothing_rare() -> None:
    assert histograms.categorical(np.array([str(i) for i in range(100)], dtype=object)).rare is None


def test_rare_categories_are_kept_of_the_features_with_the_fewest() -> None:
    found = {
        name: histograms.categorical(np.array([f"c{i}" for i in range(100 + rare)], dtype=object))
        for name, rare in (("many", 500), ("none", 0), ("few", 3), ("some", 90))
    }
    kept = histograms.within_budget(found, 100)
    assert list(kept) == list(found)
    assert {name: one.rare is not None for name, one in kept.items()} == {
        "many": False,
        "none": False,
        "few": True,
        "some": True,
    }
    assert kept["many"].other == 500


def test_a_feature_of_too_many_categories_keeps_none() -> None:
    names = np.array([f"c{i}" for i in range(121)], dtype=object)
    assert histograms.categorical(names, most_rare=20).rare is None
    assert histograms.categorical(names[:120], most_rare=20).rare is not None


def test_a_profile_that_would_be_too_big_gives_up_what_is_rare_first() -> None:
    column = histograms.categorical(np.array([f"c{i}" for i in range(5000)], dtype=object))
    known = contract.Profile(
        "m", "", [], [], None, contract.Reference(5000, categorical={"c": column}), None, None, "2026-01-01T00:00:00Z"
    )
    whole = profile.encoded(known)
    plain = profile.encoded(known, limit=len(whole) - 1)
    told_plainly, told_wholly = (wire.read_json(raw, contract.Profile).reference for raw in (plain, whole))
    assert told_plainly is not None and told_plainly.categorical["c"].rare is None
    assert told_wholly is not None and told_wholly.categorical["c"] == column
    with pytest.raises(TooBig, match="may have"):
        profile.encoded(known, limit=len(plain) - 1)


@pytest.mark.parametrize(("features", "bins"), [(0, 200), (9, 200), (100, 200), (400, 50), (5000, 20)])
def test_wide_models_get_fewer_bins_so_that_the_profile_stays_small(features: int, bins: int) -> None:
    assert histograms.bins_for(features) == bins
