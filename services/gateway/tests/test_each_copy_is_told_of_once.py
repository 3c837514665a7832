"""Whatever a shadow does, and in whatever order: each copy is counted and recorded once, as its own request's."""

import asyncio
import random
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from kingmaker_contracts.inference import Tensor
from kingmaker_gateway import frames, runs, signature
from kingmaker_gateway.answerers import Answerer
from kingmaker_gateway.batch import Batch
from kingmaker_gateway.coalescer import Ask
from kingmaker_gateway.errors import UpstreamError, UpstreamRefused, UpstreamTimeout, UpstreamUnreachable
from kingmaker_gateway.frames import Frame, Part, Slice
from kingmaker_gateway.metrics import Metrics
from kingmaker_gateway.runs import Mark, Run
from kingmaker_gateway.settings import ShadowSettings
from kingmaker_gateway.shadow import Shadow
from kingmaker_gateway.signature import Signature

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Kit

CHAMPIONS = [("x", "FP32"), ("y", "FP32")]
SHADOWS = [CHAMPIONS, [*CHAMPIONS, ("z", "FP32")], [("y", "FP32")]]
MOST_ROWS = 12


class Upstream:
    """Answers when it is told to: with y, or not at all."""

    def __init__(self) -> None:
        self.asked: list[Ask] = []
        self.is_down = False

    def ask(self, ask: Ask) -> None:
        assert not self.is_down
        assert ask.rows <= MOST_ROWS
        assert ask.frame is not None
        assert {len(array) for array in ask.frame.arrays.values()} == {ask.rows}
        self.asked.append(ask)

    def answer(self, ask: Ask) -> None:
        assert ask.frame is not None
        self.asked.remove(ask)
        outputs = [Tensor("p", "FP32", ask.frame.arrays["y"].copy())]
        ask.asker.answered(Slice(Frame(ask.signature, ask.rows, {}, outputs), 0, ask.rows))

    def fail(self, error: UpstreamError, asks: list[Ask]) -> None:
        self.asked = [ask for ask in self.asked if ask not in asks]
        for ask in asks:
            ask.asker.failed(error)

    async def close(self) -> None:
        self.fail(UpstreamUnreachable("closing"), self.asked)


class World:
    def __init__(self, kit: "Kit", dice: random.Random) -> None:
        self.dice, self.upstream = dice, Upstream()
        self.champions = signature.from_profile(kit.profile(CHAMPIONS))
        self.signature = signature.from_profile(kit.profile(dice.choice(SHADOWS)))
        if "z" in self.signature.inputs and dice.random() < 0.5:
            z = signature.InputSpec("z", "FP32", (-1,), False)
            self.signature = Signature({**self.signature.inputs, "z": z}, self.signature.outputs)
        self.by = [Answerer("default/m", at, 1, "r", "gbm", "1", "challenger", ("lr", "gbm")) for at in range(2)]
        self.registry, self.recorded = CollectorRegistry(), list[Run]()
        settings = ShadowSettings(
            connections=dice.choice([1, 2, 4]), queue_size=dice.choice([4, 16, 256]), gather_ms=dice.choice([0, 1])
        )
        upstream: Any = self.upstream
        counts = Metrics(self.registry).variant("m", "gbm")
        self.shadow = Shadow(upstream, settings, counts, self.recorded.append)
        self.offered: list[Any] = []
        self.offered_by: list[Answerer] = []

    def count(self, name: str) -> float:
        labels = {"model": "m", "variant": "gbm"}
        return self.registry.get_sample_value(f"kingmaker_gateway_shadow_{name}_total", labels) or 0

    def request(self) -> Any:
        number, rows = len(self.offered), self.dice.choice([1, 1, 2, 3])
        values = np.arange(rows, dtype="<f4").reshape(rows, 1) + 10 * number
        z = values.repeat(self.dice.choice([1, 2]) if self.signature.is_open else 1, axis=1) + 0.5
        batch = Batch(rows, {"x": values, "y": values + 0.25, "z": z}, frozenset())
        mark = Mark(rows, 0, "weight", self.dice.choice([1, 3]), 200)
        key_hash = self.dice.choice([0, number])
        one = SimpleNamespace(id=number.to_bytes(16, "big"), mark=mark, key_hash=key_hash, rows=rows, batch=batch)
        self.offered.append(one)
        return one

    def offer(self) -> None:
        requests = [self.request() for _ in range(self.dice.choice([1, 1, 2, 4]))]
        by = self.dice.choices(self.by, [9, 1])[0]
        self.offered_by += [by] * len(requests)
        frame = frames.join([Part(one.batch, 0, one.rows) for one in requests], self.champions)
        run = runs.of(by, requests, [0.1] * len(requests), 1, frame.rows, frame.arrays, None)
        known = self.dice.choice([(run, frame), (run, None), (None, None)])
        self.shadow.offer(requests, *known, self.signature, by, MOST_ROWS)

    def go_down_or_up(self) -> None:
        self.upstream.is_down = not self.upstream.is_down
        if self.upstream.is_down:
            self.upstream.fail(UpstreamUnreachable("down"), self.upstream.asked)

    async def step(self) -> None:
        what, asked = self.dice.random(), self.upstream.asked
        if what < 0.4:
            self.offer()
        elif what < 0.45:
            self.go_down_or_up()
        elif what < 0.6 or not asked:
            await asyncio.sleep(0)
        elif what < 0.85:
            self.upstream.answer(self.dice.choice(asked))
        else:
            error = self.dice.choice([UpstreamRefused(400), UpstreamRefused(400), UpstreamTimeout("late")])
            self.upstream.fail(error, [self.dice.choice(asked)])

    async def come_to_rest(self) -> None:
        self.upstream.is_down = False
        while self.shadow._queue or self.upstream.asked:
            for ask in tuple(self.upstream.asked):
                self.upstream.answer(ask)
            await asyncio.sleep(0.0005)  # some wait for company

    def told(self) -> dict[int, str]:
        """What became of each copy that was recorded, by the number of its request."""
        found: dict[int, str] = {}
        for run in self.recorded:
            first = 0
            for one in runs.parted(run):
                number = int.from_bytes(one.ids, "big")
                assert number not in found
                request = self.offered[number]
                status = one.marks[0].status
                assert one.marks == [request.mark._replace(reason="shadow", status=status)]
                assert [*(one.key_hashes or [0])] == [request.key_hash]
                assert run.by is self.offered_by[number]
                rows = slice(first, first + request.rows)
                first += request.rows
                if run.outputs is None:
                    assert run.inputs == {}
                    found[number] = "failed"
                    continue
                assert min(run.latencies_s) > 0
                assert [*run.inputs] == [*self.signature.inputs]
                for name, values in {**run.inputs, "y": run.outputs[0].array}.items():
                    assert np.array_equal(values[rows], request.batch.arrays[name])
                found[number] = "answered"
            assert first == run.rows
        return found


