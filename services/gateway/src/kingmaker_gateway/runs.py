"""What is kept of answered requests until they are recorded.

A frame leaves its arrays and outputs by reference, and of its requests what differs between them, packed at once while
the processor still has them at hand: nothing of a request outlives its answer, and what a busy gateway has to walk
through at a flush is a hundredth of what the requests were. What neighbours nearly always share is kept once, a Mark.
"""

from array import array
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec
from numpy.typing import NDArray

from kingmaker_contracts.inference import Tensor
from kingmaker_contracts.labels import Reason
from kingmaker_gateway.answerers import Answerer


class Mark(NamedTuple):
    """What is recorded of a request and nearly always the same for its neighbours. assigned, reason, eligible: as
    contracts.events has them."""

    rows: int
    assigned: int
    reason: Reason
    eligible: int
    status: int


class Answered(Protocol):
    """A request that has its answer."""

    @property
    def id(self) -> bytes: ...
    @property
    def mark(self) -> Mark: ...
    @property
    def key_hash(self) -> int: ...


class Run(msgspec.Struct, eq=False):
    """Requests that share arrays: a coalesced frame and who was in it.

    ids: one behind the other; marks: one for all of them, or one each; latencies_s: of each; key_hashes: of each, None
    when nobody has a key; answered_us: when, in unix microseconds; rows: theirs, together; inputs: by name; outputs:
    None when there was no answer. The arrays' rows are theirs, in this order.
    """

    by: Answerer
    ids: bytes
    marks: list[Mark]
    latencies_s: "array[float]"
    key_hashes: "array[int] | None"
    answered_us: int
    rows: int
    inputs: Mapping[str, NDArray[Any]]
    outputs: Sequence[Tensor] | None


def of(  # noqa: PLR0917 - once a frame
    by: Answerer,
    requests: Sequence[Answered],
    latencies_s: Sequence[float],
    answered_us: int,
    rows: int,
    inputs: Mapping[str, NDArray[Any]],
    outputs: Sequence[Tensor] | None,
) -> Run:
    """Requests that were answered together. latencies_s: of each."""
    if len(requests) == 1:  # the same in half the steps, for where little comes together much comes alone
        [one] = requests
        hashes_of_one = array("Q", (one.key_hash,)) if one.key_hash else None
        return Run(by, one.id, [one.mark], array("d", latencies_s), hashes_of_one, answered_us, rows, inputs, outputs)
    marks = [request.mark for request in requests]
    if marks.count(marks[0]) == len(marks):
        del marks[1:]
    hashes = [request.key_hash for request in requests]
    return Run(
        by,
        b"".join([request.id for request in requests]),
        marks,
        array("d", latencies_s),
        array("Q", hashes) if any(hashes) else None,
        answered_us,
        rows,
        inputs,
        outputs,
    )


def of_copies(  # noqa: PLR0917 - the same
    by: Answerer,
    answered: Sequence[Run],
    answered_us: int,
    rows: int,
    inputs: Mapping[str, NDArray[Any]],
    outputs: Sequence[Tensor] | None,
    latency_s: float,
    status: int,
) -> Run:
    """Copies of requests that were answered: a shadow answers for itself. rows: of all of them."""
    counts = [len(run.latencies_s) for run in answered]
    marks = [mark for run in answered for mark in run.marks]
    if marks.count(marks[0]) == len(marks):
        del marks[1:]
    elif len(marks) < sum(counts):
        marks = [
            mark
            for run, count in zip(answered, counts, strict=True)
            for mark in (run.marks if len(run.marks) == count else run.marks * count)
        ]
    return Run(
        by,
        b"".join([run.ids for run in answered]),
        [Mark(size, assigned, "shadow", eligible, status) for size, assigned, _, eligible, _ in marks],
        array("d", (latency_s,)) * sum(counts),
        None if all(run.key_hashes is None for run in answered) else array("Q", key_hashes(answered)),
        answered_us,
        rows,
        inputs,
        outputs,
    )


def parted(run: Run) -> list[Run]:
    """Of each of its requests alone, without inputs and outputs."""
    marks = run.marks if len(run.marks) == len(run.latencies_s) else run.marks * len(run.latencies_s)
    hashes = run.key_hashes
    return [
        Run(
            run.by,
            run.ids[16 * at : 16 * at + 16],
            [mark],
            run.latencies_s[at : at + 1],
            None if hashes is None else hashes[at : at + 1],
            run.answered_us,
            mark.rows,
            {},
            None,
        )
        for at, mark in enumerate(marks)
    ]


def key_hashes(runs: Sequence[Run]) -> bytes:
    """Of all their requests, 0 for those without a key."""
    return b"".join([bytes(8 * len(run.latencies_s)) if run.key_hashes is None else run.key_hashes for run in runs])
