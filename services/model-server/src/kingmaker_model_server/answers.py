"""Write the answers of one run: what several requests share is made once, what belongs to one is cut out.

The outcome is what `kingmaker_contracts.tensors.encode_response` would write, byte for byte (a test holds the
two together); here the parts that never change are bytes already, and numbers leave numpy once a run. Where a request
runs alone in memory that stays, all is worded beforehand but its id and values: see `Letter`.
"""

import itertools
import math
import uuid
from binascii import hexlify
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from kingmaker_contracts import raw_tensors
from kingmaker_contracts.inference import BINARY_HEADER, Tensor, TensorSpec

JSON: Final = (b"content-type", b"application/json")
_JSON_HEADERS: Final = (JSON,)
_OCTETS: Final = (b"content-type", b"application/octet-stream")
_BINARY_HEADER: Final = BINARY_HEADER.encode()

_MOST_TEXTS: Final = 256
_encode: Final = msgspec.json.Encoder().encode


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A whole HTTP answer but for content-length; header names are in lower case."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class Output(msgspec.Struct, eq=False):
    """One output of a run, and the rows of it that belong to one request.

    row_wise False: the first dimension does not count rows, and every request (there is one) gets all of it.
    tail: the shape of what one row has, of all of it where rows are not counted; width: values of that shape,
    size: their bytes.
    """

    spec: TensorSpec
    array: NDArray[Any]
    row_wise: bool
    tail: tuple[int, ...] = ()
    width: int = 0
    size: int = 0
    flat: list[Any] | None = None
    listed: list[Any] | None = None
    memory: memoryview | None = None

    def __post_init__(self) -> None:
        self.tail = self.array.shape[1:] if self.row_wise else self.array.shape
        self.width = math.prod(self.tail)
        self.size = self.width * self.array.itemsize

    def shape(self, rows: int) -> bytes:
        """The shape of that many rows as JSON."""
        shape = (rows, *self.tail) if self.row_wise else self.tail
        return b"[%b]" % ",".join(map(str, shape)).encode()

    def values(self, start: int, stop: int) -> list[Any]:
        """The values for JSON, row-major."""
        flat = self.flat
        if flat is None:
            flat = self.flat = self._flat()
        width = self.width
        return flat[start * width : stop * width] if self.row_wise else flat

    def raw(self, start: int, stop: int) -> bytes | memoryview:
        """The values for the binary extension."""
        memory = self.memory
        if memory is None:
            if self.spec.datatype == "BYTES":
                array = self.array[start:stop] if self.row_wise else self.array
                return raw_tensors.to_raw(Tensor(self.spec.name, "BYTES", array))
            memory = self.memory = self.array.reshape(-1).view(np.uint8).data
        size = self.size
        return memory[start * size : stop * size] if self.row_wise else memory

    def rows(self, start: int, stop: int) -> list[Any]:
        """The values nested as the array is, one item a row."""
        if self.listed is None:
            self.listed = self.array.tolist()
        return self.listed[start:stop]

    def _flat(self) -> list[Any]:
        flat: list[Any] = self.array.ravel().tolist()
        if self.spec.datatype == "BYTES":
            return [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in flat]
        return flat


class Outputs(dict[str, Output]):
    """The outputs of a run, by name. tails: of each, for answers of as many rows and alike tails are worded alike."""

    def __init__(self, outputs: Iterable[Output]) -> None:
        super().__init__({output.spec.name: output for output in outputs})
        self._all = tuple(self.values())
        self.tails = tuple([output.tail for output in self._all])

    def forget(self) -> None:
        """The arrays hold other values now, or nobody asks for these any more."""
        for output in self._all:
            output.flat = output.listed = None


Letter = Callable[[bytes], Answer]
"""An answer by the request's id, worded beforehand but for the id and the values."""