@pytest.mark.parametrize("seed", range(60))
async def test_each_copy_is_counted_and_recorded_once(kit: "Kit", seed: int) -> None:
    world = World(kit, random.Random(seed))
    for _ in range(200):
        await world.step()
    await world.come_to_rest()
    told = world.told()
    assert len(told) == world.count("sent")
    assert [*told.values()].count("failed") == world.count("failed")
    assert world.count("sent") + world.count("dropped") == len(world.offered)
    await world.shadow.close()
    assert world.count("sent") + world.count("dropped") == len(world.offered)


@pytest.mark.parametrize("seed", range(60))
async def test_copies_of_a_shadow_that_is_withdrawn_are_counted_and_recorded_once(kit: "Kit", seed: int) -> None:
    """Some wait for their first try, some are on their way, and some wait to be tried again."""
    world = World(kit, random.Random(seed))
    for _ in range(50):
        await world.step()
    await world.shadow.close()
    told = world.told()
    assert len(told) == world.count("sent")
    assert [*told.values()].count("failed") == world.count("failed")
    assert world.count("sent") + world.count("dropped") == len(world.offered)


async def test_a_shadow_that_is_down_is_told_of_nothing_that_waits(kit: "Kit") -> None:
    """Copies are turned away though the queue has no room for them, and none of them is a dropped one."""
    world = World(kit, random.Random(1))
    while world.count("dropped") == 0:
        world.offer()
    dropped, before = world.count("dropped"), len(world.recorded)
    world.upstream.is_down = True
    world.offer()
    assert world.count("dropped") == dropped
    assert len(world.recorded) == before + 1
    await world.shadow.close()
    dropped, before = world.count("dropped"), len(world.recorded)
    world.offer()
    assert world.count("dropped") > dropped
    assert len(world.recorded) == before
    assert world.count("sent") + world.count("dropped") == len(world.offered)


async def test_copies_that_reach_no_server_took_no_time(kit: "Kit") -> None:
    """Else a shadow that is away would look like the fastest of all."""
    world = World(kit, random.Random(1))
    while not world.shadow._queue or not world.upstream.asked:
        world.offer()
    world.upstream.fail(UpstreamTimeout("late"), world.upstream.asked)
    timed_out = len(world.recorded)
    while not world.shadow._queue or not world.upstream.asked:
        world.offer()
    world.upstream.is_down = True
    world.offer()
    world.upstream.fail(UpstreamUnreachable("down"), world.upstream.asked)
    await kit.until(lambda: not world.shadow._queue)
    told = [max(run.latencies_s) for run in world.recorded]
    assert min(told[:timed_out]) > 0
    assert len(told) > timed_out + 2
    assert max(told[timed_out:]) == 0
    await world.shadow.close()
