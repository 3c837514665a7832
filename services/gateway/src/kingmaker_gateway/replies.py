"""A model server's answer into the outputs of a frame, checked before anyone sees it.

The JSON part of a binary answer is the same text for the same number of rows, so where each output lies is worked out
once for a text and remembered; only the values differ, and they are looked at every time. Pure.
"""

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kingmaker_contracts import tensors
from kingmaker_contracts.inference import DTYPES, FLOATS, BadTensor, Tensor
from kingmaker_gateway.connection import Reply
from kingmaker_gateway.errors import UpstreamGarbage, UpstreamRefused
from kingmaker_gateway.frames import Frame
from kingmaker_gateway.signature import Signature

_MOST_LAYOUTS: Final = 1024
"""Remembered for one signature. A server that writes something unique into every answer gains nothing by it."""
_FEW: Final = 64
_VALUES_NEED_A_LOOK: Final = frozenset({"BYTES", "BOOL"})


class _Place(NamedTuple):
    """Where an output lies in a body. start: bytes; size: values."""

    name: str
    datatype: str
    is_float: bool
    dtype: np.dtype[Any]
    start: int
    size: int
    shape: tuple[int, ...]


Layout = tuple[_Place, ...]


def read(reply: Reply, frame: Frame) -> list[Tensor]:
    """The outputs of a frame, in the signature's order. Raises UpstreamError."""
    if reply.status != 200:
        raise UpstreamRefused(reply.status)
    if reply.head_length is None:
        return _decoded(reply, frame)[1]
    layouts: dict[Any, Layout] = frame.signature.layouts
    key = (reply.body[: reply.head_length], len(reply.body), frame.rows)
    layout = layouts.get(key)
    if layout is not None:
        return [_at(place, reply.body) for place in layout]
    found, outputs = _decoded(reply, frame)
    layout = _layout(found, outputs, reply.head_length, len(reply.body))
    if layout is not None:
        if len(layouts) >= _MOST_LAYOUTS:
            layouts.clear()
        layouts[key] = layout
    return outputs


def _at(place: _Place, body: bytes) -> Tensor:
    array = np.frombuffer(body, place.dtype, place.size, place.start)
    if place.is_float and _holds_infinity(array):
        raise UpstreamGarbage(f"{place.name!r} holds an infinity")
    return Tensor(place.name, place.datatype, array.reshape(place.shape))


def _holds_infinity(array: NDArray[Any]) -> bool:
    if array.size > _FEW:
        return bool(np.isinf(array).any())
    values = array.tolist()  # numpy's own way begins to pay with many values
    return math.inf in values or -math.inf in values


def _layout(found: list[Tensor], outputs: list[Tensor], start: int, end: int) -> Layout | None:
    """None where some output is not simply raw numbers."""
    starts: dict[str, int] = {}
    for tensor in found:
        if tensor.datatype in _VALUES_NEED_A_LOOK:
            return None
        starts[tensor.name] = start
        start += tensor.array.nbytes
    if start != end:  # some output was JSON
        return None
    return tuple(_place(tensor, starts[tensor.name]) for tensor in outputs)


def _place(tensor: Tensor, start: int) -> _Place:
    datatype, shape = tensor.datatype, tensor.shape
    return _Place(tensor.name, datatype, datatype in FLOATS, DTYPES[datatype], start, math.prod(shape), shape)


def _decoded(reply: Reply, frame: Frame) -> tuple[list[Tensor], list[Tensor]]:
    """All outputs of the answer, and those of the signature."""
    try:
        found = tensors.decode_response(reply.body, reply.head_length).outputs
    except BadTensor as error:
        raise UpstreamGarbage(str(error)) from None
    return found, _checked({tensor.name: tensor for tensor in found}, frame.rows, frame.signature)


def _checked(found: dict[str, Tensor], rows: int, signature: Signature) -> list[Tensor]:
    outputs = []
    for name, spec in signature.outputs.items():
        tensor = found.get(name)
        if tensor is None:
            raise UpstreamGarbage(f"the answer lacks output {name!r}")
        if tensor.datatype != spec.datatype:
            raise UpstreamGarbage(f"output {name!r} has datatype {tensor.datatype}, expected {spec.datatype}")
        if not tensor.shape or tensor.shape[0] != rows:
            raise UpstreamGarbage(f"output {name!r} has shape {list(tensor.shape)}, expected {rows} rows")
        outputs.append(tensor)
    return outputs
