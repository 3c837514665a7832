"""When a column is called drifted, and when nobody can know."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from kingmaker_contracts.evidence import FeatureDrift

if TYPE_CHECKING:
    from services.monitor.tests.conftest import Counting, World


def live(world: "World", seq: int, count: int, shift: float = 0.0, missing: float = 0.0, **wanted: Any) -> Any:
    dice = np.random.default_rng(seq)
    distance = dice.normal(1000 + shift, 200, count)
    carrier = dice.choice([0.0, 1.0, 2.0], count, p=[0.6, 0.35, 0.05])
    carrier[: int(missing * count)] = np.nan
    return world.batch(seq, count, features=np.array([distance, carrier], np.float32), **wanted)


def test_the_training_distribution_is_stable(counting: "Counting", world: "World") -> None:
    found = counting.take(live(world, 1, 5000)).variants["lr"].drift
    assert {name: column.verdict for name, column in found.items()} == {"distance": "Stable", "carrier": "Stable"}
    assert found["distance"].ks is not None
    assert found["distance"].ks < 0.04
    assert found["carrier"].ks is None


@pytest.mark.parametrize(("shift", "verdict"), [(10, "Stable"), (70, "Warning"), (200, "Drifted")])
def test_a_shifted_column_is_called_by_the_size_of_its_shift(
    counting: "Counting", world: "World", shift: float, verdict: str
) -> None:
    found = counting.take(live(world, 1, 5000, shift)).variants["lr"].drift
    assert found["distance"].verdict == verdict
    assert found["carrier"].verdict == "Stable"


def test_a_column_that_goes_missing_drifts(counting: "Counting", world: "World") -> None:
    found = counting.take(live(world, 1, 2000, missing=0.5)).variants["lr"].drift["carrier"]
    assert found.verdict == "Drifted"
    assert found.missing == 0.5


def test_few_rows_show_numbers_and_no_verdict(counting: "Counting", world: "World") -> None:
    found = counting.take(live(world, 1, 499, 400)).variants["lr"].drift["distance"]
    assert (found.verdict, found.n) == ("NoData", 499)
    assert found.psi is not None
    assert counting.take(live(world, 2, 1, 400, sent=499)).variants["lr"].drift["distance"].verdict == "Drifted"


def test_copies_and_live_rows_count_together(counting: "Counting", world: "World") -> None:
    copies = live(world, 1, 300, variant="gbm", reason="shadow", assigned=0)
    found = counting.take(copies, live(world, 2, 300, variant="gbm", sent=300)).variants["gbm"].drift["distance"]
    assert (found.n, found.verdict) == (600, "Stable")


def test_a_drifted_score_is_seen(counting: "Counting", world: "World") -> None:
    score = np.random.default_rng(1).beta(5, 1, 1000)
    assert counting.take(live(world, 1, 1000, score=score)).variants["lr"].score_drift.verdict == "Drifted"


def test_a_variant_without_a_profile_has_counts_and_no_drift(
    new_counting: "Callable[..., Counting]", world: "World"
) -> None:
    counting = new_counting(profile=False)
    found = counting.take(live(world, 1, 1000), world.labels((1000, 1))).variants["lr"]
    assert (found.answered, found.drift, found.score_drift) == (1000, {}, FeatureDrift("NoData", 0))
    assert found.quality.n == 0
    assert counting.state.totals[1].rows("unprofiled") == 1000


def test_features_of_another_width_than_the_profile_are_not_binned(counting: "Counting", world: "World") -> None:
    found = counting.take(world.batch(1, 600, features=np.zeros((3, 600), np.float32))).variants["lr"]
    assert found.answered == 600
    assert found.drift["distance"].n == 0
