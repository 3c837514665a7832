"""Write the answers of one run: what several requests share is made once, what belongs to one is cut out.

The outcome is what `kingmaker_contracts.tensors.encode_response` would write, byte for byte (a test holds the
two together); here the parts that never change are bytes already, and numbers leave numpy once a run.
"""

import itertools
import math
import uuid
from collections.abc import Mapping
from typing import Any, Final, Protocol

import msgspec
from numpy.typing import NDArray

from kingmaker_contracts import raw_tensors
from kingmaker_contracts.inference import BINARY_HEADER, Tensor, TensorSpec

JSON: Final = (b"content-type", b"application/json")
_JSON_HEADERS: Final = (JSON,)
_OCTETS: Final = (b"content-type", b"application/octet-stream")
_BINARY_HEADER: Final = BINARY_HEADER.encode()

_MOST_TEXTS: Final = 256
_encode: Final = msgspec.json.Encoder().encode


class Answer(msgspec.Struct, frozen=True):
    """A whole HTTP answer but for content-length; header names are in lower case."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class Output(msgspec.Struct, eq=False):
    """One output of a run, and the rows of it that belong to one request.

    row_wise False: the first dimension does not count rows, and every request (there is one) gets all of it.
    tail: the shape of what one row has, of all of it where rows are not counted.
    """

    spec: TensorSpec
    array: NDArray[Any]
    row_wise: bool
    flat: list[Any] | None = None
    listed: list[Any] | None = None

    @property
    def tail(self) -> tuple[int, ...]:
        return self.array.shape[1:] if self.row_wise else self.array.shape

    def shape(self, start: int, stop: int) -> bytes:
        """The shape as JSON."""
        shape = (stop - start, *self.tail) if self.row_wise else self.tail
        return b"[%b]" % ",".join(map(str, shape)).encode()

    def values(self, start: int, stop: int) -> list[Any]:
        """The values for JSON, row-major."""
        if self.flat is None:
            self.flat = self.array.ravel().tolist()
            if self.spec.datatype == "BYTES":
                self.flat = [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in self.flat]
        if not self.row_wise:
            return self.flat
        width = math.prod(self.tail)
        return self.flat[start * width : stop * width]

    def raw(self, start: int, stop: int) -> bytes:
        """The values for the binary extension."""
        array = self.array[start:stop] if self.row_wise else self.array
        if self.spec.datatype == "BYTES":
            return raw_tensors.to_raw(Tensor(self.spec.name, "BYTES", array))
        return array.tobytes()

    def rows(self, start: int, stop: int) -> list[Any]:
        """The values nested as the array is, one item a row."""
        if self.listed is None:
            self.listed = self.array.tolist()
        return self.listed[start:stop]


class Writer(Protocol):
    """Writes a kind of answer. outputs: those it needs, by name, in the order asked for."""

    outputs: list[str]

    def write(self, request_id: bytes, outputs: Mapping[str, Output], start: int, stop: int, /) -> Answer:
        """The answer for rows start to stop of a run."""


class InferWriter:
    """V2 answers with a given choice of outputs, some of them raw."""

    def __init__(self, model: str, version: str, wanted: list[TensorSpec], binary: frozenset[str]) -> None:
        self.outputs = [spec.name for spec in wanted]
        self._begin = _encode({"model_name": model, "model_version": version})[:-1] + b',"id":'
        self._parts = [_part(spec, at, spec.name in binary) for at, spec in enumerate(wanted)]
        self._has_raw = bool(binary)
        self._is_fixed = all(spec.name in binary and spec.datatype != "BYTES" for spec in wanted)
        self._texts: dict[tuple[Any, ...], bytes] = {}
        self._headers: dict[int, tuple[tuple[bytes, bytes], ...]] = {}

    def write(self, request_id: bytes, outputs: Mapping[str, Output], start: int, stop: int) -> Answer:
        if self._is_fixed:
            return self._write_raw(request_id, outputs, start, stop)
        pieces = [self._begin, request_id]
        parts: list[bytes] = []
        for name, head, middle, is_raw in self._parts:
            output = outputs[name]
            if is_raw:
                raw = output.raw(start, stop)
                parts.append(raw)
                pieces += (head, output.shape(start, stop), middle, b"%d}}" % len(raw))
            else:
                pieces += (head, output.shape(start, stop), middle, _encode(output.values(start, stop)), b"}")
        pieces.append(b"]}")
        text = b"".join(pieces)
        if not self._has_raw:
            return Answer(200, _JSON_HEADERS, text)
        parts.insert(0, text)
        return Answer(200, self._raw_headers(len(text)), b"".join(parts))

    def _write_raw(self, request_id: bytes, outputs: Mapping[str, Output], start: int, stop: int) -> Answer:
        """All outputs are raw and as long as their shapes say, so the text is the same for as many rows of one form."""
        chosen = [outputs[name] for name in self.outputs]
        raws = [output.raw(start, stop) for output in chosen]
        form = (stop - start, *[output.tail for output in chosen])
        text = self._texts.get(form)
        if text is None:
            pieces: list[bytes] = []
            for (_, head, middle, _), output, raw in zip(self._parts, chosen, raws, strict=True):
                pieces += (head, output.shape(start, stop), middle, b"%d}}" % len(raw))
            text = b"".join((*pieces, b"]}"))
            if len(self._texts) >= _MOST_TEXTS:
                self._texts.clear()
            self._texts[form] = text
        length = len(self._begin) + len(request_id) + len(text)
        return Answer(200, self._raw_headers(length), b"".join((self._begin, request_id, text, *raws)))

    def _raw_headers(self, length: int) -> tuple[tuple[bytes, bytes], ...]:
        """The same object for the same length: the protocol words it once."""
        headers = self._headers.get(length)
        if headers is None:
            headers = (_OCTETS, (_BINARY_HEADER, b"%d" % length))
            if len(self._headers) >= _MOST_TEXTS:
                self._headers.clear()
            self._headers[length] = headers
        return headers


class PredictWriter:
    """V1 answers: plain values for one output, an object a row for several. NaN goes out as null."""

    def __init__(self, outputs: list[TensorSpec]) -> None:
        self.outputs = [spec.name for spec in outputs]

    def write(self, _: bytes, outputs: Mapping[str, Output], start: int, stop: int) -> Answer:
        return Answer(200, _JSON_HEADERS, _encode({"predictions": self.predictions(outputs, start, stop)}))

    def predictions(self, outputs: Mapping[str, Output], start: int, stop: int) -> list[Any]:
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
        return b'%b%012x"' % (self._prefix, next(self._next))


def id_text(request_id: str) -> bytes:
    """A client's id as JSON."""
    return _encode(request_id)


def _part(spec: TensorSpec, at: int, is_raw: bool) -> tuple[str, bytes, bytes, bool]:
    """Name, and the constant bytes before and behind the shape."""
    head = (b"," if at else b',"outputs":[') + b'{"name":%b,"shape":' % _encode(spec.name)
    middle = b',"datatype":%b' % _encode(spec.datatype)
    return spec.name, head, middle + (b',"parameters":{"binary_data_size":' if is_raw else b',"data":'), is_raw
