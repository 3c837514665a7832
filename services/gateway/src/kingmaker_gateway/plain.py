"""Answers in plain JSON, worded for a whole frame at once and cut into each request's own.

The values of an output are written in one call for all rows of a frame; a request then only fills its id and its rows'
texts into a form that is made once. A lone row's few values are written in one call for all outputs, each into a place
of its own. What comes out is what `codec.encode` and `rows.encode` write, byte for byte. Pure.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from kingmaker_contracts.inference import Tensor
from kingmaker_gateway.frames import Frame, Slice

_write: Final[Callable[[Any], bytes]] = msgspec.json.Encoder().encode

_OTHERS_WORK: Final = frozenset({"FP16", "BYTES"})
"""Datatypes whose JSON is more than the values as they are."""


_V1: Final = "v1"
"""Where the only form of V1 is kept; those of V2 are kept by model and version."""


class Form(msgspec.Struct, eq=False):
    """one: the body of one row, with a place for every text of `columns`; many: the same for several rows, each output
    also has a place for their number; columns: by output, the text of each row of the frame; rows: the same by row."""

    one: bytes
    many: bytes
    columns: list[list[bytes]]
    rows: list[tuple[bytes, ...]]


def v2(model: str, version: str, id: bytes, answer: Slice) -> bytes | None:
    """A V2 answer with all outputs. id: as JSON. None: not an answer of this kind."""
    frame = answer.frame
    if frame.values is not None:
        lone: bytes | None = frame.forms.get((model, version))
        if lone is None:
            lone = _v2_body(model, version, frame.outputs, b"1", _places_of_values(frame.outputs))
            _keep(frame.forms, (model, version), lone)
        return lone % (id, *_texts(frame.values))
    form = _v2_form(model, version, frame)
    if form is None:
        return None
    first, rows = answer.first, answer.rows
    if rows == 1:
        return form.one % (id, *form.rows[first])
    values: list[Any] = [id]
    for column in form.columns:
        values += (rows, b",".join(column[first : first + rows]))
    return form.many % tuple(values)


def v2_by_row(model: str, version: str, ids: Iterable[bytes], frame: Frame) -> list[bytes] | None:
    """V2 answers of one row each, for a whole frame. ids: as JSON; None: not answers of this kind."""
    form = _v2_form(model, version, frame)
    return None if form is None else list(map(form.one.__mod__, zip(ids, *form.columns, strict=True)))


def v1(answer: Slice) -> bytes | None:
    """A V1 answer. None: not an answer of this kind."""
    frame = answer.frame
    if frame.values is not None:
        lone: bytes | None = frame.forms.get(_V1)
        if lone is not None:
            return lone % tuple(_texts(frame.values))
    form = _v1_form(frame)
    if form is None:
        return None
    first, rows = answer.first, answer.rows
    if rows == 1:
        return form.one % form.rows[first]
    texts = [form.many % texts for texts in form.rows[first : first + rows]]
    return b'{"predictions":[' + b",".join(texts) + b"]}"


def v1_by_row(frame: Frame) -> list[bytes] | None:
    """V1 answers of one row each, for a whole frame. None: not answers of this kind."""
    form = _v1_form(frame)
    return None if form is None else list(map(form.one.__mod__, form.rows))


def _v2_form(model: str, version: str, frame: Frame) -> Form | None:
    form: Form | None = frame.v2_form
    if form is None:
        columns = _columns(frame)
        if columns is None:
            return None
        form = frame.v2_form = Form(*_v2_forms(model, version, frame), columns, _by_row(columns, frame.rows))
    return form


def _v1_form(frame: Frame) -> Form | None:
    form: Form | None = frame.v1_form
    if form is None:
        columns = _columns(frame)
        if columns is None or any(tensor.array.ndim > 2 for tensor in frame.outputs):
            return None
        if frame.values is not None:
            alone = _v1_row(frame.outputs, _places_of_values(frame.outputs))
            _keep(frame.forms, _V1, b'{"predictions":[' + alone + b"]}")
        row = _v1_row(frame.outputs, [b"%b"] * len(columns))
        one = b'{"predictions":[' + row + b"]}"
        form = frame.v1_form = Form(one, row, columns, _by_row(columns, frame.rows))
    return form


def _texts(values: tuple[Any, ...]) -> list[bytes]:
    """Of each number by itself."""
    return _write(values)[1:-1].split(b",")


def _by_row(columns: list[list[bytes]], rows: int) -> list[tuple[bytes, ...]]:
    return list(zip(*columns, strict=True)) if columns else [()] * rows


def _columns(frame: Frame) -> list[list[bytes]] | None:
    """The text of each row of each output, the brackets of a row left out."""
    columns = []
    for tensor in frame.outputs:
        array = tensor.array
        if tensor.datatype in _OTHERS_WORK or not array.size:
            return None
        if array.ndim == 1:
            columns.append(_write(array.tolist())[1:-1].split(b","))
        else:
            rows = array if array.ndim == 2 else array.reshape((frame.rows, -1))
            columns.append(_write(rows.tolist())[2:-2].split(b"],["))
    return columns


def _v2_forms(model: str, version: str, frame: Frame) -> tuple[bytes, bytes]:
    known = frame.signature.forms
    key = (model, version, *[tensor.shape[1:] for tensor in frame.outputs])
    forms = known.get(key)
    if forms is None:
        places = [b"%b"] * len(frame.outputs)
        one = _v2_body(model, version, frame.outputs, b"1", places)
        forms = (one, _v2_body(model, version, frame.outputs, b"%d", places))
        _keep(known, key, forms)
    return forms


_MOST_FORMS: Final = 64
"""Of one signature, or of replies laid out alike; more than one a version needs shapes that differ from answer to
answer."""


def _keep(known: dict[Any, Any], key: Any, form: Any) -> None:
    if len(known) >= _MOST_FORMS:
        known.clear()
    known[key] = form


def _places_of_values(outputs: Sequence[Tensor]) -> list[bytes]:
    """For each output, a place for every value of a row."""
    return [b",".join([b"%b"] * tensor.array.size) for tensor in outputs]


def _v2_body(model: str, version: str, outputs: Sequence[Tensor], rows: bytes, places: list[bytes]) -> bytes:
    """With a place for the id. rows: their number, or a place for it; places: for the values of each output."""
    words = b",".join([_v2_output(tensor, rows, place) for tensor, place in zip(outputs, places, strict=True)])
    named = b'{"model_name":%b,"model_version":%b,"id":%%b,' % (_quoted(model), _quoted(version))
    return b'%b"outputs":[%b]}' % (named, words)


def _v2_output(tensor: Tensor, rows: bytes, place: bytes) -> bytes:
    shape = b",".join([rows, *[b"%d" % size for size in tensor.shape[1:]]])
    return b'{"name":%b,"shape":[%b],"datatype":"%b","data":[%b]}' % (
        _quoted(tensor.name),
        shape,
        tensor.datatype.encode(),
        place,
    )


def _v1_row(outputs: Sequence[Tensor], places: list[bytes]) -> bytes:
    """places: for the values of each output."""
    values = [
        place if tensor.array.ndim == 1 else b"[%b]" % place for tensor, place in zip(outputs, places, strict=True)
    ]
    if len(outputs) == 1:
        return values[0]
    names = [_quoted(tensor.name) for tensor in outputs]
    return b"{%b}" % b",".join([b"%b:%b" % pair for pair in zip(names, values, strict=True)])


def _quoted(text: str) -> bytes:
    """As JSON, fit for a form."""
    return _write(text).replace(b"%", b"%%")
