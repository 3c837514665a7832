"""Rows of many requests as one upstream call, and each request's own rows out of its answer. Pure.

A frame is columnar: for every input one array over the rows of all its members. Those arrays are what is sent,
what a shadow gets and what the recorder keeps, by reference. Bytes are written once a frame and never a request.
"""

from collections.abc import Hashable, Mapping, Sequence
from itertools import chain
from typing import Any, Final, Protocol, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from kingmaker_contracts import raw_tensors, tensors
from kingmaker_contracts.inference import Tensor
from kingmaker_gateway.batch import Batch
from kingmaker_gateway.lone import LoneInputs
from kingmaker_gateway.signature import Signature

_MOST_HEADS: Final = 4096
"""Remembered for one signature, of frames with so many rows at most."""
CALL_ID: Final = "frame"
"""Of every upstream call: servers make up an id where there is none, and no two of their answers would be worded alike
(see `replies`)."""


class Rows(Protocol):
    """So many rows of a batch, from the first on."""

    @property
    def batch(self) -> Batch: ...
    @property
    def first(self) -> int: ...
    @property
    def rows(self) -> int: ...


class Part(msgspec.Struct, eq=False):
    """Rows, and nothing else about them."""

    batch: Batch
    first: int
    rows: int


class Body(msgspec.Struct, eq=False):
    """The bytes of one upstream call. head: the JSON part; raw: the values; recurs: all frames of so many rows have the
    very same head."""

    head: bytes
    raw: bytes
    recurs: bool = False

    @property
    def data(self) -> bytes:
        return self.head + self.raw

    @property
    def head_length(self) -> int:
        return len(self.head)


class Frame(msgspec.Struct, eq=False):
    """Rows of one or more requests for one signature, and the outputs once they are there.

    arrays: by input, in the signature's order and shape, first dimension rows; outputs: in the signature's order;
    values: of all outputs, one after another, when there is one row of a few plain numbers; v1_form, v2_form: its
    answers in words, see `plain`; forms: what `plain` remembers of replies with such values.
    """

    signature: Signature
    rows: int
    arrays: Mapping[str, NDArray[Any]]
    outputs: Sequence[Tensor] = ()
    body: Body | None = None
    values: tuple[Any, ...] | None = None
    forms: Any = None
    v1_form: Any = None
    v2_form: Any = None

    def encoded(self) -> Body:
        """The bytes, made when first asked for."""
        if self.body is None:
            self.body = encode(self)
        return self.body


class Slice(msgspec.Struct, eq=False, gc=False):
    """Some neighbouring rows of an answered frame: one request's answer."""

    frame: Frame
    first: int
    rows: int

    @property
    def tensors(self) -> Sequence[Tensor]:
        if self.rows == self.frame.rows:
            return self.frame.outputs
        first, last = self.first, self.first + self.rows
        return [Tensor(t.name, t.datatype, t.array[first:last]) for t in self.frame.outputs]


def kind(batch: Batch, signature: Signature) -> Hashable:
    """What requests must share to travel together: the signature (hence dtypes), and sizes it leaves open."""
    if not signature.is_open:
        return signature
    return (signature, *(batch.arrays[name].shape[1:] for name in signature.inputs))


def join(members: Sequence[Rows], signature: Signature) -> Frame:
    """A frame of the members' rows, in that order; all are of one kind."""
    packed = _packed(members, signature) if signature.raw_input is not None else None
    if packed is not None:
        return packed
    arrays: dict[str, NDArray[Any]] = {}
    if len(members) == 1:
        rows, batch = members[0].rows, members[0].batch
        columns = batch.columns
        if columns is not None and batch.rows == rows:
            for name, spec in signature.inputs.items():
                arrays[name] = spec.array(columns[name], rows)
            return Frame(signature, rows, arrays)
        lists = None
    else:
        rows = sum([member.rows for member in members])
        lists = _lists(members)
    for name, spec in signature.inputs.items():
        if lists is not None:
            arrays[name] = spec.array(list(chain.from_iterable([part[name] for part in lists])), rows)
            continue
        parts = [member.batch.arrays[name][member.first : member.first + member.rows] for member in members]
        array = parts[0] if len(parts) == 1 else np.concatenate(parts)
        arrays[name] = array if spec.is_open or array.shape[1:] == spec.tail else array.reshape((rows, *spec.tail))
    return Frame(signature, rows, arrays)


