"""What gateways withhold is not known, which is not the same as missing: no drift, no segment, and everything else."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from kingmaker_contracts.events import EventBatch
from kingmaker_contracts.profile import Feature, sha256_of
from kingmaker_contracts.wire import write_json
from kingmaker_monitor import health, reports

if TYPE_CHECKING:
    from services.monitor.tests.conftest import Counting, World


@pytest.fixture
def new(new_counting: "Callable[..., Counting]", world: "World") -> "Callable[..., Counting]":
    def make(*sensitive: str) -> "Counting":
        plan = msgspec.structs.replace(world.plan(), sensitive=list(sensitive), segments=["carrier"])
        return new_counting(plan=plan)

    return make


def batch(world: "World", seq: int, *withheld: int) -> EventBatch:
    made = world.batch(seq, 1000, first=seq * 1000)
    names = [feature.name for feature in world.profile.inputs]
    made.features = made.features.copy()
    made.features[list(withheld)] = np.nan
    made.withheld = [names[at] for at in withheld]
    return made


def test_a_withheld_column_has_no_data_and_the_others_have_theirs(
    new: "Callable[..., Counting]", world: "World"
) -> None:
    counting = new("distance")
    evidence = counting.take(batch(world, 1, 0), batch(world, 2, 0))
    lr = evidence.variants["lr"]
    assert (lr.answered, lr.drift["distance"].n, lr.drift["carrier"].n) == (2000, 0, 2000)
    assert lr.drift["distance"].verdict == "NoData" and lr.drift["carrier"].verdict != "NoData"
    counting.book.slide(world.t0)
    table = reports.of_model(counting.state, counting.state.plan, counting.book.profiles, "now")
    found = table.windows["lr"]["rollout"].drift["training"]
    assert found.columns["distance"].n == 0 and found.columns["distance"].missing is None
    assert found.judged == 1, "the carrier alone"


def test_entries_before_and_after_a_feature_became_sensitive_are_counted_apart(
    new: "Callable[..., Counting]", world: "World"
) -> None:
    evidence = new().take(batch(world, 1), batch(world, 2, 0), batch(world, 3))
    drift = evidence.variants["lr"].drift
    assert (drift["distance"].n, drift["carrier"].n) == (2000, 3000)


def test_a_withheld_segment_is_none(new: "Callable[..., Counting]", world: "World") -> None:
    counting = new()
    counting.take(batch(world, 1, 1))
    assert {arm.segment for arm in counting.state.arms} == {""}


@pytest.mark.parametrize(("withheld", "counted"), [(["scan"], (0, 0, 10)), (["scan[1]"], (10, 0, 10))])
def test_a_block_is_withheld_by_its_name_or_by_columns(
    new_counting: "Callable[..., Counting]", world: "World", withheld: list[str], counted: tuple[int, ...]
) -> None:
    reference = world.profile.reference
    assert reference is not None
    numbers = dict.fromkeys(("scan[0]", "scan[1]"), reference.numeric["distance"])
    inputs = [Feature("scan", "FP32", [-1, 2], "numeric"), world.profile.inputs[1]]
    reference = msgspec.structs.replace(reference, numeric=numbers)
    raw = write_json(msgspec.structs.replace(world.profile, inputs=inputs, reference=reference))
    plan = world.plan(lr="1")
    plan = msgspec.structs.replace(plan, variants=[msgspec.structs.replace(plan.variants[0], profile=sha256_of(raw))])
    counting = new_counting(plan=plan, profile=False)
    counting.book.learn(sha256_of(raw), raw, world.t0)
    made = world.batch(1, schema=sha256_of(raw), features=np.zeros((3, 10), np.float32))
    made.withheld = withheld
    drift = counting.take(made).variants["lr"].drift
    assert tuple(drift[name].n for name in ("scan[0]", "scan[1]", "carrier")) == counted


def test_a_sensitive_name_that_protects_nothing_is_told(new: "Callable[..., Counting]") -> None:
    counting = new("distance", "incone")
    pipeline = health.of_model(
        counting.state, counting.book.profiles, {}, counting.book.mishaps, redis_up=True, clock_jumps=0
    )
    assert pipeline.sensitive_faults == ["sensitive incone is no feature of any variant"]
