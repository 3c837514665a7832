"""The split as a pure function: exact in buckets, faithful to the ranges, and blind to everything else."""

import hashlib
import uuid
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kingmaker_contracts import buckets
from kingmaker_contracts.labels import Role
from kingmaker_contracts.routing import Limits, RoutedVariant, RoutingRecord, Sticky
from kingmaker_gateway import split
from kingmaker_gateway.split import CHAMPION, Choice

YES = (True, True, True)


def record(ranges: str, salt: str = "default/flights") -> RoutingRecord:
    names: list[tuple[str, Role]] = [("gbm", "challenger"), ("lr", "champion"), ("nn", "challenger")]
    variants = [RoutedVariant(name, role, "1", name, [], 0, 0, None) for name, role in names]
    return RoutingRecord(
        *("default", "flights", 1, 1, 1, "r", "Canary", variants, ranges),
        *(Sticky("PredictionId", salt), "Allowed", Limits(), "test", "now"),
    )


def choose(
    table: split.Table,
    key: str | None = None,
    prediction_id: str = "p",
    *,
    override: int | None = None,
    eligible: Sequence[bool] = YES,
    available: Sequence[bool] = YES,
) -> Choice:
    [assigned] = table.assigned([(prediction_id if key is None else key).encode()])
    return split.choose(table, assigned, key is not None, override, eligible, lambda i, _: available[i], 0.0)


def owner_by_reading(ranges: str, salt: str, key: str) -> str:
    """The oracle: the rule of the design, read off the text of the ranges."""
    digest = hashlib.blake2b(salt.encode() + b"\0" + key.encode(), digest_size=8).digest()
    bucket = int.from_bytes(digest, "big") % 10000
    for part in filter(None, ranges.split(",")):
        name, _, span = part.partition(":")
        first, last = map(int, span.split("-"))
        if first <= bucket <= last:
            return name
    return "lr"


def test_the_champion_stands_first_wherever_the_record_has_it() -> None:
    assert split.build(record("")).variants == ("lr", "gbm", "nn")


def test_every_bucket_goes_to_whom_the_ranges_give_it() -> None:
    table = split.build(record("gbm:0-499,nn:500-999,gbm:9999-9999"))
    assert [table.variants[i] for i in table.owner] == ["gbm"] * 500 + ["nn"] * 500 + ["lr"] * 8999 + ["gbm"]


@pytest.mark.parametrize(("ranges", "expected"), [("", 0), ("gbm:0-9999", 10000)])
def test_nothing_and_everything_are_exact(ranges: str, expected: int) -> None:
    table = split.build(record(ranges))
    ids = [str(uuid.UUID(int=i)) for i in range(10_000)]
    assert sum(choose(table, prediction_id=i).variant != CHAMPION for i in ids) == expected


def test_ten_thousand_ids_fall_exactly_as_the_rule_says() -> None:
    ranges = "gbm:0-1999,nn:2000-2499"
    table = split.build(record(ranges))
    ids = [str(uuid.UUID(int=i * 7919)) for i in range(10_000)]
    chosen = [table.variants[choose(table, prediction_id=i).variant] for i in ids]
    assert chosen == [owner_by_reading(ranges, "default/flights", i) for i in ids]
    assert 0.18 < chosen.count("gbm") / 10_000 < 0.22  # the hash spreads: 5 standard errors are 0.02


@pytest.mark.parametrize("count", [0, 1, 7, 8, 500])
def test_names_taken_together_fall_as_each_alone(count: int) -> None:
    table = split.build(record("gbm:0-3999,nn:4000-6999"))
    names = [str(uuid.UUID(int=i * 104729)).encode() for i in range(count)]
    together = table.assigned(names)
    assert together == [table.assigned([name])[0] for name in names]
    assert [table.variants[i] for i in together] == [
        owner_by_reading("gbm:0-3999,nn:4000-6999", "default/flights", name.decode()) for name in names
    ]


part = st.tuples(st.integers(0, 99), st.integers(0, 99), st.sampled_from(["gbm", "nn"]))


@given(st.lists(part, max_size=6), st.text(min_size=1, max_size=20), st.text(max_size=20), st.text(max_size=10))
def test_any_ranges_any_key_agree_with_the_oracle(
    parts: list[tuple[int, int, str]], key: str, prediction_id: str, salt: str
) -> None:
    spans = {slot: (slot * 100 + min(w, 99), name) for slot, w, name in parts}
    ranges = ",".join(f"{name}:{slot * 100}-{last}" for slot, (last, name) in sorted(spans.items()))
    table = split.build(record(ranges, salt))
    choice = choose(table, key, prediction_id)
    assert table.variants[choice.variant] == owner_by_reading(ranges, salt, key)
    assert choice == Choice(choice.assigned, choice.assigned, "sticky")


@given(st.text(min_size=1), st.text(), st.text())
def test_a_key_decides_alone(key: str, one_id: str, another_id: str) -> None:
    table = split.build(record("gbm:0-4999"))
    assert choose(table, key, one_id) == choose(table, key, another_id)


@given(st.integers(0, 99), st.integers(0, 99), st.text(min_size=1))
def test_growing_a_challenger_takes_no_caller_from_it(small: int, more: int, key: str) -> None:
    last = min(9999, small * 100 + more * 100)
    before = choose(split.build(record(f"gbm:0-{small * 100}")), key)
    after = choose(split.build(record(f"gbm:0-{last}")), key)
    assert before.variant == CHAMPION or after.variant == before.variant


@given(st.lists(st.booleans(), min_size=3, max_size=3), st.lists(st.booleans(), min_size=3, max_size=3), st.text())
def test_whoever_is_chosen_may_answer(eligible: list[bool], available: list[bool], prediction_id: str) -> None:
    table = split.build(record("gbm:0-4999,nn:5000-8999"))
    choice = choose(table, prediction_id=prediction_id, eligible=eligible, available=available)
    meant = choose(table, prediction_id=prediction_id)
    assert choice.assigned == meant.variant
    if choice.variant != CHAMPION:
        assert eligible[choice.variant]
        assert available[choice.variant]
        assert choice.reason == "weight"
    elif choice.assigned != CHAMPION:
        assert choice.reason == ("ineligible" if not eligible[choice.assigned] else "fallback")


def test_an_override_is_obeyed_before_anything_else() -> None:
    table = split.build(record(""))
    assert choose(table, "key", override=2, eligible=(True, False, False)) == Choice(2, 2, "override")


def test_mirroring_is_exact_at_the_ends_and_independent_between_shadows() -> None:
    ids = [str(uuid.UUID(int=i)) for i in range(4000)]

    def mirrored(name: str, percent: int) -> set[str]:
        return {i for i in ids if split.is_mirrored("salt", name, percent, i.encode())}

    assert not mirrored("gbm", 0)
    assert mirrored("gbm", 100) == set(ids)
    one, two = mirrored("gbm", 50), mirrored("nn", 50)
    assert 0.45 < len(one) / 4000 < 0.55
    assert 0.20 < len(one & two) / 4000 < 0.30


def test_the_bucket_is_the_contract_s() -> None:
    table = split.build(record("gbm:0-4999"))
    assert (choose(table, "user-1").variant != CHAMPION) == (buckets.bucket_of("default/flights", "user-1") < 5000)
