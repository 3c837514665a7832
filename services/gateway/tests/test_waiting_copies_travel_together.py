"""Copies that wait for a busy shadow leave together, as the same bytes as if nobody had put them into frames before."""

import asyncio
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from kingmaker_contracts import tensors
from kingmaker_contracts.inference import Tensor
from kingmaker_gateway import frames, runs, signature
from kingmaker_gateway.answerers import Answerer
from kingmaker_gateway.batch import Batch
from kingmaker_gateway.coalescer import Ask
from kingmaker_gateway.errors import UpstreamRefused
from kingmaker_gateway.frames import Frame, Part, Slice
from kingmaker_gateway.metrics import Metrics
from kingmaker_gateway.runs import Mark, Run
from kingmaker_gateway.settings import ShadowSettings
from kingmaker_gateway.shadow import Shadow

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Kit

WIDTH = 4


class Upstream:
    """Keeps what it is asked."""

    is_down = False

    def __init__(self) -> None:
        self.asked: list[Ask] = []

    def ask(self, ask: Ask) -> None:
        self.asked.append(ask)

    async def close(self) -> None:
        """Nothing is open."""


class World:
    """A shadow with one connection, and the champion whose requests it gets copies of."""

    def __init__(self, kit: "Kit", shadows_inputs: list[tuple[str, str]], **settings: int) -> None:
        self.champion, self.shadows = (
            signature.from_profile(kit.profile(inputs)) for inputs in ([("x", "FP32"), ("y", "FP32")], shadows_inputs)
        )
        self.by = Answerer("default/m", 1, 1, "r", "gbm", "1", "challenger", ("lr", "gbm"))
        self.upstream, self.recorded = Upstream(), list[Run]()
        upstream: Any = self.upstream
        counts = Metrics(CollectorRegistry()).variant("m", "gbm")
        self.shadow = Shadow(
            upstream, ShadowSettings(**{"connections": 1, "gather_ms": 0, **settings}), counts, self.recorded.append
        )
        self.offered: list[Any] = []

    def offer(self, *sizes: int) -> None:
        """Copies of requests of so many rows, which travelled to the champion in one frame."""
        requests: list[Any] = []
        for rows in sizes:
            number = len(self.offered)
            inputs = self.champion.inputs | self.shadows.inputs
            values = np.arange(rows, dtype="<f4").reshape(rows, 1) + 100 * number
            batch = Batch(rows, {name: values + at for at, name in enumerate(inputs)}, frozenset())
            mark = Mark(rows, 0, "weight", 1, 200)
            one = Request(id=bytes([number]) * 16, mark=mark, key_hash=number, rows=rows, batch=batch)
            self.offered.append(one)
            requests.append(one)
        frame = self.frame_of(requests, self.champion)
        frame.encoded()
        run = runs.of(self.by, requests, [0.001] * len(requests), 1, frame.rows, frame.arrays, None)
        self.shadow.offer(requests, run, frame, self.shadows, self.by, 256)

    def frame_of(self, requests: list[Any], whose: Any) -> Frame:
        return frames.join([Part(one.batch, 0, one.rows) for one in requests], whose)

    async def answer(self) -> Ask:
        """The shadow answers what it was asked last, and takes what waited."""
        ask = self.upstream.asked[-1]
        frame = Frame(self.shadows, ask.rows, {}, [Tensor("p", "FP32", np.zeros(ask.rows, "<f4"))])
        ask.asker.answered(Slice(frame, 0, ask.rows))
        await asyncio.sleep(0)
        return self.upstream.asked[-1]


class Request(SimpleNamespace):
    """An answered one; what is read of it by a shadow."""


SAME = [("x", "FP32"), ("y", "FP32")]
MORE = [*SAME, ("z", "FP32")]


