"""What one row asked and was answered, in the bytes it travelled in.

Where requests come alone each is a frame of its own, and its arrays cost more than its row. So they are made when
somebody looks, and for what is recorded of many such rows in one step for all of them. Pure.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, Final, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from kingmaker_contracts.inference import Tensor
from kingmaker_gateway.signature import InputSpec

Place = tuple[str, str, np.dtype[Any], tuple[int, ...], int]
"""Name, datatype, dtype, shape of an output, and where in a body it begins."""

_RAW: Final = attrgetter("raw")
_BODY: Final = attrgetter("body")


class Layout(Protocol):
    """Where the outputs lie in bodies of `end` bytes."""

    @property
    def places(self) -> list[Place]: ...
    @property
    def end(self) -> int: ...


class LoneInputs(Mapping[str, NDArray[Any]]):
    """The arrays of one row of the only input there is. raw: its bytes."""

    __slots__ = ("raw", "spec")

    def __init__(self, spec: InputSpec, raw: bytes) -> None:
        self.spec = spec
        self.raw = raw

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name != self.spec.name:
            raise KeyError(name)
        return self.spec.of_raw(self.raw, 1)

    def __iter__(self) -> Iterator[str]:
        return iter((self.spec.name,))

    def __len__(self) -> int:
        return 1


class LoneOutputs(Sequence[Tensor]):
    """The outputs of one row. body: of the reply that holds them."""

    __slots__ = ("body", "layout")

    def __init__(self, body: bytes, layout: Layout) -> None:
        self.body = body
        self.layout = layout

    @overload
    def __getitem__(self, at: int) -> Tensor: ...
    @overload
    def __getitem__(self, at: slice) -> list[Tensor]: ...
    def __getitem__(self, at: int | slice) -> Tensor | list[Tensor]:
        return _laid_out(self.layout, [self.body])[at]

    def __iter__(self) -> Iterator[Tensor]:
        return iter(_laid_out(self.layout, [self.body]))

    def __len__(self) -> int:
        return len(self.layout.places)


def inputs_together(inputs: Sequence[Mapping[str, NDArray[Any]]]) -> Sequence[Mapping[str, NDArray[Any]]]:
    """The same rows in fewer pieces: lone ones of the same input that are neighbours become one."""
    if LoneInputs not in set(map(type, inputs)):
        return inputs
    found: list[Mapping[str, NDArray[Any]]] = []
    for spec, group in groupby(inputs, _spec_of):
        if spec is None:
            found += group
        else:
            raws = list(map(_RAW, group))
            found.append({spec.name: spec.of_raw(b"".join(raws), len(raws))})
    return found


def outputs_together(outputs: Sequence[Sequence[Tensor]]) -> Sequence[Sequence[Tensor]]:
    """The same of answers, where they are laid out alike."""
    if LoneOutputs not in set(map(type, outputs)):
        return outputs
    found: list[Sequence[Tensor]] = []
    for layout, group in groupby(outputs, _layout_of):
        if layout is None:
            found += group
        else:
            found.append(_laid_out(layout, list(map(_BODY, group))))
    return found


def form_of(outputs: Sequence[Tensor]) -> list[tuple[str, tuple[int, ...]]]:
    """Name and shape of a row of each."""
    layout = _layout_of(outputs)
    if layout is not None:
        return [(name, shape[1:]) for name, _, _, shape, _ in layout.places]
    return [(tensor.name, tensor.array.shape[1:]) for tensor in outputs]


def _spec_of(inputs: Mapping[str, NDArray[Any]]) -> InputSpec | None:
    return inputs.spec if inputs.__class__ is LoneInputs else None


def _layout_of(outputs: Sequence[Tensor]) -> Layout | None:
    return outputs.layout if outputs.__class__ is LoneOutputs else None


def _laid_out(layout: Layout, bodies: Sequence[bytes]) -> list[Tensor]:
    """The outputs of bodies of one row each."""
    rows = np.frombuffer(b"".join(bodies), np.uint8).reshape(len(bodies), layout.end)
    found = []
    for name, datatype, dtype, shape, start in layout.places:
        raw = np.ascontiguousarray(rows[:, start : start + math.prod(shape) * dtype.itemsize])
        found.append(Tensor(name, datatype, raw.view(dtype).reshape((len(bodies), *shape[1:]))))
    return found