def joined(parts: Sequence[Frame], signature: Signature) -> Frame:
    """Frames of this signature's inputs as one."""
    arrays = {name: np.concatenate([frame.arrays[name] for frame in parts]) for name in signature.inputs}
    return Frame(signature, sum([frame.rows for frame in parts]), arrays)


def _packed(members: Sequence[Rows], signature: Signature) -> Frame | None:
    """Of members some of whom have the one row each sends as bytes. None: nobody has."""
    if len(members) == 1:
        raw = members[0].batch.packed
        return None if raw is None else _of_raw(raw, 1, signature)
    raws: Sequence[bytes | None] = [member.batch.packed for member in members]
    missing = raws.count(None)
    if missing == len(raws):
        return None
    rows = len(raws)
    if missing:
        [name] = signature.inputs
        rows = sum([member.rows for member in members])
        raws = [member.batch.packed or _raw_rows(member, name) for member in members]
    return _of_raw(b"".join(cast(list[bytes], raws)), rows, signature)


def _of_raw(raw: bytes, rows: int, signature: Signature) -> Frame | None:
    """The bytes are what is sent and what is kept. None: they are not so many rows of `raw_input`."""
    spec = signature.raw_input
    if spec is None or len(raw) != 4 * rows * spec.width:
        return None
    head = signature.frame_heads.get(rows)
    body = None if head is None else Body(head, raw, True)
    arrays = LoneInputs(spec, raw) if rows == 1 else {spec.name: spec.of_raw(raw, rows)}
    return Frame(signature, rows, arrays, body=body)


def _raw_rows(member: Rows, name: str) -> bytes:
    return member.batch.arrays[name][member.first : member.first + member.rows].tobytes()


def _lists(members: Sequence[Rows]) -> list[dict[str, list[Any]]] | None:
    """The columns of all members; None when one has only arrays, or sends only some of its rows."""
    lists = [
        columns
        for member in members
        if (batch := member.batch).rows == member.rows and (columns := batch.columns) is not None
    ]
    return lists if len(lists) == len(members) else None


def encode(frame: Frame) -> Body:
    """OIP V2 with every tensor raw and every output asked for raw."""
    signature = frame.signature
    head = signature.frame_heads.get(frame.rows)
    if head is not None:
        return Body(head, b"".join([array.tobytes() for array in frame.arrays.values()]), True)
    if signature.is_open:
        body, head_length = tensors.encode_request(
            [Tensor(name, signature.inputs[name].datatype, array) for name, array in frame.arrays.items()], id=CALL_ID
        )
        return Body(body[:head_length], body[head_length:])
    parts: list[bytes] = []
    numbers: list[int] = []
    for name, array in frame.arrays.items():
        raw = array.tobytes() if array.dtype != object else raw_tensors.to_raw(Tensor(name, "BYTES", array))
        parts.append(raw)
        numbers += (frame.rows, len(raw))
    head = _template(signature) % tuple(numbers)
    recurs = all(spec.datatype != "BYTES" for spec in signature.inputs.values()) and frame.rows <= _MOST_HEADS
    if recurs:
        signature.frame_heads[frame.rows] = head  # the size of texts alone is not known from their number
    return Body(head, b"".join(parts), recurs)


def _template(signature: Signature) -> bytes:
    """The JSON part with room for rows and size of each input; what tensors.encode_request would write."""
    if signature.template is None:
        inputs = []
        for name, spec in signature.inputs.items():
            start = msgspec.json.encode({"name": name})[:-1].replace(b"%", b"%%")
            tail = "".join(f",{size}" for size in spec.tail).encode()
            inputs.append(
                start
                + b',"shape":[%d'
                + tail
                + b'],"datatype":"'
                + spec.datatype.encode()
                + b'","parameters":{"binary_data_size":%d}}'
            )
        signature.template = (
            b'{"parameters":{"binary_data_output":true},"inputs":['
            + b",".join(inputs)
            + b'],"id":"'
            + CALL_ID.encode()
            + b'"}'
        )
    return signature.template
