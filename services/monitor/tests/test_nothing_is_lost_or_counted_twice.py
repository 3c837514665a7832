"""Monitor and Redis killed, gateways killed and restarted, batches repeated and lost, in an order that dice choose:
at the end stored = sent - dropped - lost, and every term is what really happened."""

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import redis

from kingmaker_contracts import events, keys
from kingmaker_contracts.acks import EventAccount, GatewayAck
from kingmaker_contracts.wire import write_json

if TYPE_CHECKING:
    from services.monitor.tests.conftest import Process, World

FAST = 1
MODEL = "default/flights"


@dataclass
class Life:
    """One life of a gateway: what it did, and what anybody could know of it."""

    producer: str
    seq: int = 0
    sent: int = 0
    dropped: int = 0
    written: int = 0
    written_seq: int = 0
    known_sent: int = 0
    known_dropped: int = 0
    arrived: dict[int, int] = field(default_factory=dict)
    waiting: list[events.EventBatch] = field(default_factory=list)


class Gateways:
    """Gateways one after another, as the recorder writes: in order, the same number again after a failure."""

    def __init__(self, world: "World", valkey: Any, dice: random.Random) -> None:
        self.world, self.valkey, self.dice = world, valkey, dice
        self.lives = [Life("gw-0")]
        self.old: list[events.EventBatch] = []
        self.said: GatewayAck | None = None

    @property
    def now(self) -> Life:
        return self.lives[-1]

    def predict(self) -> None:
        life, count = self.now, self.dice.randint(1, 9)
        gone = self.dice.choice([0, 0, 0, 2])
        life.sent, life.dropped = life.sent + gone, life.dropped + gone
        life.seq += 1
        first = 100_000 * len(self.lives) + 10 * life.seq
        account = {"sent": life.sent, "dropped": life.dropped}
        life.waiting.append(self.world.batch(life.seq, count, "lr", producer=life.producer, first=first, **account))
        life.sent += count

    def write(self) -> None:
        life = self.now
        while life.waiting:
            batch = life.waiting[0]
            fate = self.dice.random()
            if fate > 0.05:  # else Redis said yes and forgot it
                try:
                    self._add(batch)
                except redis.RedisError:
                    return
                life.arrived[batch.seq] = batch.count
                life.known_sent = max(life.known_sent, batch.sent + batch.count)
                life.known_dropped = max(life.known_dropped, batch.dropped)
                self.old.append(batch)
            if fate > 0.9:  # Redis took it and the answer was lost: it is written again
                continue
            life.waiting.pop(0)
            life.written, life.written_seq = life.written + batch.count, batch.seq

    def repeat(self) -> None:
        if self.old:
            self._add(self.dice.choice(self.old))

    def ack(self) -> None:
        life = self.now
        account = EventAccount(life.sent, life.dropped, life.written_seq, life.written)
        self.said = GatewayAck(life.producer, 0, "", "", {}, {}, {MODEL: account})
        self.valkey.client.set(keys.gateway("gw"), write_json(self.said))
        life.known_sent, life.known_dropped = life.sent, life.dropped

    def die(self) -> None:
        """And live again: the next life keeps the last words of this one, as the gateway's acks do."""
        if self.said is not None:
            kept = msgspec.structs.replace(self.said, ended=True)
            self.valkey.client.set(keys.former_gateway("gw", self.said.producer), write_json(kept))
        self.lives.append(Life(f"gw-{len(self.lives)}"))

    def _add(self, batch: events.EventBatch) -> None:
        self.valkey.client.xadd(self.world.event_stream.key, {"b": events.encode(batch)})

    def expected(self) -> tuple[int, int, int, int]:
        sent, dropped = (sum(getattr(life, name) for life in self.lives) for name in ("known_sent", "known_dropped"))
        stored = sum(sum(life.arrived.values()) for life in self.lives)
        return sent, stored, dropped, sent - dropped - stored


@pytest.mark.parametrize(
    "seed", [*range(FAST), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(FAST, 16))]
)
def test_the_accounts_balance_after_a_life_of_accidents(
    seed: int, new_process: "Callable[..., Process]", publish: Callable[..., None], own_valkey: Any, world: "World"
) -> None:
    dice = random.Random(seed)
    gateways = Gateways(world, own_valkey, dice)
    monitor = new_process(own_valkey.url)
    publish(own_valkey.client, world.plan())
    monitor.start()
    accidents = dice.sample(range(10, 110), 4)
    for step in range(120):
        gateways.predict()
        if step in accidents[:2]:
            monitor.stop(signal.SIGKILL)
            monitor.start()
        elif step == accidents[2]:
            own_valkey.stop(signal.SIGKILL)
            gateways.write()
            own_valkey.start()
        elif step == accidents[3]:
            gateways.die()
            gateways.predict()
        for act, chance in ((gateways.write, 0.5), (gateways.ack, 0.2), (gateways.repeat, 0.1)):
            if dice.random() < chance:
                act()
        time.sleep(dice.random() * 0.02)
    gateways.write()
    gateways.ack()
    want = gateways.expected()

    def found() -> tuple[int, int, int, int]:
        told = monitor.evidence().events
        return told.sent, told.stored, told.dropped, told.lost

    try:
        monitor.until(lambda: found() == want)
    except AssertionError as error:
        raise AssertionError(f"found {found()}, expected {want}") from error
    evidence = monitor.evidence()
    assert evidence.variants["lr"].answered == want[1]
    assert evidence.variants["lr"].drift["distance"].n == want[1]
    assert want[3] > 0
    assert evidence.events.duplicates > 0
