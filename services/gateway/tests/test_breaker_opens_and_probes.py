"""The breaker against a clock that is an argument."""

from kingmaker_gateway.breaker import Breaker, State
from kingmaker_gateway.settings import BreakerSettings


def breaker() -> Breaker:
    return Breaker(BreakerSettings(failures=3, open_ms=1000, probes=2))


def opened() -> Breaker:
    sick = breaker()
    for _ in range(3):
        assert sick.admits(0.0)
        sick.failed(0.0)
    return sick


def test_failures_in_a_row_open_it() -> None:
    assert opened().state is State.OPEN


def test_a_success_between_failures_keeps_it_closed() -> None:
    b = breaker()
    for _ in range(5):
        b.failed(0.0)
        b.failed(0.0)
        b.succeeded()
    assert b.state is State.CLOSED


def test_open_admits_nobody_before_its_time() -> None:
    b = opened()
    assert not b.admits(0.999)
    assert not b.would_admit(0.999)


def test_half_open_admits_one_probe_at_a_time() -> None:
    b = opened()
    assert b.would_admit(1.0)
    assert b.admits(1.0)
    assert b.state is State.HALF_OPEN
    assert not b.admits(1.0)
    b.succeeded()
    assert b.admits(1.0)


def test_enough_good_probes_close_it() -> None:
    b = opened()
    for _ in range(2):
        assert b.admits(1.0)
        b.succeeded()
    assert b.state is State.CLOSED


def test_a_bad_probe_opens_it_for_another_while() -> None:
    b = opened()
    assert b.admits(1.0)
    b.succeeded()
    assert b.admits(1.0)
    b.failed(1.5)
    assert b.state is State.OPEN
    assert not b.admits(2.4)
    assert b.admits(2.5)


def test_a_probe_that_was_cancelled_gives_its_place_back() -> None:
    b = opened()
    assert b.admits(1.0)
    b.abandoned()
    assert b.admits(1.0)