@pytest.mark.parametrize("inputs", [SAME, MORE, [("y", "FP32")]])
async def test_what_waited_leaves_in_one_frame_of_the_same_bytes(kit: "Kit", inputs: Any) -> None:
    world = World(kit, inputs)
    for sizes in ((1,), (1, 2), (3,), (1, 1)):
        world.offer(*sizes)
    assert [ask.rows for ask in world.upstream.asked] == [1]
    ask = await world.answer()
    assert ask.rows == 8
    assert ask.frame is not None
    expected = world.frame_of(world.offered[1:], world.shadows).encoded()
    assert ask.frame.encoded().data == expected.data
    values = tensors.decode_request(expected.data, expected.head_length).inputs
    assert [tensor.name for tensor in values] == [name for name, _ in inputs]
    await world.answer()
    first, second = world.recorded
    assert (first.rows, second.rows) == (1, 8)
    assert second.ids == b"".join(one.id for one in world.offered[1:])
    for tensor in values:
        assert np.array_equal(second.inputs[tensor.name], tensor.array)
    await world.shadow.close()


async def test_copies_wait_for_company_and_no_longer_than_they_may(kit: "Kit") -> None:
    world = World(kit, SAME, gather_ms=20)
    world.offer(1)
    world.offer(1, 2)
    await asyncio.sleep(0)
    assert not world.upstream.asked
    await kit.until(lambda: world.upstream.asked)
    assert [ask.rows for ask in world.upstream.asked] == [4]
    await world.shadow.close()


@pytest.mark.parametrize(("limit", "rows"), [({}, [100, 156]), ({"queue_size": 2}, [1, 1])], ids=["frame", "queue"])
async def test_a_full_frame_or_queue_leaves_without_company(kit: "Kit", limit: dict[str, int], rows: list[int]) -> None:
    world = World(kit, SAME, gather_ms=1000, **limit)
    for size in rows:
        assert not world.upstream.asked
        world.offer(size)
    assert [ask.rows for ask in world.upstream.asked] == [sum(rows)]
    world.offer(1)
    await world.answer()
    assert len(world.upstream.asked) == 1  # the one behind waits for company anew, though there is room
    await world.shadow.close()


async def test_a_joined_frame_that_fails_is_tried_one_by_one(kit: "Kit") -> None:
    world = World(kit, SAME)
    for sizes in ((1,), (1, 2), (3,)):
        world.offer(*sizes)
    ask = await world.answer()
    ask.asker.failed(UpstreamRefused(400))
    for one in world.offered[1:]:
        await asyncio.sleep(0)
        again = world.upstream.asked[-1]
        assert again.frame is not None
        assert again.frame.encoded().data == world.frame_of([one], world.shadows).encoded().data
        await world.answer()
    assert [run.ids[0] for run in world.recorded] == [0, 1, 2, 3]
    assert [run.rows for run in world.recorded] == [1, 1, 2, 3]
    for run, one in zip(world.recorded, world.offered, strict=True):
        assert (run.ids, run.marks[0].rows, run.marks[0].status) == (one.id, one.rows, 200)
        assert [*(run.key_hashes or [0])] == [one.key_hash]
        assert np.array_equal(run.inputs["x"], one.batch.arrays["x"])
    await world.shadow.close()


async def test_what_failed_is_recorded_without_what_was_asked(kit: "Kit") -> None:
    """The champion's record has it."""
    world = World(kit, SAME)
    world.offer(2)
    world.upstream.asked[-1].asker.failed(UpstreamRefused(400))
    world.upstream.is_down = True
    world.offer(1, 3)
    late, turned_away = world.recorded
    assert (late.rows, late.inputs, late.outputs) == (2, {}, None)
    assert (turned_away.rows, turned_away.inputs, turned_away.outputs) == (4, {}, None)
    assert turned_away.ids == world.offered[1].id + world.offered[2].id
    assert {mark.status for run in world.recorded for mark in run.marks} == {503}
    assert len(world.upstream.asked) == 1
    await world.shadow.close()


@pytest.mark.parametrize("inputs", [SAME, MORE])
async def test_a_request_s_memory_does_not_wait_for_its_copy(kit: "Kit", inputs: Any) -> None:
    """Whether the copy is on its way or queued behind another."""
    world = World(kit, inputs)
    for _ in range(2):
        world.offer(1)
    alive = [weakref.ref(one) for one in world.offered]
    world.offered.clear()
    assert [one() for one in alive] == [None, None]
    await world.shadow.close()
