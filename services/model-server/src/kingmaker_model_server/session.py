"""One ONNX model, ready to run: its signature in OIP words, and answers for rows.

Rows run in chunks of at most CHUNK: a row costs tree ensembles 0.9 us in a batch of 32 and 1.4 us in one
of 128, because the larger batch leaves the cache. Sequential execution and no spinning: pods share cores,
and a spinning thread takes its quota from the event loop beside it.
"""

import os
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as _state

from kingmaker_contracts.inference import TensorSpec
from kingmaker_model_server.errors import BadModel, ModelFailed

CHUNK: Final = 64
_FATAL_ONLY: Final = 4  # its error lines quote values of the rows; ours go to the caller alone

Feed = dict[str, NDArray[Any]]

_DATATYPES: Final = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}
_RUNTIME_ERRORS: Final[tuple[type[Exception], ...]] = (
    RuntimeError,
    *[kind for kind in vars(_state).values() if isinstance(kind, type) and issubclass(kind, Exception)],
)
"""ONNX Runtime's own exceptions; they share no base class but Exception. A bound run raises Python's."""
_PREFIX: Final = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")


class OnnxModel:
    """A loaded model.

    inputs, outputs: as metadata tells them, -1 for a dimension of any length; row_wise: every tensor's
    first dimension counts rows, so that rows can be joined, split and answered one by one.
    """

    def __init__(self, model: bytes, where: str, threads: int) -> None:
        """model: the file's bytes; where: names it in errors. Raises BadModel."""
        try:
            self._session = ort.InferenceSession(model, _options(threads), providers=["CPUExecutionProvider"])
        except _RUNTIME_ERRORS as error:
            raise BadModel(f"{where}: not a model ONNX Runtime can load: {_text(error)}") from None
        self.inputs = [_spec(arg, "input", where) for arg in self._session.get_inputs()]
        self.outputs = [_spec(arg, "output", where) for arg in self._session.get_outputs()]
        if not self.inputs:
            raise BadModel(f"{where}: the model has no inputs")
        if not self.outputs:
            raise BadModel(f"{where}: the model has no outputs")
        self.row_wise = all(spec.shape[:1] == [-1] for spec in (*self.inputs, *self.outputs))
        self._always_counted = True  # in every run observed

    def observe(self, outputs: Sequence[NDArray[Any]], rows: int) -> None:
        """Learn from all outputs of a warm-up run what the file leaves open: shapes it does not declare.

        Once for every warm-up batch, before the model is served.
        """
        for i, (spec, array) in enumerate(zip(self.outputs, outputs, strict=True)):
            if not spec.shape and array.ndim:
                self.outputs[i] = TensorSpec(spec.name, spec.datatype, [-1, *array.shape[1:]])
        # a first dimension of a fixed length may be as long as one of the batches by chance
        self._always_counted &= all(array.ndim and array.shape[0] == rows for array in outputs)
        self.row_wise = self._always_counted and all(spec.shape[:1] == [-1] for spec in self.inputs)

    def run(self, outputs: list[str], feed: Feed) -> list[NDArray[Any]]:
        """The named outputs for a feed that fits `inputs`. Raises ModelFailed."""
        rows = len(feed[self.inputs[0].name]) if self.row_wise else 0
        try:
            if rows <= CHUNK:
                return self._run(outputs, feed)
            parts = [
                self._run(outputs, {name: array[start : start + CHUNK] for name, array in feed.items()})
                for start in range(0, rows, CHUNK)
            ]
        except _RUNTIME_ERRORS as error:
            raise ModelFailed(_text(error)) from None
        return [np.concatenate(part) for part in zip(*parts, strict=True)]

    def bind(self, inputs: Sequence[NDArray[Any]], outputs: Sequence[NDArray[Any]]) -> Callable[[], None]:
        """A run from and into these arrays, one for each input and output, which whoever binds them keeps. It raises
        ModelFailed."""
        binding = self._session.io_binding()
        for spec, array in zip(self.inputs, inputs, strict=True):
            binding.bind_input(spec.name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        for spec, array in zip(self.outputs, outputs, strict=True):
            binding.bind_output(spec.name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        # options that stay: to make the usual ones anew takes a tenth of a run of one row
        start, options = self._session.run_with_iobinding, ort.RunOptions()
        options.add_run_config_entry("gpu_graph_id", "-1")  # no kept graph, which it otherwise asks about at some cost

        def run() -> None:
            try:
                start(binding, options)
            except _RUNTIME_ERRORS as error:
                raise ModelFailed(_text(error)) from None

        return run

    def _run(self, outputs: list[str], feed: Feed) -> list[NDArray[Any]]:
        answer: list[NDArray[Any]] = self._session.run(outputs, feed)
        return answer


def _options(threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _FATAL_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # weights in other files are looked for where none can be: nobody has verified those in the working directory
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    return options


def _spec(arg: Any, what: str, where: str) -> TensorSpec:
    datatype = _DATATYPES.get(arg.type)
    if datatype is None:
        hint = ""
        if arg.type.startswith(("seq(", "map(")):
            hint = '; convert the classifier with options {"zipmap": False}'
        raise BadModel(f"{where}: {what} {arg.name!r} is {arg.type}, which the protocol cannot carry{hint}")
    return TensorSpec(arg.name, datatype, [size if isinstance(size, int) else -1 for size in arg.shape])


def _text(error: Exception) -> str:
    return _PREFIX.sub("", str(error)).strip().split("\n", 1)[0][:300]
