"""Whatever a server, a connection or a neighbour does, every request is told something, and at once where it can be."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

import msgspec
import numpy as np
import pytest

from conftest import take_free_port
from kingmaker_contracts.inference import InferResponse, Tensor, TensorSpec
from kingmaker_contracts.routing import Limits
from kingmaker_gateway.batch import Batch
from kingmaker_gateway.coalescer import Ask, hand_out
from kingmaker_gateway.endpoint import Endpoint
from kingmaker_gateway.errors import UpstreamError, UpstreamGarbage, UpstreamRefused, UpstreamTimeout
from kingmaker_gateway.frames import Slice
from kingmaker_gateway.settings import UpstreamSettings
from kingmaker_gateway.signature import InputSpec, Signature
from kingmaker_gateway.upstream import Upstream
from tests.fakes.fake_model_server import FakeModelServer, Fault

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Bench, Kit, Pair

OUTPUTS = {"probabilities": TensorSpec("probabilities", "FP32", [-1, 2])}
SIGNATURE = Signature({"x": InputSpec("x", "FP32", (1,), False)}, OUTPUTS)
LONG_S = 30.0
"""A deadline nobody in these tests may wait for."""


class Asker:
    is_hurried = False

    def __init__(self) -> None:
        self.end: asyncio.Future[Slice | UpstreamError] = asyncio.get_running_loop().create_future()

    def answered(self, answer: Slice) -> None:
        self.end.set_result(answer)

    def failed(self, error: UpstreamError) -> None:
        self.end.set_result(error)


def ask(
    upstream: Upstream, values: list[float], max_rows: int = 256, within_s: float = LONG_S, is_hurried: bool = False
) -> "asyncio.Future[Any]":
    made = made_ask(values, max_rows, within_s, is_hurried)
    upstream.ask(made)
    return end_of(made)


def leave(upstream: Upstream, *several: list[float], max_rows: int = 256) -> "list[asyncio.Future[Any]]":
    """The same for all of a round."""
    asks = [made_ask(values, max_rows) for values in several]
    upstream.leave(asks)
    return [end_of(ask) for ask in asks]


def made_ask(values: list[float], max_rows: int, within_s: float = LONG_S, is_hurried: bool = False) -> Ask:
    asker = Asker()
    asker.is_hurried = is_hurried
    batch = Batch(len(values), {"x": np.array(values, np.float32).reshape(-1, 1)}, frozenset())
    deadline = asyncio.get_running_loop().time() + within_s
    return Ask(batch, SIGNATURE, max_rows, deadline, asker, batch.rows)


def end_of(ask: Ask) -> "asyncio.Future[Any]":
    assert isinstance(ask.asker, Asker)
    return ask.asker.end


async def soon(*ends: "asyncio.Future[Any]") -> list[Any]:
    """Far below the deadline, far above what a slow machine takes."""
    async with asyncio.timeout(LONG_S / 3):
        return await asyncio.gather(*ends)


@asynccontextmanager
async def upstream_to(*servers: FakeModelServer, until: Callable[..., Any], **changes: Any) -> AsyncIterator[Upstream]:
    upstream = Upstream(
        servers[0].name,
        [server.address for server in servers],
        UpstreamSettings(**{"connections": 2, **changes}),
        random.Random(1),
        hand_out,
    )
    await until(lambda: all(endpoint.is_up for endpoint in upstream._list))
    yield upstream
    await upstream.close()


class Picky(FakeModelServer):
    """Refuses, over a connection that stays open, every frame in which row 13 is."""

    status = 400

    async def _infer(self, writer: Any, headers: Any, body: bytes) -> None:
        if np.float32(13).tobytes() in body:
            self.calls += 1
            self._send(writer, self.status, b'{"error":"thirteen"}')
        else:
            await super()._infer(writer, headers, body)


@pytest.mark.parametrize("status", [400, 500])
async def test_neighbours_of_a_refused_row_are_asked_again_at_once(kit: "Kit", status: int) -> None:
    async with Picky([("x", "FP32")]) as server, upstream_to(server, until=kit.until) as upstream:
        server.status = status
        ends = await soon(*(ask(upstream, [value]) for value in (1.0, 13.0, 2.0)))
        assert [isinstance(end, Slice) for end in ends] == [True, False, True]
        assert isinstance(ends[1], UpstreamRefused)


async def test_who_leaves_at_once_is_answered_like_all(kit: "Kit") -> None:
    async with Picky([("x", "FP32")]) as server, upstream_to(server, until=kit.until, connections=1) as upstream:
        ends = await soon(*leave(upstream, [1.0], [13.0], [2.0]))
        assert [type(end) for end in ends] == [Slice, UpstreamRefused, Slice]
        [large] = await soon(*leave(upstream, [float(value) for value in range(5)], max_rows=2))
        assert large.rows == 5
        before = len(server.frames)
        server.fault, server.slow_s = Fault.SLOW, 0.1
        await soon(*leave(upstream, [1.0]), *leave(upstream, [2.0]), *leave(upstream, [3.0], [4.0, 5.0]))
        assert server.frames[before:] == [1, 4]  # who found no free connection waited, and had company


async def test_a_deadline_of_who_left_at_once_is_kept(kit: "Kit") -> None:
    async with FakeModelServer([("x", "FP32")]) as server, upstream_to(server, until=kit.until) as upstream:
        server.fault = Fault.HANG
        late = made_ask([1.0], 256, within_s=0.1)
        upstream.leave([late])
        assert [type(end) for end in await soon(end_of(late))] == [UpstreamTimeout]


@pytest.mark.parametrize("status", [408, 429, 503])
async def test_a_frame_moves_at_once_to_a_server_that_is_well(kit: "Kit", status: int) -> None:
    async with Picky([("x", "FP32")]) as sick, FakeModelServer([("x", "FP32")]) as well:
        sick.status = status
        async with upstream_to(sick, well, until=kit.until) as upstream:
            for _ in range(8):  # whichever is drawn first
                [end] = await soon(ask(upstream, [13.0]))
                assert isinstance(end, Slice)
            assert sick.calls > 0


async def test_who_waits_for_a_busy_server_keeps_nobody_from_a_free_one(kit: "Kit") -> None:
    async with Picky([("x", "FP32")]) as first, FakeModelServer([("x", "FP32")]) as second:
        first.status = 503
        async with upstream_to(first, second, until=kit.until, connections=1, eject_failures=100) as upstream:
            second.fault = Fault.HANG
            while not second.calls:
                ask(upstream, [5.0])
                await asyncio.sleep(0.02)
            moved = ask(upstream, [13.0])  # the first refuses it, and the second has no connection free
            await kit.until(lambda: first.calls and upstream._coalescer.again)
            [end] = await soon(ask(upstream, [1.0]))
            assert isinstance(end, Slice)
            assert not moved.done()


async def test_requests_that_wait_when_their_variant_leaves_are_answered(kit: "Kit") -> None:
    async with (
        FakeModelServer([("x", "FP32")], slow_s=0.2) as server,
        upstream_to(server, until=kit.until, connections=1) as upstream,
    ):
        server.fault = Fault.SLOW
        first = ask(upstream, [1.0])
        await kit.until(lambda: server.calls == 1)
        waiting = ask(upstream, [2.0])
        upstream.retire()
        assert all(isinstance(end, Slice) for end in await soon(first, waiting))


class Deaf:
    """A server's port to which nobody gets through any more: the system answers no further connection."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


