"""The lease over the local state file."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kingmaker_contracts.status import Status
from kingmaker_controller.errors import LeaderLost, LeaseHeld, LeaseUnavailable
from kingmaker_controller.leader import Leader, Lease, Pace
from kingmaker_controller.rollout.facts import Event
from kingmaker_controller.state import AUDIT_ROWS, State, StoredModel

NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture
def open_state(tmp_path: Path) -> Iterator[Callable[[], State]]:
    opened: list[State] = []

    def open_one() -> State:
        opened.append(State(tmp_path))
        return opened[-1]

    yield open_one
    for state in opened:
        state.close()


async def test_a_takeover_exceeds_every_epoch_anybody_has_seen(open_state: Callable[[], State]) -> None:
    state = open_state()
    assert await Leader(state, "a").acquire([], NOW) == 1
    assert await Leader(state, "b").acquire([7, 3], NOW) == 8, "the lock is ours: the holder of the lease is dead"
    assert await Leader(state, "c").acquire([2], NOW) == 9


async def test_a_living_holder_is_named_and_keeps_the_lease(open_state: Callable[[], State]) -> None:
    first, second = open_state(), open_state()
    leader = Leader(first, "pid 1 on here")
    await leader.acquire([], NOW)
    with pytest.raises(LeaseHeld, match="pid 1 on here, last seen 2026-11-21"):
        await Leader(second, "pid 2 on here").acquire([], NOW)
    await leader.confirm()


async def test_renewing_keeps_the_epoch_and_shows_the_time(open_state: Callable[[], State]) -> None:
    state = open_state()
    leader = Leader(state, "a")
    await leader.acquire([], NOW)
    await leader.renew(NOW.replace(hour=5))
    await leader.confirm()
    assert await state.read_lease() == Lease("a", 1, "2026-11-21T05:00:00.000Z")


async def test_a_released_lease_keeps_its_epoch(open_state: Callable[[], State]) -> None:
    first, second = open_state(), open_state()
    leader = Leader(first, "a")
    await leader.acquire([4], NOW)
    await leader.release()
    assert await Leader(second, "b").acquire([], NOW) == 6


async def test_a_lease_taken_away_is_noticed(open_state: Callable[[], State]) -> None:
    state = open_state()
    leader = Leader(state, "a")
    await leader.acquire([], NOW)
    assert await state.swap_lease(await state.read_lease(), Lease("thief", 9, "t"))
    with pytest.raises(LeaderLost, match="thief"):
        await leader.confirm()
    with pytest.raises(LeaderLost):
        await leader.raise_above(20, NOW)
    await leader.release()
    assert await state.read_lease() == Lease("thief", 9, "t")


async def test_the_epoch_is_raised_above_a_record_and_never_lowered(open_state: Callable[[], State]) -> None:
    state = open_state()
    leader = Leader(state, "a")
    await leader.acquire([], NOW)
    assert await leader.raise_above(12, NOW) == 13
    assert await leader.raise_above(5, NOW) == 13
    lease = await state.read_lease()
    assert lease is not None and lease.epoch == 13


class Late:
    """A store whose answers take their time, reads until `gate` is set, changes `late_s` of the clock; or get lost."""

    def __init__(self, state: State, clock: list[float]) -> None:
        self._state, self._clock = state, clock
        self.late_s = 0.0
        self.is_away = self.loses_answers = False
        self.gate: asyncio.Event | None = None

    async def read_lease(self) -> Lease | None:
        if self.is_away:
            raise LeaseUnavailable("no answer")
        lease = await self._state.read_lease()
        gate, self.gate = self.gate, None
        if gate is not None:
            await gate.wait()
        return lease

    async def swap_lease(self, old: Lease | None, new: Lease) -> bool:
        if self.is_away:
            raise LeaseUnavailable("no answer")
        self._clock[0] += self.late_s
        is_done = await self._state.swap_lease(old, new)
        if self.loses_answers:
            raise LeaseUnavailable("no answer")
        return is_done

    def is_held(self, lease: Lease, now: datetime) -> bool:
        return self._state.is_held(lease, now)


async def test_a_late_look_at_the_lease_is_not_taken_for_another_leaders_epoch(open_state: Callable[[], State]) -> None:
    store = Late(open_state(), [0.0])
    leader = Leader(store, "a")
    await leader.acquire([], NOW)
    store.gate = gate = asyncio.Event()
    looking = asyncio.create_task(leader.confirm())
    await asyncio.sleep(0)
    raising = asyncio.create_task(leader.raise_above(6, NOW))
    for _ in range(20):  # as far as it comes
        await asyncio.sleep(0)
    gate.set()
    await looking
    assert await raising == 7


async def test_an_epoch_raised_without_hearing_of_it_is_not_taken_for_another_leaders(
    open_state: Callable[[], State],
) -> None:
    store = Late(open_state(), [0.0])
    leader = Leader(store, "a")
    await leader.acquire([], NOW)
    store.loses_answers = True
    with pytest.raises(LeaseUnavailable):
        await leader.raise_above(7, NOW)
    store.loses_answers = False
    await leader.confirm()
    await leader.renew(NOW.replace(minute=1))
    assert leader.epoch == 8, "it was said once and is not taken back"
    assert await leader.raise_above(7, NOW) == 8


async def test_a_renewal_counts_from_when_it_was_asked_for(open_state: Callable[[], State]) -> None:
    """Others may have seen it then; the answer comes later."""
    clock = [0.0]
    store = Late(open_state(), clock)
    leader = Leader(store, "a", Pace(look_s=2.0, renew_s=2.0, give_up_s=10.0), lambda: clock[0])
    store.late_s = 8.0
    await leader.acquire([], NOW)
    store.is_away = True
    await leader.hold(NOW)
    clock[0] = 10.0
    with pytest.raises(LeaderLost, match="could not be renewed"):
        await leader.hold(NOW)


async def test_a_swap_against_another_lease_changes_nothing(open_state: Callable[[], State]) -> None:
    state = open_state()
    lease = Lease("a", 1, "t")
    assert await state.swap_lease(None, lease)
    assert not await state.swap_lease(None, Lease("b", 2, "t"))
    assert not await state.swap_lease(Lease("a", 2, "t"), Lease("b", 3, "t"))
    assert await state.read_lease() == lease


async def test_models_and_their_audit_survive_and_the_log_is_bounded(open_state: Callable[[], State]) -> None:
    state = open_state()
    stored = StoredModel("default/flights", "t", 3, {"a": [1]}, Status(phase="Stable", message="ü"), removed=False)
    await state.save(stored, [Event("First", "f")] + [Event("More", str(i)) for i in range(AUDIT_ROWS)], NOW)
    again = open_state()
    assert again.models() == {"default/flights": stored}
    entries = again.audit("default/flights", AUDIT_ROWS + 5)
    assert len(entries) == AUDIT_ROWS
    assert (entries[0].message, entries[-1].message) == (str(AUDIT_ROWS - 1), "0")
    assert again.audit("default/other") == []
