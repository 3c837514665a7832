"""Rows of many requests as one upstream call, and each request's own rows out of its answer. Pure.

A frame is columnar: for every input one array over the rows of all its members. Those arrays are what is sent,
what a shadow gets and what the recorder keeps, by reference. Bytes are written once a frame and never a request.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from kingmaker_contracts import raw_tensors, tensors
from kingmaker_contracts.inference import Tensor
from kingmaker_gateway.batch import Batch
from kingmaker_gateway.signature import Signature

CALL_ID: Final = "frame"
"""Of every upstream call: servers make up an id where there is none, and no two of their answers would be worded alike
(see `replies`)."""


class Body:
    """The bytes of one upstream call. head_length: of its JSON part."""

    __slots__ = ("data", "head_length")

    def __init__(self, data: bytes, head_length: int) -> None:
        self.data = data
        self.head_length = head_length


@dataclass(slots=True, eq=False)
class Frame:
    """Rows of one or more requests for one signature, and the outputs once they are there.

    arrays: by input, in the signature's order and shape, first dimension rows; outputs: in the signature's order;
    v1_form, v2_form: its answers in words, see `plain`.
    """

    signature: Signature
    rows: int
    arrays: dict[str, NDArray[Any]]
    outputs: list[Tensor] = field(default_factory=list)
    body: Body | None = None
    v1_form: Any = None
    v2_form: Any = None

    def encoded(self) -> Body:
        """The bytes, made when first asked for."""
        if self.body is None:
            self.body = encode(self)
        return self.body


class Slice:
    """Some neighbouring rows of an answered frame: one request's answer."""

    __slots__ = ("first", "frame", "rows")

    def __init__(self, frame: Frame, first: int, rows: int) -> None:
        self.frame = frame
        self.first = first
        self.rows = rows

    @property
    def tensors(self) -> list[Tensor]:
        if self.rows == self.frame.rows:
            return self.frame.outputs
        first, last = self.first, self.first + self.rows
        return [Tensor(t.name, t.datatype, t.array[first:last]) for t in self.frame.outputs]


def kind(batch: Batch, signature: Signature) -> Hashable:
    """What requests must share to travel together: the signature (hence dtypes), and sizes it leaves open."""
    if not signature.is_open:
        return signature
    return (signature, *(batch.arrays[name].shape[1:] for name in signature.inputs))


def join(members: Sequence[tuple[Batch, int, int]], signature: Signature) -> Frame:
    """A frame of rows first..last-1 of each batch, in that order; all are of one kind."""
    arrays: dict[str, NDArray[Any]] = {}
    rows = sum([last - first for _, first, last in members])
    lists = _lists(members)
    for name, spec in signature.inputs.items():
        if lists is not None:
            values: list[Any] = []
            for columns in lists:
                values += columns[name]
            arrays[name] = spec.array(values, rows)
            continue
        if len(members) == 1:
            batch, first, last = members[0]
            array = batch.arrays[name] if last - first == batch.rows else batch.arrays[name][first:last]
        else:
            array = np.concatenate(
                [
                    batch.arrays[name] if last - first == batch.rows else batch.arrays[name][first:last]
                    for batch, first, last in members
                ]
            )
        arrays[name] = array if spec.is_open or array.shape[1:] == spec.tail else array.reshape((rows, *spec.tail))
    return Frame(signature, rows, arrays)


def _lists(members: Sequence[tuple[Batch, int, int]]) -> list[dict[str, list[Any]]] | None:
    """The columns of all members; None when one has only arrays, or sends only some of its rows."""
    lists = []
    for batch, first, last in members:
        if batch.columns is None or last - first != batch.rows:
            return None
        lists.append(batch.columns)
    return lists


def encode(frame: Frame) -> Body:
    """OIP V2 with every tensor raw and every output asked for raw."""
    signature = frame.signature
    if signature.is_open:
        body, head_length = tensors.encode_request(
            [Tensor(name, signature.inputs[name].datatype, array) for name, array in frame.arrays.items()], id=CALL_ID
        )
        return Body(body, head_length)
    parts = [b""]
    numbers: list[int] = []
    for name, array in frame.arrays.items():
        raw = array.tobytes() if array.dtype != object else raw_tensors.to_raw(Tensor(name, "BYTES", array))
        parts.append(raw)
        numbers += (frame.rows, len(raw))
    parts[0] = _template(signature) % tuple(numbers)
    return Body(b"".join(parts), len(parts[0]))


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
