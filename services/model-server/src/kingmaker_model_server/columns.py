"""The values of one input, from several requests, as the one array a run takes.

A request read from JSON brings plain lists: sixty-four requests of twenty columns would otherwise make 1280 arrays of
one number each, which costs more than the inference. Raw tensors come as arrays and are joined as such.
"""

import math
import struct
from array import array
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from kingmaker_contracts.inference import DTYPES, TensorSpec

Values = NDArray[Any] | list[Any] | bytes
"""One input of one request, row-major: an array of the model's datatype, as many JSON values, or the numbers' bytes."""

LISTED: Final = frozenset({"FP32", "FP64", "BYTES", "BOOL"})
"""Datatypes whose JSON values may stay a list: none of them can fail to become an array."""


class Column:
    """One input of a model."""

    def __init__(self, spec: TensorSpec) -> None:
        self._is_single = spec.datatype == "FP32"
        self._dtype = DTYPES[spec.datatype]
        self._shape = (-1, *spec.shape[1:])
        self.width = math.prod(spec.shape[1:])

    def array(self, values: Sequence[Any]) -> NDArray[Any]:
        """Values for whole rows as an array; a number FP32 cannot hold becomes an infinity. Raises OverflowError."""
        if self._is_single and values:
            try:
                raw = struct.pack(f"<{len(values)}f", *values)  # half of what numpy takes for a list
            except OverflowError:
                return np.frombuffer(array("f", values), np.float32).reshape(self._shape)
            return np.frombuffer(raw, np.float32).reshape(self._shape)
        return np.array(values, self._dtype).reshape(self._shape)

    def array_of(self, part: Values) -> NDArray[Any]:
        """What a request brought, as an array."""
        if isinstance(part, bytes):
            return np.frombuffer(part, self._dtype).reshape(self._shape)
        return self.array(part) if isinstance(part, list) else part

    def joined(self, parts: Sequence[Values]) -> NDArray[Any]:
        """The parts one behind the other."""
        if set(map(type, parts)) == {list}:
            return self.array(list(chain.from_iterable(cast("Sequence[list[Any]]", parts))))
        arrays = [self.array_of(part) for part in parts]
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