class Writer(Protocol):
    """Writes a kind of answer. outputs: those it needs, by name, in the order asked for."""

    outputs: list[str]

    def write(self, request_id: bytes, outputs: Outputs, start: int, stop: int, /) -> Answer:
        """The answer for rows start to stop of a run."""

    def letter(self, outputs: Outputs, rows: int) -> Letter:
        """What `write` gives for all of a run of that many rows; outputs: their arrays stay, their values change."""

        def fill(request_id: bytes) -> Answer:
            outputs.forget()
            answer = self.write(request_id, outputs, 0, rows)
            outputs.forget()  # else every number of rows would keep its last answer in Python's numbers
            return answer

        return fill


class InferWriter(Writer):
    """V2 answers with a given choice of outputs, some of them raw."""

    def __init__(self, model: str, version: str, wanted: list[TensorSpec], binary: frozenset[str]) -> None:
        self.outputs = [spec.name for spec in wanted]
        self._begin = _encode({"model_name": model, "model_version": version})[:-1] + b',"id":'
        self._parts = [_part(spec, at, spec.name in binary) for at, spec in enumerate(wanted)]
        self._end = self._parts[-1].closing + b"]}"
        self._has_raw = bool(binary)
        self._is_fixed = all(spec.name in binary and spec.datatype != "BYTES" for spec in wanted)
        self._heads: dict[_Form, list[tuple[str, bool, bytes]]] = {}
        self._texts: dict[_Form, bytes] = {}
        self._headers: dict[int, tuple[tuple[bytes, bytes], ...]] = {}

    def write(self, request_id: bytes, outputs: Outputs, start: int, stop: int) -> Answer:
        form = (stop - start, outputs.tails)
        if self._is_fixed:
            return self._write_raw(request_id, outputs, start, stop, form)
        heads = self._heads.get(form) or self._headed(form, outputs)
        pieces = [self._begin, request_id]
        if not self._has_raw:
            for name, _, head in heads:
                pieces += (head, _encode(outputs[name].values(start, stop)))
            pieces.append(self._end)
            return Answer(200, _JSON_HEADERS, b"".join(pieces))
        parts: list[bytes | memoryview] = []
        for name, is_raw, head in heads:
            if is_raw:
                raw = outputs[name].raw(start, stop)
                parts.append(raw)
                pieces += (head, b"%d" % len(raw))
            else:
                pieces += (head, _encode(outputs[name].values(start, stop)))
        text = b"".join((*pieces, self._end))
        return Answer(200, self._raw_headers(len(text)), b"".join((text, *parts)))

    def _write_raw(self, request_id: bytes, outputs: Outputs, start: int, stop: int, form: "_Form") -> Answer:
        """All outputs are raw and as long as their shapes say, so the text is the same for as many rows of one form."""
        raws = [outputs[name].raw(start, stop) for name in self.outputs]
        text = self._texts.get(form) or self._text(form, outputs)
        length = len(self._begin) + len(request_id) + len(text)
        return Answer(200, self._raw_headers(length), b"".join((self._begin, request_id, text, *raws)))

    def _text(self, form: "_Form", outputs: Outputs) -> bytes:
        """What stands between the id and the raw values."""
        pieces = []
        for name, _, head in self._headed(form, outputs):
            output = outputs[name]
            pieces.append(b"%b%d" % (head, output.size * form[0] if output.row_wise else output.size))
        text = b"".join((*pieces, self._end))
        if len(self._texts) >= _MOST_TEXTS:
            self._texts.clear()
        self._texts[form] = text
        return text

    def letter(self, outputs: Outputs, rows: int) -> Letter:
        form = (rows, outputs.tails)
        if self._is_fixed:
            return self._raw_letter(self._text(form, outputs), [outputs[name].raw(0, rows) for name in self.outputs])
        if self._has_raw:
            return super().letter(outputs, rows)
        return self._json_letter(self._headed(form, outputs), outputs)

    def _raw_letter(self, text: bytes, raws: list[bytes | memoryview]) -> Letter:
        pieces = [self._begin, b"", text, *raws]
        known_length = len(self._begin) + len(text)
        known_headers = self._headers

        def fill(request_id: bytes) -> Answer:
            pieces[1] = request_id
            length = known_length + len(request_id)
            return Answer(200, known_headers.get(length) or self._raw_headers(length), b"".join(pieces))

        return fill

    def _json_letter(self, heads: list[tuple[str, bool, bytes]], outputs: Outputs) -> Letter:
        pieces = [self._begin, b""]
        places: list[tuple[int, NDArray[Any]]] = []
        for name, _, head in heads:
            pieces += (head, b"")
            places.append((len(pieces) - 1, outputs[name].array.reshape(-1)))
        pieces.append(self._end)

        def fill(request_id: bytes) -> Answer:
            filled = pieces.copy()  # what stays must not keep the last answer
            filled[1] = request_id
            for place, values in places:
                filled[place] = _encode(values.tolist())
            return Answer(200, _JSON_HEADERS, b"".join(filled))

        return fill

    def _headed(self, form: "_Form", outputs: Outputs) -> list[tuple[str, bool, bytes]]:
        """Name, whether it is raw, and what stands before its values, or their size: for each output."""
        heads: list[tuple[str, bool, bytes]] = []
        closing = b""
        for part in self._parts:
            shape = outputs[part.name].shape(form[0])
            heads.append((part.name, part.is_raw, b"".join((closing, part.head, shape, part.middle))))
            closing = part.closing
        if len(self._heads) >= _MOST_TEXTS:
            self._heads.clear()
        self._heads[form] = heads
        return heads

    def _raw_headers(self, length: int) -> tuple[tuple[bytes, bytes], ...]:
        """The same object for the same length: the protocol words it once."""
        headers = self._headers.get(length)
        if headers is None:
            headers = (_OCTETS, (_BINARY_HEADER, b"%d" % length))
            if len(self._headers) >= _MOST_TEXTS:
                self._headers.clear()
            self._headers[length] = headers
        return headers