async def test_who_waits_for_a_server_that_leaves_is_answered_by_its_successor(kit: "Kit") -> None:
    """All addresses are replaced while a connection to one of them is being opened in vain."""
    settings = UpstreamSettings(connections=2, connect_timeout_ms=60_000)
    async with FakeModelServer([("x", "FP32")]) as server:
        with Deaf() as deaf:
            upstream = Upstream(server.name, [deaf.address], settings, random.Random(1), hand_out)
            await kit.until(lambda: upstream.is_up)  # the one connection for which there is room
            unheard = ask(upstream, [1.0])
            await kit.until(lambda: upstream._list[0].outstanding)
            waiting = ask(upstream, [2.0])
            await kit.until(lambda: upstream._list[0]._connecting)
            upstream.use([server.address])
            [answer] = await soon(waiting)
            assert isinstance(answer, Slice)
            assert not unheard.done()
            await upstream.close()


async def test_who_waits_for_a_first_connection_when_their_variant_leaves_are_answered(kit: "Kit") -> None:
    settings = UpstreamSettings(connections=2, connect_timeout_ms=60_000)
    async with FakeModelServer([("x", "FP32")], port=take_free_port()) as server:
        dialled = asyncio.Event()
        upstream = Upstream(server.name, [server.address], settings, random.Random(1), hand_out)
        [endpoint] = upstream._list
        dial = endpoint._dial

        async def never(factory: Any) -> Any:
            dialled.set()
            await asyncio.Event().wait()

        endpoint._dial = never  # type: ignore[method-assign]
        await dialled.wait()
        waiting = ask(upstream, [1.0])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        endpoint._dial = dial  # type: ignore[method-assign]
        upstream.retire()
        [answer] = await soon(waiting)
        assert isinstance(answer, Slice)
        await upstream.close()


