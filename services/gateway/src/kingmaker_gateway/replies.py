"""A model server's answer into the outputs of a frame, checked before anyone sees it.

The JSON part of a binary answer is the same text for the same number of rows, so where each output lies is worked out
once for a text and remembered; only the values differ, and they are looked at every time. Pure.
"""

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from kingmaker_contracts import tensors
from kingmaker_contracts.inference import DTYPES, FLOATS, BadTensor, Tensor
from kingmaker_gateway.connection import Reply
from kingmaker_gateway.errors import UpstreamGarbage, UpstreamRefused
from kingmaker_gateway.frames import Frame
from kingmaker_gateway.lone import LoneOutputs, Place
from kingmaker_gateway.signature import Signature

_MOST_LAYOUTS: Final = 1024
"""Remembered for one signature. A server that writes something unique into every answer gains nothing by it."""
_FEW: Final = 64
_VALUES_NEED_A_LOOK: Final = frozenset({"BYTES", "BOOL"})
_LETTERS: Final = {
    **{"UINT8": "B", "UINT16": "H", "UINT32": "I", "UINT64": "Q", "FP32": "f", "FP64": "d"},
    **{"INT8": "b", "INT16": "h", "INT32": "i", "INT64": "q"},
}
"""Of the struct module, which reads a few numbers in a fifth of the time."""


class Layout(msgspec.Struct, eq=False):
    """Where the outputs lie in a body.

    rows, end: of every body so laid out; places: in the signature's order; values_of(body, start): the values of all
    outputs where they are one row of a few; forms: see Frame.
    """

    rows: int
    end: int
    places: list[Place]
    values_of: Callable[[bytes, int], tuple[Any, ...]] | None
    forms: dict[Any, bytes] = {}


def read(reply: Reply, frame: Frame) -> Sequence[Tensor]:
    """The outputs of a frame, in the signature's order. Raises UpstreamError."""
    if reply.status != 200:
        raise UpstreamRefused(reply.status)
    if reply.head_length is None:
        return _decoded(reply, frame)[1]
    body = reply.body
    layout: Layout | None = frame.signature.layouts.get(body[: reply.head_length])
    if layout is None or layout.rows != frame.rows or layout.end != len(body):
        return _met(reply, frame, reply.head_length)
    if layout.values_of is None:
        outputs = []
        for name, datatype, dtype, shape, start in layout.places:
            outputs.append(Tensor(name, datatype, np.ndarray(shape, dtype, body, start)))
        _refuse_infinities(outputs)
        frame.values = None
        return outputs
    alone = LoneOutputs(body, layout)
    values = layout.values_of(body, reply.head_length)
    if not math.isfinite(sum(values)):  # one of them may be infinite; a third of the steps of looking for one
        _refuse_infinities(alone)
    frame.values, frame.forms = values, layout.forms
    return alone


def _met(reply: Reply, frame: Frame, head_length: int) -> list[Tensor]:
    """The outputs of a reply whose like has not been read before; it is remembered."""
    frame.values = None
    found, outputs = _decoded(reply, frame)
    layout = _layout(found, outputs, frame.rows, head_length, len(reply.body))
    if layout is not None:
        layouts = frame.signature.layouts
        if len(layouts) >= _MOST_LAYOUTS:
            layouts.clear()
        layouts[reply.body[:head_length]] = layout
    return outputs


def _refuse_infinities(outputs: Sequence[Tensor]) -> None:
    for tensor in outputs:
        if tensor.datatype in FLOATS and _holds_infinity(tensor.array):
            raise UpstreamGarbage(f"{tensor.name!r} holds an infinity")


def _holds_infinity(array: NDArray[Any]) -> bool:
    if array.size > _FEW:
        return bool(np.isinf(array).any())
    values = array.ravel().tolist()  # numpy's own way begins to pay with many values
    return math.inf in values or -math.inf in values


def _layout(found: list[Tensor], outputs: list[Tensor], rows: int, start: int, end: int) -> Layout | None:
    """None where some output is not simply raw numbers."""
    starts: dict[str, int] = {}
    for tensor in found:
        if tensor.datatype in _VALUES_NEED_A_LOOK:
            return None
        starts[tensor.name] = start
        start += tensor.array.nbytes
    if start != end:  # some output was JSON
        return None
    places = [(t.name, t.datatype, DTYPES[t.datatype], t.shape, starts[t.name]) for t in outputs]
    return Layout(rows, end, places, _values_of(outputs) if rows == 1 and outputs == found else None)


def _values_of(outputs: list[Tensor]) -> Callable[[bytes, int], tuple[Any, ...]] | None:
    """For outputs that lie one after another."""
    sizes = [tensor.array.size for tensor in outputs]
    if 0 in sizes or not 0 < sum(sizes) <= _FEW or any(tensor.datatype not in _LETTERS for tensor in outputs):
        return None
    letters = [_LETTERS[tensor.datatype] for tensor in outputs]
    return struct.Struct("<" + "".join(map("{}{}".format, sizes, letters))).unpack_from


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