class PredictWriter(Writer):
    """V1 answers: plain values for one output, an object a row for several. NaN goes out as null."""

    def __init__(self, outputs: list[TensorSpec]) -> None:
        self.outputs = [spec.name for spec in outputs]

    def write(self, _: bytes, outputs: Outputs, start: int, stop: int) -> Answer:
        return Answer(200, _JSON_HEADERS, _encode({"predictions": self.predictions(outputs, start, stop)}))

    def predictions(self, outputs: Outputs, start: int, stop: int) -> list[Any]:
        """One item a row."""
        columns = [outputs[name].rows(start, stop) for name in self.outputs]
        if len(columns) == 1:
            return columns[0]
        return [dict(zip(self.outputs, row, strict=True)) for row in zip(*columns, strict=True)]


class Ids:
    """Ids for requests that bring none: random once a process, then counted, in the form of a UUID."""

    def __init__(self) -> None:
        self._prefix = b'"' + str(uuid.uuid4())[:24].encode()
        self._next = itertools.count(1)

    def next(self) -> bytes:
        """As JSON."""
        return self._prefix + hexlify(next(self._next).to_bytes(6)) + b'"'


def id_text(request_id: str) -> bytes:
    """A client's id as JSON."""
    return _encode(request_id)


_Form = tuple[int, tuple[tuple[int, ...], ...]]
"""Rows, and the tails of the run's outputs."""


class _Part(NamedTuple):
    """The constant bytes of one output: before and behind its shape, and behind its values or their size."""

    name: str
    is_raw: bool
    head: bytes
    middle: bytes
    closing: bytes


def _part(spec: TensorSpec, at: int, is_raw: bool) -> _Part:
    head = (b"," if at else b',"outputs":[') + b'{"name":%b,"shape":' % _encode(spec.name)
    datatype = b',"datatype":%b' % _encode(spec.datatype)
    if is_raw:
        return _Part(spec.name, True, head, datatype + b',"parameters":{"binary_data_size":', b"}}")
    return _Part(spec.name, False, head, datatype + b',"data":', b"}")