async def test_who_waits_for_a_server_that_left_is_told_when_all_is_closed(kit: "Kit") -> None:
    """As a copy for a shadow, whose connection would stay open for ever too: no timer looks after it any more."""
    async with FakeModelServer([("x", "FP32")]) as first, FakeModelServer([("x", "FP32")]) as second:
        first.fault = Fault.HANG
        async with upstream_to(first, until=kit.until) as upstream:
            [left] = upstream._list
            copied = ask(upstream, [1.0])
            await kit.until(lambda: first.calls == 1)
            upstream.use([second.address])
            await kit.until(lambda: upstream.is_up)
            await upstream.close()
            [told] = await soon(copied)
            assert isinstance(told, UpstreamError)
            assert not left.is_connected


async def test_an_endpoint_with_a_good_connection_is_up_again_after_one_that_failed(kit: "Kit") -> None:
    """Nobody may have a reason to open another: without traffic nothing else would ever find out."""

    class Nobody:
        def replied(self, *_: Any) -> None: ...
        def lost(self, *_: Any) -> None: ...
        def changed(self) -> None: ...

    async with FakeModelServer([("x", "FP32")]) as server:
        endpoint = Endpoint(server.address, UpstreamSettings(connections=2, backoff_first_ms=20), Nobody())
        endpoint.start()
        await kit.until(lambda: endpoint.has_idle)
        listening, server._server = server._server, None
        assert listening is not None
        listening.close()  # it accepts nobody, and keeps what it has
        endpoint.take()
        endpoint.take()
        await kit.until(lambda: not endpoint.is_up)
        await server.start()
        await kit.until(lambda: endpoint.is_up)
        await endpoint.close()


class Ragged(FakeModelServer):
    """The first frame's probabilities have two columns, the next one's three."""

    def _respond(self, call: Any, rows: int) -> Any:
        width = 2 + (self.calls - 1) % 2
        outputs = [Tensor("probabilities", "FP32", np.zeros((rows, width), np.float32))]
        return InferResponse(self.name, outputs), frozenset({"probabilities"})


async def test_parts_that_do_not_go_together_are_garbage(kit: "Kit") -> None:
    async with Ragged([("x", "FP32")]) as server, upstream_to(server, until=kit.until) as upstream:
        [end] = await soon(ask(upstream, [1.0, 2.0, 3.0, 4.0], max_rows=2))
        assert isinstance(end, UpstreamGarbage)
        [end] = await soon(ask(upstream, [1.0]))
        assert isinstance(end, Slice)


async def test_parts_of_a_large_request_fail_as_one(kit: "Kit") -> None:
    async with Picky([("x", "FP32")]) as server, upstream_to(server, until=kit.until) as upstream:
        values = [float(value) for value in range(10, 20)]
        large, small = await soon(ask(upstream, values, max_rows=2), ask(upstream, [1.0], max_rows=2))
        assert isinstance(large, UpstreamRefused)
        assert isinstance(small, Slice)
        assert server.calls == 3  # 10 and 11, the one beside, 12 and 13; nobody asks for the rest


