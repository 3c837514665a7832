"""What a variant takes and gives, from its profile or, without one, from the model server's own metadata."""

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kingmaker_contracts.inference import DTYPES, ModelMetadata, TensorSpec
from kingmaker_contracts.profile import Profile

_LETTERS: Final = {"FP32": "f", "FP64": "d", "INT64": "q", "INT32": "i"}
"""Of the struct module."""
_MOST_VALUES: Final = 2**31 - 1
"""Of a row that can be sent at all; the struct module makes nothing of many more."""


@dataclass(slots=True, frozen=True)
class InputSpec:
    """One input. tail: the shape behind the rows, () for a vector, -1 for a dimension of any length; is_open: a row's
    size is not known beforehand; width: values in a row; is_single: one value a row; one_row: the shape of one; letter:
    of the struct module, None where it has none for the datatype or nobody knows how many; pack_row: the bytes of one
    row's values; dtype: of its arrays."""

    name: str
    datatype: str
    tail: tuple[int, ...]
    nullable: bool
    is_open: bool = field(init=False, compare=False)
    width: int = field(init=False, compare=False)
    is_single: bool = field(init=False, compare=False)
    one_row: list[int] = field(init=False, compare=False)
    letter: str | None = field(init=False, compare=False)
    pack_row: Callable[..., bytes] | None = field(init=False, compare=False)
    dtype: np.dtype[Any] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_open", any(size < 0 for size in self.tail))
        object.__setattr__(self, "width", math.prod(self.tail))
        object.__setattr__(self, "is_single", not self.is_open and self.width == 1)
        object.__setattr__(self, "one_row", [1, *self.tail])
        letter = None if self.is_open or self.width > _MOST_VALUES else _LETTERS.get(self.datatype)
        object.__setattr__(self, "dtype", DTYPES[self.datatype])
        object.__setattr__(self, "letter", letter)
        object.__setattr__(self, "pack_row", letter and struct.Struct(f"<{self.width}{letter}").pack)

    def array(self, values: Sequence[Any], rows: int) -> NDArray[Any]:
        """The array of values that lie row after row. None is a missing one where the datatype has such."""
        if self.pack_row is not None:
            try:  # numpy looks at every value of a list twice; this takes half the time
                raw = self.pack_row(*values) if rows == 1 else self._pack(values, rows)
            except (struct.error, OverflowError):  # a missing value, or one that does not fit
                pass
            else:
                return self.of_raw(raw, rows)
        return np.array(values, self.dtype).reshape((rows, *self.tail))

    def of_raw(self, raw: bytes, rows: int) -> NDArray[Any]:
        """The array of a raw tensor, which it shares and may not write to."""
        return np.ndarray((rows, *self.tail), self.dtype, raw)

    def _pack(self, values: Sequence[Any], rows: int) -> bytes:
        return struct.pack(f"<{rows * self.width}{self.letter}", *values)

    def shape_text(self) -> str:
        return str([-1, *self.tail])


@dataclass(slots=True, eq=False)
class Signature:
    """inputs and outputs by name, in the model's own order; outputs: datatype. Equal only to itself: requests
    are joined by it, so a variant keeps one object for as long as it takes the same.

    is_open: some input's row has no size known beforehand; raw_input: the only input, where a row of it may come as the
    bytes of so many FP32; template, frame_heads, forms, layouts: what `frames`, `plain` and `replies` remember of it.
    """

    inputs: dict[str, InputSpec]
    outputs: dict[str, TensorSpec]
    is_open: bool = field(init=False)
    raw_input: InputSpec | None = field(init=False)
    template: bytes | None = field(default=None, init=False)
    frame_heads: dict[int, bytes] = field(default_factory=dict, init=False)
    forms: dict[tuple[Any, ...], tuple[bytes, bytes]] = field(default_factory=dict, init=False)
    layouts: dict[Any, Any] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        specs = list(self.inputs.values())
        self.is_open = any(spec.is_open for spec in specs)
        self.raw_input = specs[0] if len(specs) == 1 and specs[0].datatype == "FP32" and not self.is_open else None

    def conflicts(self, other: "Signature") -> list[str]:
        """Inputs both have with different types or sizes, in words; none: the two can share requests."""
        shared = [(spec, other.inputs[name]) for name, spec in self.inputs.items() if name in other.inputs]
        return [
            f"{mine.name}: {mine.datatype}{mine.shape_text()} against {theirs.datatype}{theirs.shape_text()}"
            for mine, theirs in shared
            if (mine.datatype, mine.tail or (1,)) != (theirs.datatype, theirs.tail or (1,))
        ]


def from_profile(profile: Profile) -> Signature:
    return Signature(
        {f.name: InputSpec(f.name, f.datatype, tuple(f.shape[1:]), f.nullable) for f in profile.inputs},
        {o.name: TensorSpec(o.name, o.datatype, o.shape) for o in profile.outputs},
    )


def from_metadata(metadata: ModelMetadata) -> Signature:
    """Metadata says nothing of missing values, so none are allowed. Raises ValueError for an unknown datatype."""
    for spec in (*metadata.inputs, *metadata.outputs):
        if spec.datatype not in DTYPES:
            raise ValueError(f"{spec.name}: unknown datatype {spec.datatype!r}")
    return Signature(
        {s.name: InputSpec(s.name, s.datatype, tuple(s.shape[1:]), False) for s in metadata.inputs},
        {s.name: s for s in metadata.outputs},
    )
