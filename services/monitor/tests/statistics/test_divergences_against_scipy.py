"""Distances of two distributions: reference values, scipy, and what any such distance must obey."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from kingmaker_monitor.stats import divergence, psi, shares

P = np.full(10, 0.1)
Q = np.array([0.05, 0.05, 0.08, 0.1, 0.1, 0.12, 0.12, 0.13, 0.125, 0.125])

Floats = NDArray[np.float64]


@st.composite
def distributions(draw: st.DrawFn, count: int) -> list[Floats]:
    bins = draw(st.integers(1, 30))
    weights = st.lists(st.integers(1, 1000), min_size=bins, max_size=bins)
    return [np.array(found) / sum(found) for found in (draw(weights) for _ in range(count))]


def test_the_reference_values() -> None:
    assert psi.of_shares(P, Q) == pytest.approx(0.1000985569, abs=1e-10)
    assert divergence.relative_entropy(P, Q) == pytest.approx(0.0536143432, abs=1e-10)
    assert divergence.relative_entropy(Q, P) == pytest.approx(0.0464842137, abs=1e-10)
    assert divergence.jensen_shannon(P, Q) == pytest.approx(0.1333993290, abs=1e-10)
    assert divergence.jensen_shannon(P, Q) * math.sqrt(math.log(2)) == pytest.approx(0.1110622265, abs=1e-10)
    assert divergence.hellinger(P, Q) == pytest.approx(0.1114565449, abs=1e-10)
    assert divergence.largest_difference(P, Q) == pytest.approx(0.05, abs=1e-12)


@given(distributions(2))
def test_scipy_says_the_same(pair: list[Floats]) -> None:
    p, q = pair
    assert divergence.relative_entropy(p, q) == pytest.approx(entropy(p, q), abs=1e-12)
    assert divergence.jensen_shannon(p, q) == pytest.approx(jensenshannon(p, q, base=2), abs=1e-7)
    assert psi.of_shares(p, q) == pytest.approx(entropy(p, q) + entropy(q, p), abs=1e-12)


@given(distributions(2))
def test_a_loop_over_bins_says_the_same(pair: list[Floats]) -> None:
    rows = list(zip(*(found.tolist() for found in pair), strict=True))
    assert divergence.hellinger(*pair) == pytest.approx(
        math.sqrt(max(0.0, 1 - sum(math.sqrt(a * b) for a, b in rows))), abs=1e-7
    )
    assert divergence.largest_difference(*pair) == pytest.approx(max(abs(a - b) for a, b in rows), abs=1e-12)
    assert psi.of_shares(*pair) == pytest.approx(sum((b - a) * math.log(b / a) for a, b in rows), abs=1e-12)


@given(distributions(3))
def test_distances_are_distances(three: list[Floats]) -> None:
    p, q, r = three
    for distance in (divergence.jensen_shannon, divergence.hellinger):
        assert distance(p, p) == pytest.approx(0, abs=1e-7)
        assert distance(p, q) == pytest.approx(distance(q, p), abs=1e-12)
        assert -1e-12 <= distance(p, q) <= 1 + 1e-12
        assert distance(p, r) <= distance(p, q) + distance(q, r) + 1e-7


@given(distributions(2))
def test_known_inequalities_hold(pair: list[Floats]) -> None:
    hellinger, variation = divergence.hellinger(*pair), np.abs(pair[0] - pair[1]).sum() / 2
    assert hellinger**2 <= variation + 1e-9
    assert variation <= math.sqrt(2) * hellinger + 1e-9
    assert 2 * variation**2 <= divergence.relative_entropy(*pair) + 1e-9  # Pinsker
    assert divergence.largest_difference(*pair) <= variation + 1e-9


def test_disjoint_distributions_are_one_apart_and_infinitely_divergent() -> None:
    p, q = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    assert divergence.jensen_shannon(p, q) == divergence.hellinger(p, q) == 1
    assert divergence.relative_entropy(p, q) == np.inf


def test_no_rows_are_no_distance() -> None:
    nothing = shares.plain(np.array([0, 0]))
    for distance in (divergence.relative_entropy, divergence.jensen_shannon, divergence.hellinger):
        assert np.isnan(distance(nothing, np.array([0.5, 0.5])))


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=20))
def test_smoothing_gives_each_used_bin_half_a_row(rows: list[tuple[int, int]]) -> None:
    reference, live = (np.array(side) for side in zip(*rows, strict=True))
    if reference.sum() == 0 or live.sum() == 0:
        assert np.isnan(shares.smoothed(reference, live)).any()
        return
    used = [(a, b) for a, b in rows if a + b]
    p, q = shares.smoothed(reference, live)
    expected = [[(x + 0.5) / (sum(side) + 0.5 * len(side)) for x in side] for side in zip(*used, strict=True)]
    assert p[p > 0].tolist() == pytest.approx(expected[0])
    assert q[q > 0].tolist() == pytest.approx(expected[1])
    assert p.sum() == pytest.approx(1)


def test_a_class_that_fades_raises_every_distance_step_by_step() -> None:
    live = [np.array([0.5 - fade, 0.3 + fade / 2, 0.2 + fade / 2]) for fade in (0.0, 0.1, 0.2, 0.4)]
    for distance in (psi.of_shares, divergence.jensen_shannon, divergence.hellinger, divergence.relative_entropy):
        found = [float(distance(live[0], other)) for other in live]
        assert all(a < b for a, b in pairwise(found))
