"""Latencies of a frame are counted together as each alone would be."""

import math

from hypothesis import given
from hypothesis import strategies as st

from kingmaker_gateway.tally import LATENCY_S, Tally

near = st.sampled_from(LATENCY_S).flatmap(
    lambda bound: st.sampled_from([bound, math.nextafter(bound, 0.0), math.nextafter(bound, 9.0)])
)
latencies = st.lists(st.one_of(near, near, st.floats(0, 60), st.sampled_from([0.0, 2.5, 9.9])), min_size=1)


@given(st.lists(st.tuples(st.sampled_from([200, 503]), latencies), max_size=5))
def test_frames_of_any_latencies_count_as_one_by_one(frames: list[tuple[int, list[float]]]) -> None:
    tally = Tally()
    slots, by_status, total_s = [0] * (len(LATENCY_S) + 1), {200: 0, 503: 0}, 0.0
    for status, found in frames:
        if len(found) == 1:
            tally.answered(status, found[0])
        else:
            tally.answered_together(status, found)
        by_status[status] += len(found)
        total_s += sum(found)
        for latency_s in found:  # the first bucket whose upper bound it does not exceed
            slots[next((i for i, bound in enumerate(LATENCY_S) if latency_s <= bound), len(LATENCY_S))] += 1
    assert tally.slots == slots
    assert {status: tally.by_status.get(status, 0) for status in (200, 503)} == by_status
    assert tally.total_s == total_s  # to the last bit: it is the same sum
