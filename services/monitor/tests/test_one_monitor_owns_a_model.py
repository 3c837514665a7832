"""One monitor counts a model: a lease says which, and a token keeps a former holder from writing."""

import re
import signal
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from redis.asyncio.client import Pipeline

from kingmaker_contracts import keys
from kingmaker_monitor.errors import Superseded
from kingmaker_monitor.ingest.ownership import Leases, is_ours
from kingmaker_servicekit import redis_client

if TYPE_CHECKING:
    from services.monitor.tests.conftest import Counting, Process, World

MODEL = "default/flights"
KEY = keys.evidence("default", "flights")


class Hands:
    """Monitors that want the same lease, with one clock that a test moves (the server's keeps its own time)."""

    def __init__(self, url: str) -> None:
        self.redis = redis_client.connect(url)
        self.now = 0.0

    def new(self, owner: str, seconds: float = 60, **wanted: Any) -> Leases:
        return Leases(self.redis, owner, seconds=seconds, clock=lambda: self.now, **wanted)


@pytest.fixture
async def hands(valkey: Any) -> Any:
    made = Hands(valkey.url)
    yield made
    await made.redis.aclose()


async def test_a_second_monitor_gets_no_lease_and_cannot_write(hands: Hands, valkey: Any) -> None:
    first, second = hands.new("one"), hands.new("two")
    assert await first.hold({MODEL: 0}) == {MODEL: 1}
    assert await second.hold({MODEL: 0}) == {}
    assert re.fullmatch(r"one\.[0-9a-f]{8}:1", second.holder(MODEL))
    assert await first.write(MODEL, KEY, b"1")
    assert not await second.write(MODEL, KEY, b"2")
    assert valkey.client.get(KEY) == b"1"


@pytest.mark.parametrize("value", [b"one", b"", b"\xff:1"])
async def test_a_lease_that_nobody_can_have_written_is_another_holders(hands: Hands, valkey: Any, value: bytes) -> None:
    valkey.client.set(keys.monitor_lease("default", "flights"), value)
    assert await hands.new("one").hold({MODEL: 0}) == {}


async def test_a_holder_that_slept_writes_nothing_and_its_successor_has_a_higher_token(
    hands: Hands, valkey: Any
) -> None:
    sleeper, successor = hands.new("one"), hands.new("two")
    await sleeper.hold({MODEL: 0})
    valkey.client.delete(keys.monitor_lease("default", "flights"))  # as its time to live would
    assert await successor.hold({MODEL: 0}) == {MODEL: 2}
    assert not await sleeper.write(MODEL, KEY, b"stale")
    assert await successor.write(MODEL, KEY, b"new")
    assert await sleeper.hold({MODEL: 1}) == {}
    assert valkey.client.get(KEY) == b"new"


async def test_a_lease_is_trusted_no_longer_than_it_lives(hands: Hands) -> None:
    one = hands.new("one", seconds=10)
    await one.hold({MODEL: 0})
    hands.now = 9.9
    assert one.is_held(MODEL)
    hands.now = 10.0
    assert not one.is_held(MODEL)
    assert await one.hold({MODEL: 1}) == {MODEL: 1}
    assert one.is_held(MODEL)


async def test_a_killed_monitor_takes_its_own_lease_again_at_once_but_a_copy_of_its_file_does_not(hands: Hands) -> None:
    killed, reborn, copy = hands.new("file"), hands.new("file"), hands.new("file")
    await killed.hold({MODEL: 0})
    assert await reborn.hold({MODEL: 1}) == {MODEL: 2}
    assert await killed.hold({MODEL: 1}) == {}
    assert not await killed.write(MODEL, KEY, b"stale")
    assert await copy.hold({MODEL: 1}) == {MODEL: 3}
    assert await reborn.hold({MODEL: 2}) == {}


