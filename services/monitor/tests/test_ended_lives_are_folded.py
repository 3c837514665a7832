"""Gateways start again and again; what is known of them stays small, and the accounts exact."""

import itertools
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kingmaker_contracts import events, keys
from kingmaker_contracts.acks import EventAccount, GatewayAck
from kingmaker_contracts.report import ModelReport
from kingmaker_contracts.wire import write_json
from kingmaker_monitor.accounts import Account, finished
from kingmaker_monitor.ingest.decoding import Read, decode
from kingmaker_monitor.positions import Extent

if TYPE_CHECKING:
    from services.monitor.tests.conftest import Counting, Process, World

FILES = itertools.count()


@pytest.mark.parametrize(
    ("keep", "first", "acked", "gone"),
    [
        (0, b"9-0", (), ["a", "b"]),
        (1, b"9-0", (), ["a"]),
        (5, b"9-0", (), []),
        (0, b"9-0", ("a",), ["b"]),
        (0, b"5-0", (), ["a"]),
        (0, b"4-0", (), []),  # a's newest entry is the oldest of the stream
        (0, None, (), ["a", "b"]),
    ],
)
def test_a_life_is_folded_when_nothing_of_it_can_come_again(
    keep: int, first: bytes | None, acked: tuple[str, ...], gone: list[str]
) -> None:
    accounts = {
        "b": Account(closed=True, number=2, last_entry=b"8-3"),
        "a": Account(closed=True, number=1, last_entry=b"4-0"),
        "alive": Account(number=3, last_entry=b"2-0"),
    }
    assert finished(accounts, first_entry=first, acked=acked, keep=keep) == gone


@dataclass
class Stream:
    """A stream in Redis, the acks beside it, and the gateway that lives now."""

    world: "World"
    entries: list[tuple[bytes, events.EventBatch]] = field(default_factory=list)
    acks: dict[str, EventAccount] = field(default_factory=dict)
    added: int = 0
    life: int = 0
    seq: int = 0
    sent: int = 0
    dropped: int = 0
    former: dict[int, tuple[int, int, int]] = field(default_factory=dict)

    @property
    def producer(self) -> str:
        return f"gw-{self.life}"

    def write(self, count: int, dropped: int, is_lost: bool, is_repeated: bool) -> None:
        self.dropped += dropped
        self.sent += dropped
        self.seq += 1
        first = 100_000 * (self.life + 1) + 100 * self.seq
        batch = self.world.batch(
            self.seq, count, producer=self.producer, sent=self.sent, dropped=self.dropped, first=first
        )
        self.sent += count
        for _ in range(0 if is_lost else 2 if is_repeated else 1):
            self.added += 1
            self.entries.append((b"%d-0" % self.added, batch))

    def ack(self) -> None:
        self.acks[self.producer] = EventAccount(self.sent, self.dropped, self.seq)

    def start_anew(self) -> None:
        self.former[self.life] = (self.seq, self.sent, self.dropped)
        self.life = max(self.former) + 1
        self.seq = self.sent = self.dropped = 0

    def come_back(self, nth: int) -> None:
        """A life everybody took for over goes on where it was; the one that lives now is cut off instead."""
        self.former[self.life] = (self.seq, self.sent, self.dropped)
        self.life = sorted(self.former)[nth % len(self.former)]
        self.seq, self.sent, self.dropped = self.former[self.life]

    @property
    def extent(self) -> Extent:
        first = self.entries[0][0] if self.entries else None
        return Extent(b"%d-0" % self.added, self.added, len(self.entries), first)

    def read_by(self, counting: "Counting", from_beginning: bool = False) -> None:
        """To its end, as the reader does, and then look what may be folded."""
        stream = self.world.event_stream
        at = counting.state.positions.get(stream.key)
        offset = 0 if at is None or from_beginning else int(at.offset.partition(b"-")[0])
        new = [(id, {b"b": events.encode(batch)}) for id, batch in self.entries if int(id.partition(b"-")[0]) > offset]
        dead = frozenset(f"gw-{n}" for n in self.former if n != self.life)
        counting.book.apply([decode(Read(stream, new, dict(self.acks), dead))], self.world.t0)
        counting.book.fold(stream, self.extent, self.acks)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 9), st.integers(0, 2), st.booleans(), st.booleans()),
        st.tuples(st.sampled_from(["ack", "start anew", "look", "forget acks", "restart", "again from the beginning"])),
        st.tuples(st.just("trim"), st.integers(1, 20)),
        st.tuples(st.just("come back"), st.integers(0, 9)),
    ),
    min_size=5,
    max_size=40,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_the_sum_is_that_of_a_monitor_that_folds_nothing(
    new_counting: "Callable[..., Counting]", world: "World", steps: list[Any]
) -> None:
    """Batches lost and repeated, lives that end and come back, trims, restarts; and a stream is read from its beginning
    again."""
    number = next(FILES)
    folding, keeping = new_counting(f"folding{number}.db", closed_lives=0), new_counting(f"keeping{number}.db")
    stream = Stream(world)
    for step, *rest in [*steps, ("start anew",), ("look",), ("again from the beginning",)]:
        if step == "write":
            stream.write(*rest)
        elif step == "ack":
            stream.ack()
        elif step == "start anew":
            stream.start_anew()
        elif step == "come back":
            stream.come_back(*rest)
        elif step == "forget acks":
            stream.acks = {}
        elif step == "restart":
            folding.reopen()
        else:
            for one in (folding, keeping):  # a trim takes only what was read: loss by trims is told elsewhere
                stream.read_by(one, from_beginning=step == "again from the beginning")
            if step == "trim":
                del stream.entries[: rest[0]]
            assert folding.evidence.events == keeping.evidence.events
    folding.store.close()
    keeping.store.close()


