"""Runs of few rows in memory that stays: requests are written where ONNX Runtime reads, answers cut where it writes.

A run that takes arrays and gives arrays back makes, checks and throws away a dozen objects, which costs more than a
tree ensemble's answer for one row. Here each number of rows has its binding, and all share one memory, for runs come
one behind the other: 4.8 us with the row copied, looked at and its answer cut out, where the run alone took 6.2.

ONNX Runtime may leave the memory of an output alone: where a model gives an input back as it is. So each output begins
with a mark before a run, and a mark that is still there says that the answer is elsewhere.
"""

import math
import struct
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kingmaker_contracts.inference import DTYPES, FLOATS, TensorSpec
from kingmaker_model_server.answers import Answer, Letter, Output, Outputs, Writer
from kingmaker_model_server.columns import Column, Values
from kingmaker_model_server.session import CHUNK, OnnxModel

_MOST_BYTES: Final = 4 * 2**20
_MOST_TENSORS: Final = 128
"""Each has a place of its own for each number of rows, of about 1 KiB."""
_FEW: Final = 512
"""Floats whose top bytes Python has looked through sooner than numpy at all of them."""
_MOST_LETTERS: Final = 64
_MARK: Final = b"\xa5" * 8
_SHORTEST: Final = 4
"""Bytes of one row's output, at least: shorter values would often pass for the mark."""


class _Inputs:
    """Room for CHUNK rows of all inputs, those of one datatype side by side."""

    def __init__(self, specs: list[TensorSpec]) -> None:
        self._specs = specs
        self._widths: Counter[str] = Counter()
        for spec in specs:
            self._widths[spec.datatype] += math.prod(spec.shape[1:])
        self._rooms = {kind: bytearray(CHUNK * width * DTYPES[kind].itemsize) for kind, width in self._widths.items()}

    def of(self, rows: int) -> list[NDArray[Any]]:
        """An array a tensor."""
        ends = dict.fromkeys(self._rooms, 0)
        arrays = []
        for spec in self._specs:
            start = ends[spec.datatype]
            stop = ends[spec.datatype] = start + rows * math.prod(spec.shape[1:])
            flat = np.frombuffer(self._rooms[spec.datatype], DTYPES[spec.datatype])
            arrays.append(flat[start:stop].reshape((rows, *spec.shape[1:])))
        return arrays

    def floats(self, rows: int) -> "list[_Floats]":
        """All floats of that many rows."""
        return [
            _Floats(room, DTYPES[kind], rows * self._widths[kind])
            for kind, room in self._rooms.items()
            if kind in FLOATS
        ]


class _Floats:
    """The first `count` floats of a room.

    The top byte of what is no number is 0x7f or 0xff in FP32 and FP64, and so is that of the largest numbers: a look
    at the top bytes tells that all are numbers, and where one may be none, numpy looks again.
    """

    def __init__(self, room: bytearray, dtype: "np.dtype[Any]", count: int) -> None:
        size = dtype.itemsize
        self._room = room
        self._tops = slice(size - 1, count * size, size)
        self._has_telling_tops = size > 2 and count <= _FEW
        self._values = np.frombuffer(room, dtype, count)
        self._verdict = bytearray(count)
        self._verdicts = np.frombuffer(self._verdict, np.bool_)

    def are_finite(self) -> bool:
        """Whether each is a number."""
        if self._has_telling_tops:
            tops = self._room[self._tops]
            if not (0x7F in tops or 0xFF in tops):
                return True
        np.isfinite(self._values, self._verdicts)
        return 0 not in self._verdict  # a third of what _verdicts.all() takes


class _Outputs:
    """Room for CHUNK rows of all outputs, one behind the other, each from a multiple of eight bytes on."""

    def __init__(self, specs: list[TensorSpec]) -> None:
        self._specs = specs
        self._room = bytearray(sum([_padded(CHUNK * _row_bytes(spec)) for spec in specs]))

    def of(self, rows: int) -> "tuple[list[NDArray[Any]], _Marks]":
        """An array a tensor, and the marks they begin with."""
        arrays = []
        starts = []
        start = 0
        for spec in self._specs:
            starts.append(start)
            flat = np.frombuffer(self._room, DTYPES[spec.datatype], rows * math.prod(spec.shape[1:]), start)
            arrays.append(flat.reshape((rows, *spec.shape[1:])))
            start += _padded(flat.nbytes)
        return arrays, _Marks(self._room, starts)


class _Marks:
    """The first eight bytes of each output: of a shorter one, also those behind it, which nobody writes.

    All are put and got in one step. To put them makes zeros of what lies between, which a run writes anyway.
    """

    def __init__(self, room: bytearray, starts: list[int]) -> None:
        ends = [0, *[start + len(_MARK) for start in starts]]
        gaps = [start - end for start, end in zip(starts, ends, strict=False)]
        marks = struct.Struct("".join([f"{gap}x{len(_MARK)}s" for gap in gaps]))
        self.put = partial(marks.pack_into, room, 0, *[_MARK] * len(starts))
        self.get: Callable[[], tuple[bytes, ...]] = partial(marks.unpack_from, room)