async def test_shapes_of_two_targets_travel_together(bench: "Bench", pair: "Pair", kit: "Kit") -> None:
    """A champion that calls a column (rows,) and a challenger that calls it (rows, 1) mean the same."""
    champion = pair.profiles[0]
    flat = msgspec.structs.replace(
        champion, inputs=[msgspec.structs.replace(feature, shape=[-1]) for feature in champion.inputs]
    )
    profiles = [flat, champion]
    lr, gbm = pair.record().variants
    variants = [
        msgspec.structs.replace(lr, profile=kit.sha(flat)),
        msgspec.structs.replace(gbm, profile=kit.sha(champion), model_name="lr-upstream", endpoints=lr.endpoints),
    ]
    record = kit.record(variants, ranges="gbm:0-9999", limits=Limits(deadline_ms=20_000))
    await bench.publish(record, profiles)
    await bench.challenger_is_up("gbm")
    async with asyncio.timeout(10):
        answers = await asyncio.gather(
            *(
                bench.predict([{"distance": number, "carrier": "UA"}], headers=headers)
                for number in range(20)
                for headers in ({}, {"x-kingmaker-variant": "gbm"})
            )
        )
    assert {(a.status_code, a.headers["x-variant"]) for a in answers} == {(200, "gbm")}


@pytest.mark.parametrize(
    "arrays", [{"x": np.zeros((2, 3, 5), np.float32)}, {}], ids=["a shape nobody takes", "an input is missing"]
)
async def test_rows_that_make_no_frame_are_refused_and_not_forgotten(kit: "Kit", arrays: dict[str, Any]) -> None:
    async with FakeModelServer([("x", "FP32")]) as server, upstream_to(server, until=kit.until) as upstream:
        asker = Asker()
        odd = Batch(2, arrays, frozenset())  # no reader would make it
        deadline = asyncio.get_running_loop().time() + LONG_S
        upstream.ask(Ask(odd, SIGNATURE, 256, deadline, asker, odd.rows))
        [end] = await soon(asker.end)
        assert isinstance(end, UpstreamError)
        [end] = await soon(ask(upstream, [1.0]))
        assert isinstance(end, Slice)


async def test_challengers_that_contradict_each_other_never_share_a_request(
    bench: "Bench", pair: "Pair", kit: "Kit"
) -> None:
    """An input the champion lacks has one type, the first challenger's; else its bytes would be read as another's."""
    async with FakeModelServer([*kit.champion_inputs, ("gain", "INT32")], bias=9.0, name="nn") as third:
        nn = kit.profile([*kit.champion_inputs, ("gain", "INT32")])
        record = pair.record()
        variants = [*record.variants, kit.variant(third, "nn", sha=kit.sha(nn), mirror=100)]
        record = msgspec.structs.replace(record, variants=variants, ranges="gbm:0-4999,nn:5000-9999")
        await bench.publish(record, [*pair.profiles, nn])
        await bench.challenger_is_up("gbm")
        answers = [await bench.predict([{**kit.full_row, "gain": 2}]) for _ in range(30)]
        assert {answer.headers["x-variant"] for answer in answers} == {"gbm", "lr"}
        assert third.calls == 0
        assert bench.metric("signature_mismatch", model="flights", variant="nn") == 1
        assert bench.metric("signature_mismatch", model="flights", variant="gbm") == 0


@pytest.mark.parametrize("servers", [1, 2])
async def test_only_a_time_limit_that_is_no_client_s_haste_ejects_a_server(kit: "Kit", servers: int) -> None:
    async with (
        FakeModelServer([("x", "FP32")]) as first,
        FakeModelServer([("x", "FP32")]) as second,
        upstream_to(*[first, second][:servers], until=kit.until, eject_ms=60_000) as upstream,
    ):
        first.fault = second.fault = Fault.HANG
        for _ in range(8):
            await soon(ask(upstream, [1.0], within_s=0.02, is_hurried=True))
        assert all(endpoint.breaker.would_admit(0) for endpoint in upstream._list)
        for _ in range(8):
            await soon(ask(upstream, [1.0], within_s=0.02))
        assert not any(endpoint.breaker.would_admit(0) for endpoint in upstream._list)
        first.fault = second.fault = Fault.NONE
        [end] = await soon(ask(upstream, [1.0]))  # when nobody is well, the sick are asked
        assert isinstance(end, Slice)


async def test_metadata_is_asked_of_the_next_server_when_the_first_is_silent(kit: "Kit") -> None:
    class Silent(FakeModelServer):
        async def _answer(self, *_: Any) -> None:
            await asyncio.sleep(3600)

    async with (
        Silent([("x", "FP32")]) as silent,
        FakeModelServer([("x", "FP32")]) as other,
        upstream_to(silent, other, until=kit.until) as upstream,
    ):
        found = await upstream.metadata(asyncio.get_running_loop().time() + 2.0)
        assert found.name == other.name
