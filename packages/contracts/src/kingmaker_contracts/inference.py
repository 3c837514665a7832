"""The Open Inference Protocol V2 as types: datatypes, tensors, requests, answers, metadata.

Source: Open Inference Protocol specification, REST, and Triton's binary tensor data extension.
Bodies are read and written in `tensors`, their tensors in `json_tensors` and `raw_tensors`.
"""

from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("<u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("<i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(object),
}
"""OIP datatype to numpy; little-endian, as the wire is. A BYTES array holds str (or None: missing)."""

FLOATS: Final = frozenset({"FP16", "FP32", "FP64"})
JSON_FORBIDDEN: Final = frozenset({"FP16"})
"""Datatypes with no agreed JSON form: only the binary extension carries them."""

BINARY_HEADER: Final = "inference-header-content-length"
BINARY_EXTENSION: Final = "binary_tensor_data"

Parameter = str | float | int | bool


class BadTensor(ValueError):
    """A request or answer that is not valid OIP V2; the text names the tensor, what was found and what was expected."""


class TensorSpec(msgspec.Struct, frozen=True):
    """One input or output as metadata declares it; -1 in shape is a dimension of any length."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(msgspec.Struct, frozen=True, omit_defaults=True):
    """Body of `GET /v2/models/{m}`."""

    name: str
    platform: str
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    versions: list[str] = []
    properties: dict[str, str] = {}


class Tensor(msgspec.Struct, frozen=True, eq=False):
    """A named array. shape equals array.shape; array.dtype equals DTYPES[datatype]."""

    name: str
    datatype: str
    array: NDArray[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape


@dataclass(slots=True, frozen=True)
class RequestedOutput:
    """An output a client asked for; binary None means the request's own default holds."""

    name: str
    binary: bool | None = None


@dataclass(slots=True, frozen=True)
class InferRequest:
    """A decoded infer call. outputs None: all of them."""

    inputs: list[Tensor]
    outputs: list[RequestedOutput] | None = None
    id: str | None = None
    parameters: dict[str, Parameter] = field(default_factory=dict)
    binary_output: bool = False

    def wants_binary(self, output: str) -> bool:
        """Whether this output goes out raw: its own setting wins over the request's."""
        for wanted in self.outputs or ():
            if wanted.name == output and wanted.binary is not None:
                return wanted.binary
        return self.binary_output


@dataclass(slots=True, frozen=True)
class InferResponse:
    """An infer answer before it is written."""

    model_name: str
    outputs: list[Tensor]
    model_version: str | None = None
    id: str | None = None
    parameters: dict[str, Parameter] = field(default_factory=dict)
