"""What a tensor's datatype and shape allow, before its elements are looked at."""

import math
from typing import Any, Final

import numpy as np

from kingmaker_contracts.inference import DTYPES, BadTensor

_MAX_DIMENSIONS: Final = 8
_MAX_ELEMENTS: Final = 2**31 - 1


def dtype_of(name: str, datatype: str) -> np.dtype[Any]:
    """Raises BadTensor for a datatype the protocol does not know."""
    try:
        return DTYPES[datatype]
    except KeyError:
        raise BadTensor(f"{name!r}: unknown datatype {datatype!r}, expected one of {', '.join(DTYPES)}") from None


def count_of(name: str, shape: list[int]) -> int:
    """Elements of a shape. Raises BadTensor for one that is negative or too large."""
    if any(size < 0 for size in shape):
        raise BadTensor(f"{name!r}: shape {shape} has a negative dimension")
    if len(shape) > _MAX_DIMENSIONS or math.prod(max(1, size) for size in shape) > _MAX_ELEMENTS:
        raise BadTensor(f"{name!r}: shape {shape} is beyond {_MAX_DIMENSIONS} dimensions or {_MAX_ELEMENTS} elements")
    return math.prod(shape)