class _Place:
    """Where the rows of one input are written."""

    def __init__(self, spec: TensorSpec, values: NDArray[Any]) -> None:
        self._array = values
        self._flat = values.reshape(-1)
        self._memory = self._flat.view(np.uint8).data
        self._column = Column(spec)
        self._pack = struct.Struct(f"<{values.size}f").pack_into if spec.datatype == "FP32" else None

    def put(self, part: Values) -> None:
        """What fills the place."""
        if isinstance(part, bytes):
            self._memory[:] = part
        elif not isinstance(part, list):
            self._array[:] = part
        elif self._pack is None:
            self._flat[:] = part
        else:
            try:
                self._pack(self._memory, 0, *part)  # half of what numpy takes for a list
            except OverflowError:  # a number FP32 cannot hold becomes an infinity
                self._memory[:] = memoryview(array("f", part)).cast("B")

    def put_all(self, parts: Sequence[Values]) -> None:
        """What fills the place, one part behind the other."""
        if set(map(type, parts)) == {list}:
            self.put(list(chain.from_iterable(parts)))
        else:
            np.concatenate([self._column.array_of(part) for part in parts], out=self._array)


class BoundRun:
    """Runs of one number of rows. Their outputs hold until the next run of any number of rows."""

    def __init__(self, model: OnnxModel, rows: int, inputs: _Inputs, outputs: _Outputs) -> None:
        self.arrays = inputs.of(rows)
        self._places = [_Place(spec, values) for spec, values in zip(model.inputs, self.arrays, strict=True)]
        results, self._marks = outputs.of(rows)
        self._outputs = Outputs([Output(spec, a, True) for spec, a in zip(model.outputs, results, strict=True)])
        self._rows = rows
        self._letters: dict[Writer, Letter] = {}
        self._run = model.bind(self.arrays, results)
        self._floats = inputs.floats(rows)

    def put(self, values: Sequence[Values]) -> None:
        """The rows of one job."""
        if len(values) == 1:  # as mostly; in half the steps
            self._places[0].put(values[0])
            return
        for place, part in zip(self._places, values, strict=True):
            place.put(part)

    def put_all(self, jobs: Sequence[Sequence[Values]]) -> None:
        """The rows of several jobs."""
        for place, parts in zip(self._places, zip(*jobs, strict=True), strict=True):
            place.put_all(parts)

    def is_finite(self) -> bool:
        """Whether every float that was put is a number."""
        for floats in self._floats:  # noqa: SIM110 - a call less
            if not floats.are_finite():
                return False
        return True

    def run(self) -> bool:
        """Whether the outputs hold the answer. Raises ModelFailed."""
        marks = self._marks
        marks.put()
        self._run()
        return _MARK not in marks.get()

    def outputs(self) -> Outputs:
        """By name."""
        self._outputs.forget()
        return self._outputs

    def answer(self, writer: Writer, request_id: bytes) -> Answer:
        """To a request whose rows are all that were run."""
        letter = self._letters.get(writer)
        if letter is None:
            if len(self._letters) >= _MOST_LETTERS:
                self._letters.clear()
            letter = self._letters[writer] = writer.letter(self._outputs, self._rows)
        return letter(request_id)


class BoundRuns(dict[int, BoundRun]):
    """By the number of rows, at most CHUNK; made when first asked for."""

    def __init__(self, model: OnnxModel) -> None:
        super().__init__()
        self._model = model
        self._inputs = _Inputs(model.inputs)
        self._outputs = _Outputs(model.outputs)

    def __missing__(self, rows: int) -> BoundRun:
        run = self[rows] = BoundRun(self._model, rows, self._inputs, self._outputs)
        return run


def runs_of(model: OnnxModel) -> BoundRuns | None:
    """None where the size of a row, or of its answer, is not known beforehand, or is too large to be kept."""
    specs = [*model.inputs, *model.outputs]
    if len(specs) > _MOST_TENSORS or not model.row_wise:
        return None
    if any(spec.datatype == "BYTES" or -1 in spec.shape[1:] for spec in specs):
        return None
    sizes = [_row_bytes(spec) for spec in specs]
    if 0 in sizes or CHUNK * sum(sizes) > _MOST_BYTES or min(sizes[len(model.inputs) :]) < _SHORTEST:
        return None
    return BoundRuns(model)


def _row_bytes(spec: TensorSpec) -> int:
    return math.prod(spec.shape[1:]) * DTYPES[spec.datatype].itemsize


def _padded(size: int) -> int:
    """Up to the next multiple of eight."""
    return -(-size // 8) * 8
