"""Rows of a client, checked against what the variants take: the one form every later step works with.

A request is checked against its target (the champion, or the variant it asked for), but may carry
inputs that only another variant knows: those are what a challenger with a new feature lives on. Every
refusal names the input, the row, what was found and what was expected, because its text is somebody's 400.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NoReturn

import msgspec
import numpy as np
from numpy.typing import NDArray

from kingmaker_contracts.inference import DTYPES, FLOATS, Tensor
from kingmaker_contracts.prediction_ids import MAX_ROW
from kingmaker_contracts.problems import Code, Problem
from kingmaker_gateway.signature import InputSpec, Signature

MAX_ROWS: Final = MAX_ROW + 1
_NOT_NUMBERS: Final = frozenset({"BYTES", "BOOL"})


@dataclass(slots=True, eq=False)
class Vocabulary:
    """What a request to one target may say.

    specs: every input some variant knows, the target's word first; required: the target's; order: the inputs an
    array row holds, the champion's order; extra: a feature no variant takes, but the split does; usual: decoders made
    for it, kept by the module of that name.
    """

    specs: dict[str, InputSpec]
    required: Signature
    order: tuple[InputSpec, ...]
    extra: str | None = None
    usual: Any = None


class Batch(msgspec.Struct, eq=False, gc=False):
    """Rows of one request. held: by input, see `arrays`; nulls: inputs that hold a missing value; extra: the values of
    the feature only the split knows.

    columns: values by input, in one plain list or tuple each, row after row; None when they came in another form. Lists
    of many requests make one array for less than each makes its own, so a usual request never has arrays unless
    somebody asks.
    packed: the one row of the only input some variant knows, as a raw tensor, in place of columns and arrays.
    specs: at least of every column, and of what is packed.
    is_whole: it has values of every input some variant knows and no missing one, out of a body that says nothing else.
    """

    rows: int
    held: Mapping[str, NDArray[Any]]
    nulls: frozenset[str]
    extra: NDArray[Any] | None = None
    columns: dict[str, Any] | None = None
    specs: dict[str, InputSpec] = {}
    is_whole: bool = False
    packed: bytes | None = None

    @property
    def names(self) -> Collection[str]:
        """The inputs it has."""
        if self.packed is not None:
            return self.specs
        return self.held if self.columns is None else self.columns

    @property
    def arrays(self) -> Mapping[str, NDArray[Any]]:
        """By input: shape (rows, *tail), dtype as the spec says."""
        if not self.held:
            if self.packed is not None:
                self.held = {name: spec.of_raw(self.packed, 1) for name, spec in self.specs.items()}
            elif self.columns is not None:
                self.held = {name: self.specs[name].array(values, self.rows) for name, values in self.columns.items()}
        return self.held

    def fits(self, signature: Signature) -> bool:
        """Whether a variant with this signature can answer: every input is there, null only where it may be."""
        names, nulls = self.names, self.nulls
        return all(name in names and (spec.nullable or name not in nulls) for name, spec in signature.inputs.items())


def of_lists(rows: int, columns: dict[str, list[Any]], specs: dict[str, InputSpec], nulls: frozenset[str]) -> Batch:
    """A batch of plain lists. specs: of every input some variant knows."""
    return Batch(rows, {}, nulls, None, columns, specs, not nulls and len(columns) == len(specs))


def vocabulary(target: Signature, champion: Signature, others: Sequence[Signature], sticky: str | None) -> Vocabulary:
    """target: what the request must satisfy; others: of every variant; sticky: the feature the split hashes."""
    specs = dict(target.inputs)
    for signature in (champion, *others):
        for name, spec in signature.inputs.items():
            known = specs.setdefault(name, spec)
            if spec.nullable and not known.nullable and name not in target.inputs:
                specs[name] = spec
    # (rows,) and (rows, 1) are the same column; all requests write it the same way, for they may travel together
    for signature in reversed((champion, *others)):
        for name, spec in signature.inputs.items():
            if specs[name].tail != spec.tail:
                specs[name] = replace(specs[name], tail=spec.tail)
    extra = sticky if sticky is not None and sticky not in specs else None
    return Vocabulary(specs, target, tuple(champion.inputs.values()), extra)


def build(tensors: list[Tensor], vocabulary: Vocabulary) -> Batch:
    """A batch from named tensors, as V2 sends them. Raises Problem."""
    arrays: dict[str, NDArray[Any]] = {}
    nulls: set[str] = set()
    extra: NDArray[Any] | None = None
    rows: int | None = None
    for tensor in tensors:
        spec = vocabulary.specs.get(tensor.name)
        if spec is None and tensor.name != vocabulary.extra:
            refuse_unknown(tensor.name, vocabulary)
        if not tensor.shape:
            refuse(f"input {tensor.name!r} has shape [], expected {spec.shape_text() if spec else '[-1]'}")
        if rows is None:
            rows = tensor.shape[0]
        elif tensor.shape[0] != rows:
            refuse(f"input {tensor.name!r} has {tensor.shape[0]} rows, input {tensors[0].name!r} has {rows}")
        if spec is None:
            extra = tensor.array
            continue
        array = _cast(_shaped(tensor, spec), tensor.datatype, spec)
        if _null_row(array, spec) is not None:
            _allow_null(array, spec)
            nulls.add(spec.name)
        arrays[spec.name] = array
    return finish(rows or 0, arrays, frozenset(nulls), extra, vocabulary)


def finish(
    rows: int,
    arrays: dict[str, NDArray[Any]],
    nulls: frozenset[str],
    extra: NDArray[Any] | None,
    vocabulary: Vocabulary,
) -> Batch:
    """The checks on the whole: some rows, not too many, nothing the target needs left out. Raises Problem."""
    if rows == 0:
        refuse("the batch is empty, expected at least one row")
    if rows > MAX_ROWS:
        refuse(f"the batch has {rows} rows, expected at most {MAX_ROWS}")
    missing = [name for name in vocabulary.required.inputs if name not in arrays]
    if missing:
        refuse(f"missing input{'s' * (len(missing) > 1)} {_names(missing)}; found {_names(arrays)}")
    return Batch(rows, arrays, nulls, extra)


def sticky_value(batch: Batch, feature: str) -> str | None:
    """The key of a request whose split goes by a feature; None when it has none. Raises Problem (mixed_keys)."""
    array = batch.arrays.get(feature, batch.extra)
    if array is None:
        return None
    if array.size != batch.rows:
        refuse(f"input {feature!r} is the sticky key, expected one value a row, found {array.size // batch.rows}")
    flat = array.ravel()
    keys = {_key(value) for value in (flat.tolist() if flat.size == 1 or (flat != flat[0]).any() else [flat.item(0)])}
    if len(keys) > 1:
        raise Problem(
            Code.MIXED_KEYS,
            f"rows carry {len(keys)} different values of the sticky feature {feature!r}; send one request a key",
        )
    return keys.pop()


def refuse(message: str) -> NoReturn:
    raise Problem(Code.BAD_INPUT, message)


def refuse_unknown(name: str, vocabulary: Vocabulary) -> NoReturn:
    refuse(f"unknown input {name[:80]!r}; known inputs: {_names(vocabulary.specs)}")


def shown(value: Any) -> str:
    """A JSON value in an error text: short, and with its kind."""
    if value is None:
        return "null"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the string {value[:60]!r}"
    return str(value)[:60]


def _names(names: Iterable[str] | Mapping[str, Any]) -> str:
    return ", ".join(repr(name) for name in names) or "none"


def _key(value: Any) -> str | None:
    if value is None or value != value:  # noqa: PLR0124 - NaN
        return None
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) or None


def _shaped(tensor: Tensor, spec: InputSpec) -> NDArray[Any]:
    found = tensor.shape[1:]
    if len(found) == len(spec.tail) and all(want in (-1, have) for want, have in zip(spec.tail, found, strict=True)):
        return tensor.array
    if not spec.is_open and spec.width == 1 and found in ((), (1,)):  # a column may come as [n] or as [n, 1]
        return tensor.array.reshape((tensor.shape[0], *spec.tail))
    refuse(f"input {spec.name!r} has shape {list(tensor.shape)}, expected {spec.shape_text()}")


def _cast(array: NDArray[Any], found: str, spec: InputSpec) -> NDArray[Any]:
    """The array in the signature's datatype. Numbers pass from one numeric type to another when nothing is lost
    but a float's last digits; everything else is a mistake of the client."""
    if found == spec.datatype:
        return array
    if found in _NOT_NUMBERS or spec.datatype in _NOT_NUMBERS:
        refuse(f"input {spec.name!r} has datatype {found}, expected {spec.datatype}")
    target = DTYPES[spec.datatype]
    if spec.datatype in FLOATS:
        with np.errstate(over="ignore"):
            cast = array.astype(target)
        _refuse_where(np.isinf(cast), array, spec)
        return cast
    if found in FLOATS:
        _refuse_where(~(np.floor(array) == array), array, spec, f"a whole number ({spec.datatype})")
    info = np.iinfo(target)
    # a float beside the maximum of INT64 or UINT64 is the next power of two, which no longer fits
    beyond = array >= float(info.max) + 1 if found in FLOATS else array > info.max
    _refuse_where((array < info.min) | beyond, array, spec)
    return array.astype(target)


def _refuse_where(bad: NDArray[np.bool_], array: NDArray[Any], spec: InputSpec, expected: str | None = None) -> None:
    if bad.any():
        row = int(np.argwhere(bad)[0][0])
        refuse(
            f"input {spec.name!r}, row {row}: found {array[bad].flat[0]}, "
            f"expected {expected or f'a value that fits into {spec.datatype}'}"
        )


def _null_row(array: NDArray[Any], spec: InputSpec) -> int | None:
    """The first row with a missing value."""
    if spec.datatype in FLOATS:
        holes = np.isnan(array)
    elif spec.datatype == "BYTES":
        holes = np.array([value is None for value in array.ravel()], np.bool_).reshape(array.shape)
    else:
        return None
    return int(np.argwhere(holes)[0][0]) if holes.any() else None


def _allow_null(array: NDArray[Any], spec: InputSpec) -> None:
    if not spec.nullable:
        refuse(
            f"input {spec.name!r}, row {_null_row(array, spec)}: found a missing value (null or NaN), "
            f"expected {'a string' if spec.datatype == 'BYTES' else 'a number'} ({spec.datatype}); it is not nullable"
        )