def test_three_hundred_restarts_leave_no_more_than_is_kept(
    new_counting: "Callable[..., Counting]", world: "World"
) -> None:
    counting = new_counting(closed_lives=20)
    stream = Stream(world)
    for life in range(300):
        stream.write(3, 1, is_lost=life % 7 == 3, is_repeated=False)
        stream.write(2, 0, is_lost=False, is_repeated=False)
        del stream.entries[:-4]
        stream.read_by(counting)
        stream.start_anew()
    stream.read_by(counting)
    assert len(counting.state.accounts) <= 24
    assert counting.store.sql.execute("SELECT count(*) FROM producers").fetchone() == (len(counting.state.accounts),)
    assert counting.state.tally.folded_lives == 300 - len(counting.state.accounts)
    found = counting.evidence.events
    lost = 3 * len([life for life in range(300) if life % 7 == 3])
    assert (found.sent, found.dropped, found.stored, found.lost) == (300 * 6, 300, 300 * 5 - lost, lost)
    counting.reopen()
    assert counting.evidence.events == found
    newest = [account.number for account in counting.state.accounts.values()]
    assert newest == sorted(newest)


def fold_one(counting: "Counting", world: "World") -> Stream:
    """A life with a batch stored, one lost and a row dropped, taken for over and folded."""
    stream = Stream(world)
    for is_lost in (False, True, False):
        stream.write(5, 1, is_lost=is_lost, is_repeated=False)
    stream.read_by(counting)
    stream.start_anew()
    stream.entries.clear()
    stream.read_by(counting)
    assert counting.state.accounts == {}
    return stream


@pytest.mark.parametrize("restart", [False, True])
def test_a_gateway_that_returns_after_its_life_was_folded_goes_on_where_it_was(
    new_counting: "Callable[..., Counting]", world: "World", restart: bool
) -> None:
    counting = new_counting(closed_lives=0)
    stream = fold_one(counting, world)
    before = counting.evidence.events
    assert (before.sent, before.stored, before.dropped, before.lost) == (18, 10, 3, 5)
    if restart:
        counting.reopen()
    stream.come_back(0)
    stream.write(4, 0, is_lost=False, is_repeated=True)
    stream.read_by(counting)
    found = counting.evidence.events
    assert (found.sent, found.stored, found.dropped, found.lost) == (22, 14, 3, 5)
    assert counting.state.tally.folded_lives == 0
    assert counting.state.tally.lives == 1
    stream.start_anew()
    stream.entries.clear()
    stream.read_by(counting)
    assert (counting.state.tally.folded_lives, counting.evidence.events) == (1, found)


def test_an_ack_alone_brings_a_folded_life_back(new_counting: "Callable[..., Counting]", world: "World") -> None:
    counting = new_counting(closed_lives=0)
    stream = fold_one(counting, world)
    stream.come_back(0)
    stream.sent += 6
    stream.ack()
    stream.read_by(counting)
    found = counting.evidence.events
    assert (found.sent, found.stored, found.dropped, found.lost) == (24, 10, 3, 5), "six rows wait in its buffer"


def test_the_file_remembers_the_newest_folded_lives_and_no_more(
    new_counting: "Callable[..., Counting]", world: "World"
) -> None:
    counting = new_counting(closed_lives=0)
    stream = Stream(world)
    for life in range(5):
        if life == 4:
            counting.state.tally.lives = 10_001  # as if so many had been seen by now
        stream.write(3, 0, is_lost=False, is_repeated=False)
        stream.read_by(counting)
        stream.start_anew()
        stream.entries.clear()
        stream.read_by(counting)
    assert counting.state.tally.folded_lives == 5
    numbers = counting.store.sql.execute("SELECT number FROM folded ORDER BY number").fetchall()
    assert numbers == [(3,), (4,), (10_002,)]


def test_folding_and_kills_leave_exact_accounts(
    new_process: "Callable[..., Process]", publish: Callable[..., None], valkey: Any, world: "World"
) -> None:
    monitor = new_process(valkey.url, closed_lives="1")
    publish(valkey.client, world.plan())
    monitor.start()
    sent = 0

    def is_closed() -> bool:
        return told(monitor).events.lost == sent // 5

    for life in range(4):
        name = f"gw-{life}"
        for seq in range(1, 4):
            publish(valkey.client, world.batch(seq, 4, producer=name, first=1000 * life + 10 * seq))
        sent += 15  # three rows more than were written: they die with the gateway
        ack = GatewayAck(name, 0, "", "", {}, {}, {world.model: EventAccount(15, 0, 3, 12)}, ended=True)
        valkey.client.set(keys.gateway(name), write_json(ack))
        if life == 2:
            monitor.stop(signal.SIGKILL)
            monitor.start()
        monitor.until(is_closed)
        valkey.client.delete(keys.gateway(name))
        valkey.client.xtrim(world.event_stream.key, maxlen=2, approximate=False)
    monitor.until(lambda: told(monitor).pipeline.folded_lives >= 2)
    found = told(monitor)
    assert (found.events.sent, found.events.stored, found.events.dropped, found.events.lost) == (60, 48, 0, 12)
    assert found.variants["lr"].answered == 48
    assert found.pipeline.trimmed_events == 0
    assert len(found.pipeline.producers) + found.pipeline.folded_lives == 4


def told(monitor: Any) -> ModelReport:
    return msgspec.json.decode(monitor.get("/api/models/flights").content, type=ModelReport)