async def test_a_lease_whose_answer_got_lost_is_known_for_ones_own(
    hands: Hands, valkey: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Redis that stood still for longer than the lease carries out what was asked meanwhile, when nobody waits."""
    one, two = hands.new("one"), hands.new("two")
    assert await one.hold({MODEL: 0}) == {MODEL: 1}
    valkey.client.delete(keys.monitor_lease("default", "flights"))  # as its time to live would
    execute = Pipeline.execute

    async def lose(*args: Any, **wanted: Any) -> None:
        await execute(*args, **wanted)
        raise TimeoutError

    with monkeypatch.context() as lost:
        lost.setattr(Pipeline, "execute", lose)
        with pytest.raises(TimeoutError):
            await one.hold({MODEL: 1})
    assert not await one.write(MODEL, KEY, b"stale")
    assert await one.hold({MODEL: 1}) == {MODEL: 2}
    assert one.holder(MODEL) == ""
    assert await two.hold({MODEL: 0}) == {}
    assert await one.write(MODEL, KEY, b"new")


async def test_a_lease_of_an_earlier_release_is_known_for_the_files_own(hands: Hands, valkey: Any) -> None:
    lease = keys.monitor_lease("default", "flights")
    valkey.client.mset({lease: "file:5", keys.monitor_token("default", "flights"): "5"})
    assert await hands.new("other").hold({MODEL: 0}) == {}
    assert await hands.new("file").hold({MODEL: 5}) == {MODEL: 6}


async def test_a_token_never_falls_below_what_the_file_knows(hands: Hands, valkey: Any) -> None:
    valkey.client.flushall()
    assert await hands.new("one").hold({MODEL: 41}) == {MODEL: 42}


async def test_a_clean_stop_hands_over_at_once(hands: Hands) -> None:
    one, two = hands.new("one"), hands.new("two")
    await one.hold({MODEL: 0})
    await one.release()
    assert await two.hold({MODEL: 0}) == {MODEL: 2}
    await one.release()
    assert await two.write(MODEL, KEY, b"2")


@pytest.mark.parametrize("shards", [1, 2, 3, 8])
def test_every_model_falls_to_exactly_one_of_several_monitors(shards: int) -> None:
    models = [f"default/m{i}" for i in range(800)]
    shares = Counter(shard for model in models for shard in range(shards) if is_ours(model, shard, shards))
    assert sum(shares.values()) == len(models)
    assert min(shares.values()) > 0.7 * len(models) / shards


def test_the_share_of_a_model_is_the_same_in_every_release() -> None:
    assert [next(s for s in range(8) if is_ours(f"default/{n}", s, 8)) for n in ("flights", "loans", "ads")] == [
        6,
        7,
        1,
    ]


def test_a_file_that_knows_a_higher_token_refuses_a_round(counting: "Counting", world: "World") -> None:
    counting.take(world.batch(1))
    counting.store.sql.execute("UPDATE models SET token = 7")
    with pytest.raises(Superseded, match="token 7"):
        counting.take(world.batch(2))
    assert counting.evidence.events.stored == 10
    with pytest.raises(Superseded):
        counting.book.follow({}, {MODEL: 3})


async def test_two_monitors_with_files_of_their_own_count_once(
    new_process: "Callable[..., Process]", publish: Callable[..., None], valkey: Any, world: "World", tmp_path: Any
) -> None:
    first = new_process(valkey.url, lease_seconds="2")
    second = new_process(valkey.url, lease_seconds="2", state_file=str(tmp_path / "second.db"), port="0")
    publish(valkey.client, world.plan(), world.batch(1))
    first.start()
    first.until(lambda: first.evidence().events.stored == 10)
    second.start()
    first.until(lambda: "another monitor counts this model" in first.log.read_text())
    first.stop(signal.SIGKILL)
    lease = keys.monitor_lease("default", "flights")
    publish(valkey.client, world.batch(2))
    held = valkey.client.get(lease)
    first.until(lambda: (now := valkey.client.get(lease)) is not None and now != held)
    assert int(valkey.client.get(lease).rpartition(b":")[2]) > int(held.rpartition(b":")[2])


async def test_a_restart_after_a_kill_needs_no_wait(
    new_process: "Callable[..., Process]", publish: Callable[..., None], valkey: Any, world: "World"
) -> None:
    publish(valkey.client, world.plan(), world.batch(1))
    monitor = new_process(valkey.url, lease_seconds="300")
    monitor.start()
    monitor.until(lambda: monitor.evidence().events.stored == 10)
    monitor.stop(signal.SIGKILL)
    publish(valkey.client, world.batch(2))
    monitor.start()
    monitor.until(lambda: monitor.evidence().events.stored == 20)
    assert valkey.client.get(keys.monitor_lease("default", "flights")).endswith(b":2")


async def test_a_monitor_that_stood_still_gives_up_what_it_had_read(
    new_process: "Callable[..., Process]", publish: Callable[..., None], valkey: Any, world: "World"
) -> None:
    publish(valkey.client, world.plan(), world.batch(1))
    monitor = new_process(valkey.url, lease_seconds="2")
    monitor.start()
    monitor.until(lambda: monitor.evidence().events.stored == 10)
    assert monitor.process is not None
    monitor.process.send_signal(signal.SIGSTOP)
    lease = keys.monitor_lease("default", "flights")
    monitor.until(lambda: valkey.client.get(lease) is None)
    valkey.client.set(lease, "somebody else:9", px=60_000)
    valkey.client.set(KEY, b"theirs")
    publish(valkey.client, world.batch(2))
    monitor.process.send_signal(signal.SIGCONT)
    monitor.until(lambda: "another monitor counts this model" in monitor.log.read_text())
    monitor.until(lambda: monitor.get("/api/models").json() == {"models": []})  # it has evaluated since
    assert valkey.client.get(KEY) == b"theirs"
    valkey.client.delete(lease)
    monitor.until(lambda: monitor.evidence().events.stored == 20)
