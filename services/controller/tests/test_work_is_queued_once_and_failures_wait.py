"""The work queue, with time passed in."""

import pytest

from kingmaker_controller.queue import FIRST_WAIT_S, LONGEST_WAIT_S, WorkQueue


def test_a_key_reported_often_is_due_once() -> None:
    queue = WorkQueue()
    for at in (1.0, 1.1, 1.2):
        queue.add("a", at)
    queue.add("b", 1.0)
    assert queue.take(2.0) == ["a", "b"]
    assert queue.take(2.0) == []


def test_the_earliest_moment_counts() -> None:
    queue = WorkQueue()
    queue.add_after("a", 10.0)
    queue.add_after("a", 20.0)
    assert queue.take(9.9) == [] and queue.wait_s(9.0, 60.0) == 1.0
    queue.add("a", 9.95)
    assert queue.take(10.0) == ["a"]
    assert queue.wait_s(10.0, 5.0) == 5.0


def test_failures_wait_longer_each_time_and_no_longer_than_the_longest() -> None:
    queue, now, waits = WorkQueue(), 0.0, []
    for _ in range(12):
        queue.failed("a", now)
        queue.sweep("a", now)
        waits.append(queue.wait_s(now, 1e9))
        now += waits[-1]
        assert queue.take(now) == ["a"]
    assert waits[:3] == pytest.approx([FIRST_WAIT_S, 2 * FIRST_WAIT_S, 4 * FIRST_WAIT_S])
    assert waits[-1] == LONGEST_WAIT_S


def test_something_new_brings_a_failed_key_forward_and_success_forgets() -> None:
    queue = WorkQueue()
    queue.failed("a", 0.0)
    queue.failed("a", 0.0)
    queue.add("a", 0.1)
    assert queue.take(0.1) == ["a"]
    queue.succeeded("a")
    queue.failed("a", 1.0)
    assert queue.wait_s(1.0, 60.0) == pytest.approx(FIRST_WAIT_S)
