"""Whatever travels together, each request gets what it would have got alone: any interleaving, no server, no clock."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kingmaker_contracts import tensors
from kingmaker_contracts.inference import Tensor, TensorSpec
from kingmaker_gateway import frames
from kingmaker_gateway.batch import Batch, of_lists
from kingmaker_gateway.coalescer import Ask, Coalescer, Flight, hand_out
from kingmaker_gateway.errors import ConnectionLost, UpstreamError, UpstreamRefused, UpstreamTimeout
from kingmaker_gateway.frames import Frame, Slice
from kingmaker_gateway.signature import InputSpec, Signature

OUTPUTS = {
    "label": TensorSpec("label", "BYTES", [-1]),
    "p": TensorSpec("p", "FP32", [-1, 2]),
}
FLAT = Signature({"x": InputSpec("x", "FP32", (3,), False), "t": InputSpec("t", "BYTES", (), False)}, OUTPUTS)
OPEN = Signature({"x": InputSpec("x", "FP32", (-1,), False), "t": InputSpec("t", "BYTES", (1,), False)}, OUTPUTS)
POISON = np.float32(666)
MAX_ROWS = 5


def model(x: "np.ndarray[Any, Any]", t: "np.ndarray[Any, Any]") -> list[Tensor]:
    """A function of each row alone, with rounding that would show a row that was touched."""
    scores = np.array([np.float32(np.sin(float(row.astype(np.float64).sum()) * 1e3)) for row in x], np.float32)
    labels = np.empty(len(x), object)
    labels[:] = [f"{value}/{score!r}" for value, score in zip(t.ravel().tolist(), scores, strict=True)]
    return [Tensor("label", "BYTES", labels), Tensor("p", "FP32", np.stack([1 - scores, scores], axis=1))]


def serve(frame: Frame) -> list[Tensor]:
    """What a model server makes of the bytes. Raises UpstreamRefused for a poisonous row, whoever it belongs to."""
    body = frame.encoded()
    by_name = {t.name: t.array for t in tensors.decode_request(body.data, body.head_length).inputs}
    if (by_name["x"] == POISON).any():
        raise UpstreamRefused(500)
    return model(by_name["x"], by_name["t"])


@dataclass
class Client:
    batch: Batch
    signature: Signature
    deadline: float
    ends: list[Any] = field(default_factory=list)
    ended_at: float = -1.0
    clock: Any = None
    is_hurried = False

    def answered(self, answer: Slice) -> None:
        flat = {t.name: t.array.ravel().tolist() for t in answer.tensors}
        self.ends.append([(t.name, t.array.tolist(), flat[t.name]) for t in answer.tensors])
        self.ended_at = self.clock.now

    def failed(self, error: UpstreamError) -> None:
        self.ends.append(error)
        self.ended_at = self.clock.now

    @property
    def is_poisonous(self) -> bool:
        return bool((self.batch.arrays["x"] == POISON).any())


class World:
    """A coalescer, a fake server, and a clock that hypothesis winds."""

    def __init__(self) -> None:
        self.now = 0.0
        self.frames: list[tuple[Frame, list[Ask], list[int]]] = []
        self.coalescer = Coalescer(self.deliver)
        self.flying: list[Flight] = []
        self.clients: list[Client] = []
        self.broken = 0

    def deliver(self, frame: Frame, asks: list[Ask], firsts: list[int]) -> None:
        self.frames.append((frame, asks, firsts))
        hand_out(frame, asks, firsts)

    def submit(
        self,
        is_open: bool,
        rows: int,
        width: int,
        poison: bool,
        patience: int,
        listed: bool = False,
        max_rows: int = MAX_ROWS,
    ) -> None:
        self.coalescer.add([self._ask(is_open, rows, width, poison, patience, listed, max_rows)])

    def depart(self, is_open: bool, rows: Sequence[int], poison: bool, patience: int, listed: bool) -> None:
        """Several at once, without a place in line where there is none. rows: of each."""
        asks = [self._ask(is_open, n, 2, poison, patience + n, listed, MAX_ROWS) for n in rows]
        flight = None if self.coalescer.has_work else self.coalescer.depart(asks)
        if flight is None:
            self.coalescer.add(asks)
        else:
            self.flying.append(flight)

    def _ask(
        self, is_open: bool, rows: int, width: int, poison: bool, patience: int, listed: bool, max_rows: int
    ) -> Ask:
        width = width if is_open else 3
        at = len(self.clients)
        x = (np.arange(rows * width, dtype=np.float32).reshape(rows, width) + at * 100) / np.float32(7)
        if poison:
            x[-1, 0] = POISON
        t = np.empty((rows, 1) if is_open else rows, object)
        t.ravel()[:] = [f"{at}.{row}" for row in range(rows)]
        signature = OPEN if is_open else FLAT
        batch = Batch(rows, {"t": t, "x": x}, frozenset())
        if listed and not is_open:
            columns = {name: array.ravel().tolist() for name, array in batch.arrays.items()}
            batch = of_lists(rows, columns, signature.inputs, frozenset())
        client = Client(batch, signature, self.now + patience, clock=self)
        self.clients.append(client)
        return Ask(client.batch, signature, max_rows, client.deadline, client, rows)

    def launch(self) -> None:
        again = self.coalescer.again
        flight = again[0] if again else self.coalescer.next()
        if again:
            self.coalescer.resume(again[0])
        if flight is not None:
            assert flight.frame.rows <= MAX_ROWS
            self.flying.append(flight)

    def land(self, which: int) -> None:
        if not self.flying:
            return
        flight = self.flying.pop(which % len(self.flying))
        try:
            outputs = serve(flight.frame)
        except UpstreamRefused as error:
            self.coalescer.failed(flight, error)
        else:
            self.coalescer.answered(flight, outputs)

    def crash(self, which: int) -> None:
        """The server of one flight dies; once it is moved, the second time it is lost."""
        if not self.flying:
            return
        self.broken += 1
        flight = self.flying.pop(which % len(self.flying))
        if flight.moved:
            self.coalescer.failed(flight, ConnectionLost("x", untouched=False))
        else:
            self.coalescer.move(flight)

    def wait(self, ticks: int) -> None:
        self.now += ticks
        for deserted in self.coalescer.expire(self.now):
            self.flying.remove(deserted)
        assert self.coalescer.earliest() > self.now


STEPS = st.one_of(
    st.tuples(
        st.just("submit"),
        st.booleans(),
        st.integers(1, 3),
        st.integers(1, 2),
        st.booleans(),
        st.integers(1, 12),
        st.booleans(),
    ),
    st.tuples(
        st.just("depart"),
        st.booleans(),
        st.lists(st.integers(1, 3), min_size=1, max_size=3),
        st.booleans(),
        st.integers(1, 12),
        st.booleans(),
    ),
    st.tuples(st.just("launch")),
    st.tuples(st.just("launch")),
    st.tuples(st.just("land"), st.integers(0, 9)),
    st.tuples(st.just("crash"), st.integers(0, 9)),
    st.tuples(st.just("wait"), st.integers(1, 6)),
)


def alone(client: Client) -> list[Any]:
    outputs = model(client.batch.arrays["x"], client.batch.arrays["t"])
    return [(t.name, t.array.tolist(), t.array.ravel().tolist()) for t in outputs]


@given(st.lists(STEPS, max_size=60))
@settings(max_examples=300)
def test_any_interleaving_gives_each_request_what_it_would_have_had_alone(steps: list[tuple[Any, ...]]) -> None:
    world = World()
    for name, *arguments in steps:
        getattr(world, name)(*arguments)
    while not world.coalescer.is_idle:
        world.launch()
        world.land(0)
    for client in world.clients:
        [end] = client.ends  # told once
        if isinstance(end, UpstreamTimeout):
            assert client.ended_at >= client.deadline
        elif isinstance(end, UpstreamRefused):
            assert client.is_poisonous
        elif isinstance(end, ConnectionLost):
            assert world.broken >= 2
        else:
            assert not client.is_poisonous
            assert end == alone(client)
            assert client.ended_at < client.deadline + 6
    told = [ask for _, asks, _ in world.frames for ask in asks]
    answered = [client for client in world.clients if isinstance(client.ends[0], list)]
    assert sorted(map(id, answered)) == sorted(id(ask.asker) for ask in told)
    for frame, asks, firsts in world.frames:
        for ask, first in zip(asks, firsts, strict=True):
            assert np.array_equal(frame.arrays["x"][first : first + ask.batch.rows], ask.batch.arrays["x"])


@given(st.lists(st.integers(1, 3), min_size=1, max_size=4), st.booleans())
def test_who_departs_at_once_travels_like_who_waits_for_nobody(rows: list[int], listed: bool) -> None:
    at_once, in_line = World(), World()
    at_once.depart(False, rows, False, 10, listed)
    in_line.coalescer.add([in_line._ask(False, n, 2, False, 10 + n, listed, MAX_ROWS) for n in rows])
    in_line.launch()
    if sum(rows) > MAX_ROWS:
        assert at_once.flying == []
        at_once.launch()
    told = [
        (flight.frame.encoded().data, flight.firsts, [ask.rows for ask in flight.asks], flight.earliest, flight.latest)
        for world in (at_once, in_line)
        for flight in world.flying
    ]
    assert len(told) == 2
    assert told[0] == told[1]


def test_what_waits_together_leaves_together_and_no_more_than_a_frame() -> None:
    world = World()
    for _ in range(7):
        world.submit(False, 2, 3, False, 100)
    world.submit(True, 1, 2, False, 100)
    world.submit(True, 1, 1, False, 100)
    world.submit(True, 1, 2, False, 100)
    while world.coalescer.has_work:
        world.launch()
    # two rows each, five a frame: pairs; the open ones join only their own width and take turns with the rest
    assert sorted(f.frame.rows for f in world.flying) == [1, 2, 2, 4, 4, 4]
    assert world.flying[1].frame.signature is OPEN


def test_a_frame_is_no_larger_than_each_of_its_members_allows() -> None:
    world = World()
    for max_rows in (5, 2, 5):  # the limit changed while they waited
        world.submit(False, 1, 3, False, 100, max_rows=max_rows)
    while world.coalescer.has_work:
        world.launch()
    assert [flight.frame.rows for flight in world.flying] == [2, 1]


def test_a_neighbour_of_a_poisonous_row_is_answered_and_the_owner_is_told() -> None:
    world = World()
    for poison in (False, True, False):
        world.submit(False, 1, 3, poison, 100)
    world.launch()
    world.land(0)
    while not world.coalescer.is_idle:
        world.launch()
        world.land(0)
    ends = [client.ends[0] for client in world.clients]
    assert [isinstance(end, list) for end in ends] == [True, False, True]


@given(rows=st.integers(1, 4), name=st.sampled_from(["x", 'a "b"', "100 %", "é"]), wide=st.booleans())
def test_a_frame_s_bytes_are_what_the_contracts_would_write(rows: int, name: str, wide: bool) -> None:
    signature = Signature(
        {
            name: InputSpec(name, "FP64", (2, 2) if wide else (), False),
            "texts": InputSpec("texts", "BYTES", (1,), True),
        },
        OUTPUTS,
    )
    texts = np.empty((rows, 1), object)
    texts[:, 0] = ["ü", None, "", "long" * 9][:rows]
    numbers = np.arange(rows * (4 if wide else 1), dtype=np.float64).reshape((rows, 2, 2) if wide else (rows,))
    batch = Batch(rows, {name: numbers, "texts": texts}, frozenset())
    body = frames.join([frames.Part(batch, 0, rows)], signature).encoded()
    expected = tensors.encode_request([Tensor(name, "FP64", numbers), Tensor("texts", "BYTES", texts)], id="frame")
    assert (body.data, body.head_length) == expected
