"""Values of sensitive features leave the gateway for model servers alone: Redis and the log never see them."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from kingmaker_contracts import buckets, keys
from kingmaker_contracts.profile import Feature, Profile
from kingmaker_contracts.routing import Sticky
from kingmaker_gateway import answerers, envelope, runs
from kingmaker_gateway.answerers import Answerer

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Bench, Kit, Pair

SECRET = "zz-nobody-may-know"
DISTANCE = 1234.5


def entries(bench: "Bench") -> list[bytes]:
    found: Any = bench.redis.xrange(keys.events("default", "flights", 0))
    return [fields[keys.ENTRY_FIELD] for _, fields in found]


@pytest.mark.parametrize("sensitive", [[], ["distance"], ["carrier", "distance"]])
async def test_what_is_sensitive_stands_in_no_event_of_champion_or_shadow(
    bench: "Bench", pair: "Pair", kit: "Kit", sensitive: list[str]
) -> None:
    await bench.publish(pair.record(mirror=100, sensitive=sensitive), pair.profiles)
    await bench.challenger_is_up("gbm")
    answer = await bench.predict([{"distance": DISTANCE, "carrier": SECRET, "gain": 2.5}])
    assert answer.status_code == 200
    await kit.until(lambda: len(bench.batches()) == 2)
    stored = b"".join(entries(bench))
    assert (SECRET.encode() in stored) == ("carrier" not in sensitive)
    assert (np.float32(DISTANCE).tobytes() in stored) == ("distance" not in sensitive)
    by_variant = {batch.variant: batch for batch in bench.batches()}
    for batch in by_variant.values():
        assert sorted(batch.withheld) == sorted(sensitive)
        assert batch.columns["status"].tolist() == [200] and not np.isnan(batch.columns["score"]).any()
    assert by_variant["gbm"].features[2].tolist() == [2.5], "the others are recorded as ever"


@pytest.mark.parametrize(("sensitive", "is_told"), [([], True), (["distance"], True), (["carrier"], False)])
async def test_of_a_sensitive_sticky_key_no_hash_is_recorded(
    bench: "Bench", pair: "Pair", kit: "Kit", sensitive: list[str], is_told: bool
) -> None:
    """A hash of one of few values, or of a number that counts up, tells the value to whoever tries them all."""
    record = pair.record(mirror=100, sensitive=sensitive, sticky=Sticky("Feature", "salt", "carrier"))
    await bench.publish(record, pair.profiles)
    await bench.challenger_is_up("gbm")
    rows = [{"distance": DISTANCE, "carrier": SECRET, "gain": 2.5}] * 2
    assert (await bench.predict(rows)).status_code == 200
    await kit.until(lambda: len(bench.batches()) == 2)
    found = [batch.columns["key_hash"].tolist() for batch in bench.batches()]
    assert found == [[buckets.key_hash(SECRET) if is_told else 0] * 2] * 2


def profile_of(*inputs: Feature) -> Profile:
    return Profile("m", "0" * 64, list(inputs), [], None, None, None, None, "")


@pytest.mark.parametrize(
    ("sensitive", "withheld"),
    [
        (["age"], {0: "age"}),
        (["scan"], {1: "scan", 2: "scan", 3: "scan"}),
        (["scan[1]", "town"], {2: "scan[1]", 4: "town"}),
        (["nothing", "scan[3]"], {}),
        ([], {}),
    ],
)
def test_a_block_is_meant_whole_or_by_its_columns(sensitive: list[str], withheld: dict[int, str]) -> None:
    profile = profile_of(
        Feature("age", "FP32", [-1, 1], "numeric"),
        Feature("scan", "FP32", [-1, 3], "numeric"),
        Feature("town", "BYTES", [-1, 1], "categorical"),
    )
    assert answerers.withheld_of(profile, sensitive) == withheld
    assert answerers.withheld_of(None, sensitive) == {}


@pytest.mark.parametrize(
    ("sensitive", "unseen", "codes"),
    [
        ([], ["north", "south"], [0.0, 1.0]),
        (["towns"], [], [np.nan, np.nan]),
        (["towns[0]"], ["south"], [np.nan, 0.0]),
    ],
)
def test_of_a_block_of_categories_only_what_is_shown_is_spelled_out(
    sensitive: list[str], unseen: list[str], codes: list[float]
) -> None:
    profile = profile_of(Feature("age", "FP32", [-1, 1], "numeric"), Feature("towns", "BYTES", [-1, 2], "categorical"))
    known, _ = answerers.codes_of(profile)
    withheld = answerers.withheld_of(profile, sensitive)
    by = Answerer("default/m", 1, 1, "r1", "lr", "3", "champion", ("lr",), "0" * 64, profile, known, withheld=withheld)
    request: Any = SimpleNamespace(id=bytes(16), mark=(1, 0, "weight", 0, 200), key_hash=0)
    inputs = {"age": np.full((1, 1), 40, np.float32), "towns": np.array([["north", "south"]], object)}
    batch = envelope.build([runs.of(by, [request], [0.001], 5_000_000, 1, inputs, [])], "me", 1, 0, 0)
    assert batch.withheld == sensitive, "a block is named once, however wide it is"
    assert batch.unseen == ({"towns": unseen} if unseen else {})
    assert np.array_equal(batch.features[:, 0], np.array([40, *codes], np.float32), equal_nan=True)
