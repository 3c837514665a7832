"""stored = sent - dropped - lost, whatever arrives twice, late or never."""

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kingmaker_contracts.acks import EventAccount
from kingmaker_monitor.accounts import Account, total

if TYPE_CHECKING:
    from services.monitor.tests.conftest import Counting, World


def test_a_gap_costs_the_rows_its_neighbours_say() -> None:
    account = Account()
    account.accept(1, sent=0, dropped=0, count=10)
    account.accept(4, sent=45, dropped=5, count=10)
    assert (account.sent, account.dropped, account.stored, account.lost) == (55, 5, 20, 30)


def test_rows_dropped_without_a_gap_are_not_lost() -> None:
    account = Account()
    account.accept(1, sent=0, dropped=0, count=10)
    account.accept(2, sent=17, dropped=7, count=10)
    assert (account.sent, account.dropped, account.stored, account.lost) == (27, 7, 20, 0)


def test_a_producer_first_seen_late_has_lost_what_went_before() -> None:
    account = Account()
    account.accept(9, sent=80, dropped=0, count=10)
    assert (account.stored, account.lost) == (10, 80)


def test_a_batch_that_comes_late_is_lost_no_longer_and_not_a_duplicate() -> None:
    account = Account()
    account.accept(1, sent=0, dropped=0, count=10)
    account.accept(3, sent=20, dropped=0, count=10)
    assert account.lost == 10
    assert account.accept(2, sent=10, dropped=0, count=10)
    assert not account.accept(2, sent=10, dropped=0, count=10)
    assert (account.stored, account.lost) == (30, 0)


def test_an_ack_shows_the_gap_at_the_end_of_a_life() -> None:
    account = Account()
    account.accept(1, sent=0, dropped=0, count=10)
    account.acknowledge(last_seq=3, sent=35, dropped=5)
    assert (account.sent, account.dropped, account.stored, account.lost) == (35, 5, 10, 20)


def test_an_ack_of_rows_that_still_wait_in_the_gateway_is_no_loss() -> None:
    account = Account()
    account.accept(1, sent=0, dropped=0, count=10)
    account.acknowledge(last_seq=1, sent=18, dropped=0)
    assert (account.sent, account.lost) == (18, 0)


@given(st.data())
def test_the_accounts_balance_for_every_history(data: st.DataObject) -> None:
    """Batches of any size, any of them lost, repeated or swapped with the next; drops in between; an ack at the end."""
    sizes = data.draw(st.lists(st.integers(1, 50), min_size=1, max_size=20))
    drops = data.draw(st.lists(st.integers(0, 9), min_size=len(sizes), max_size=len(sizes)))
    fate = data.draw(st.lists(st.sampled_from(["once", "twice", "lost"]), min_size=len(sizes), max_size=len(sizes)))
    account, sent, dropped, arrivals = Account(), 0, 0, []
    for seq, (size, drop, what) in enumerate(zip(sizes, drops, fate, strict=True), 1):
        sent, dropped = sent + drop, dropped + drop
        arrivals += [(seq, sent, dropped, size)] * {"once": 1, "twice": 2, "lost": 0}[what]
        sent += size
    swap = data.draw(st.integers(0, max(0, len(arrivals) - 2)))
    arrivals[swap : swap + 2] = arrivals[swap : swap + 2][::-1]
    for arrival in arrivals:
        account.accept(*arrival)
    account.acknowledge(len(sizes), sent, dropped)
    lost = sum(size for size, what in zip(sizes, fate, strict=True) if what == "lost")
    found = total([account])
    assert (found.sent, found.dropped, found.lost) == (sent, dropped, lost)
    assert found.stored == found.sent - found.dropped - found.lost


def test_a_redelivered_batch_is_counted_as_duplicate_rows_and_nothing_else(
    counting: "Counting", world: "World"
) -> None:
    once = counting.take(world.batch(1), world.batch(2))
    again = counting.take(world.batch(2), world.batch(1))
    assert again.events.duplicates == 20
    assert again.events.stored == 20
    assert again.variants == once.variants
    assert again.feedback == once.feedback


@pytest.mark.parametrize("lives", [1, 3])
def test_each_life_of_a_gateway_has_its_own_numbers(counting: "Counting", world: "World", lives: int) -> None:
    for life in range(lives):
        evidence = counting.take(world.batch(1, producer=f"gw-{life}", first=life * 100))
    assert (evidence.events.stored, evidence.events.lost, evidence.events.duplicates) == (10 * lives, 0, 0)


def test_accounts_survive_a_restart(counting: "Counting", world: "World") -> None:
    before = counting.take(world.batch(1), world.batch(4, sent=30), acks={"gw-1": EventAccount(60, 0, 6)})
    counting.reopen()
    assert counting.evidence.events == before.events
    assert before.events.lost == 40
    after = counting.take(world.batch(4, sent=30), world.batch(2, sent=10))
    assert after.events.duplicates == 10
    assert after.events.stored == 30
