"""What the model takes: does a request's tensor fit, and does the profile belong to the model.

A tensor of another number type is taken when every value survives: whole numbers that the wanted type
holds exactly, floats of another width (FP64 is rounded to FP32, as a JSON number is). Anything else is
refused with the input's name, what was found and what was expected.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kingmaker_contracts.inference import DTYPES, FLOATS, Tensor, TensorSpec
from kingmaker_contracts.problems import Code, Problem
from kingmaker_contracts.profile import Profile
from kingmaker_model_server.errors import BadModel
from kingmaker_model_server.session import Feed

_EXACT_BITS: Final = {"FP16": 11, "FP32": 24, "FP64": 53}


def refuse(message: str) -> Problem:
    """A 400."""
    return Problem(Code.BAD_INPUT, message)


class Signature:
    """The inputs of one model, and which of them may miss a value."""

    def __init__(self, inputs: list[TensorSpec], profile: Profile | None, row_wise: bool) -> None:
        self.inputs = inputs
        self.by_name = {spec.name: spec for spec in inputs}
        self.row_wise = row_wise
        if profile is None:
            self.nullable = frozenset(spec.name for spec in inputs if spec.datatype in FLOATS)
        else:
            self.nullable = frozenset(feature.name for feature in profile.inputs if feature.nullable)

    def feed(self, tensors: list[Tensor]) -> Feed:
        """Arrays for the model, one an input. Raises Problem (bad_input)."""
        given = {tensor.name: tensor for tensor in tensors}
        for name in given:
            if name not in self.by_name:
                raise refuse(f"unknown input {name!r}; the model takes {_names(self.inputs)}")
        missing = [spec for spec in self.inputs if spec.name not in given]
        if missing:
            raise refuse(f"input {_names(missing)} is missing; the model takes {_names(self.inputs)}")
        feed = {spec.name: self.array(given[spec.name], spec) for spec in self.inputs}
        self._check_rows(feed)
        return feed

    def array(self, tensor: Tensor, spec: TensorSpec) -> NDArray[Any]:
        """The array of one input. Raises Problem (bad_input)."""
        shape = tensor.shape
        if len(shape) != len(spec.shape) or any(
            want not in (-1, is_) for want, is_ in zip(spec.shape, shape, strict=True)
        ):
            raise refuse(f"input {spec.name!r}: shape is {list(shape)}, expected {spec.shape}")
        if 0 in shape:
            raise refuse(f"input {spec.name!r}: shape {list(shape)} holds no rows, expected at least one")
        array = tensor.array
        if tensor.datatype != spec.datatype:
            array = _converted(array, tensor.datatype, spec)
        if spec.datatype == "BYTES":
            return self._filled(array, spec)
        if spec.datatype in FLOATS and spec.name not in self.nullable:
            absent = np.isnan(array)
            if absent.any():
                raise self.missing(spec.name, int(np.argwhere(absent)[0][0]) if array.ndim else 0)
        return array

    def missing(self, name: str, row: int) -> Problem:
        """The refusal of a missing value."""
        allowed = ", ".join(sorted(self.nullable)) or "none"
        return refuse(f"input {name!r}: row {row} has no value; inputs that may miss one: {allowed}")

    def _filled(self, array: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
        """Strings with missing ones as "", as the model was trained to see them."""
        absent: NDArray[np.bool_] = array == np.array(None, dtype=object)
        if not absent.any():
            return array
        if spec.name not in self.nullable:
            raise self.missing(spec.name, int(np.argwhere(absent)[0][0]) if array.ndim else 0)
        filled = array.copy()
        filled[absent] = ""
        return filled

    def _check_rows(self, feed: Feed) -> None:
        if not self.row_wise:
            return
        first = self.inputs[0].name
        rows = len(feed[first])
        for name, array in feed.items():
            if len(array) != rows:
                raise refuse(f"input {name!r} has {len(array)} rows, but {first!r} has {rows}")


def check_profile(profile: Profile, inputs: list[TensorSpec], outputs: list[TensorSpec], where: str) -> None:
    """Raises BadModel when profile and model do not tell of the same tensors."""
    for what, told, real in (("inputs", profile.inputs, inputs), ("outputs", profile.outputs, outputs)):
        found = {item.name: (item.datatype, item.shape) for item in told}
        expected = {spec.name: (spec.datatype, spec.shape) for spec in real}
        names = found.keys() | expected.keys() if what == "inputs" else found.keys()  # an untold output hurts nobody
        for name in sorted(names):
            if name not in found or name not in expected:
                side = "the model has" if name in found else "the profile has"
                raise BadModel(f"{where}: {what}: {side} no {name!r}; the profile belongs to another model")
            if found[name][0] != expected[name][0] or not _compatible(found[name][1], expected[name][1]):
                raise BadModel(
                    f"{where}: {what}: {name!r} is {_told(found[name])}, in the model {_told(expected[name])}"
                )


def _converted(array: NDArray[Any], datatype: str, spec: TensorSpec) -> NDArray[Any]:
    target = DTYPES[spec.datatype]
    if not {datatype, spec.datatype}.isdisjoint({"BYTES", "BOOL"}):
        raise refuse(f"input {spec.name!r}: datatype is {datatype}, expected {spec.datatype}")
    if datatype in FLOATS and spec.datatype in FLOATS:
        with np.errstate(over="ignore"):
            converted = array.astype(target)
        fits = not np.isinf(converted).any()
    elif datatype in FLOATS:
        fits = bool(np.isfinite(array).all() and (array == np.trunc(array)).all()) and _within(array, target)
        converted = array.astype(target) if fits else array
    elif spec.datatype in FLOATS:
        converted = array.astype(target)
        limit = 2 ** _EXACT_BITS[spec.datatype]
        fits = int(array.max()) <= limit and int(array.min()) >= -limit
    else:
        fits = _within(array, target)
        converted = array.astype(target) if fits else array
    if not fits:
        raise refuse(f"input {spec.name!r}: datatype is {datatype}, and not all values fit {spec.datatype} exactly")
    return converted


def _within(array: NDArray[Any], target: "np.dtype[Any]") -> bool:
    bounds = np.iinfo(target)
    return int(array.min()) >= bounds.min and int(array.max()) <= bounds.max


def _compatible(told: list[int], real: list[int]) -> bool:
    """Equal but for dimensions the model leaves open."""
    return not real or (len(told) == len(real) and all(-1 in (a, b) or a == b for a, b in zip(told, real, strict=True)))


def _told(pair: tuple[str, list[int]]) -> str:
    return f"{pair[0]} {pair[1]}"


def _names(specs: list[TensorSpec]) -> str:
    return ", ".join(f"{spec.name!r} ({spec.datatype} {spec.shape})" for spec in specs)
