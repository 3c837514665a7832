"""Ids made ahead are new each time, say when they were taken, and name their partition."""

import time

import pytest

from kingmaker_contracts import prediction_ids
from kingmaker_contracts.prediction_ids import SPAN_MS
from kingmaker_gateway.ids import Ids


@pytest.mark.parametrize("count", [1, 3, 4, 64, 700])
def test_as_many_as_are_wanted_and_each_once(count: int) -> None:
    ids = Ids(7)
    taken = [pair for _ in range(1500 // count + 2) for pair in zip(*ids.take(count), strict=True)]
    assert len(taken) == (1500 // count + 2) * count
    assert len({raw for raw, _ in taken}) == len(taken)
    for raw, text in taken:
        assert text.decode() == prediction_ids.text(raw)
        assert prediction_ids.partition_of(raw) == 7
        assert abs(prediction_ids.unix_ms_of(raw) - time.time() * 1000) < 60_000
        assert prediction_ids.parse(text.decode()).id == raw


def test_none_are_none() -> None:
    assert [*map(list, Ids(0).take(0))] == [[], []]


@pytest.mark.parametrize("count", [1, 5, 20])
def test_an_id_says_when_it_was_taken_wherever_the_clock_goes(count: int) -> None:
    now_ms = 1_790_000_000_000
    ids = Ids(0, lambda: now_ms * 1_000_000 + 999_999)
    seen: set[bytes] = set()
    for step_ms in (0, 1, 255, 256, SPAN_MS - 1, SPAN_MS, -1, -SPAN_MS, 10 * SPAN_MS, 0):
        now_ms += step_ms
        raws, texts = ids.take(count)
        assert [prediction_ids.unix_ms_of(raw) for raw in raws] == [now_ms] * count
        assert [text.decode() for text in texts] == [prediction_ids.text(raw) for raw in raws]
        assert seen.isdisjoint(raws)
        seen.update(raws)
