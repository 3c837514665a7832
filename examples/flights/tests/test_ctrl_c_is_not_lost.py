import signal

import pytest

from examples.flights.insistence import insisting


def interrupted(again_s: float, times: int) -> None:
    with insisting(again_s):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            swallow(times)


def swallow(times: int) -> None:
    """Be interrupted so many times more and go on as if nothing were, as libraries do; then wait."""
    for _ in range(times):
        try:
            signal.pause()
        except KeyboardInterrupt:
            continue
    signal.pause()


def test_an_interrupt_that_a_library_swallows_comes_again() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        interrupted(again_s=0.01, times=2)
    assert signal.getsignal(signal.SIGINT) is before


def test_nothing_is_raised_once_the_block_has_been_left() -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted(again_s=0.05, times=0)
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
