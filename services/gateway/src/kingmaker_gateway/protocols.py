"""The two ways a client may speak, behind one shape the router works with: V1 rows and V2 tensors.

The commonest bodies are read by decoders made for one vocabulary; whatever they do not take, right or wrong, goes
to the general readers, which alone word refusals.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, Protocol, cast

import msgspec

from kingmaker_contracts.inference import BINARY_HEADER, InferRequest, TensorSpec
from kingmaker_gateway import batch, codec, plain, rows, usual
from kingmaker_gateway.batch import Batch, Vocabulary
from kingmaker_gateway.codec import Encoded
from kingmaker_gateway.frames import Frame, Slice

_write: Final = msgspec.json.Encoder().encode


class Call(Protocol):
    """A decoded request. batch: timeout_s: the client's own limit; wanted: outputs it asked for, None for all."""

    batch: Batch
    timeout_s: float | None
    wanted: list[str] | None

    def encode(self, model: str, version: str, prediction_id: bytes, answer: Slice) -> Encoded:
        """The body of the answer. prediction_id: its text in ASCII."""
        ...


Reader = Callable[[bytes], Call]
"""A body into a call. Raises Problem."""
Language = Callable[[Mapping[str, str], Vocabulary], Reader]
"""How bodies are read that come with these headers (names in lower case), when this may be said. Raises Problem."""


class V2Call:
    """`/v2/models/{m}/infer`."""

    __slots__ = ("_request", "batch", "timeout_s", "wanted")

    def __init__(self, request: InferRequest, vocabulary: Vocabulary) -> None:
        codec.check_wanted(request, vocabulary.required.outputs)
        self.batch = batch.build(request.inputs, vocabulary)
        self.timeout_s = codec.timeout_s(request)
        self.wanted = None if request.outputs is None else [output.name for output in request.outputs]
        self._request = request

    def encode(self, model: str, version: str, prediction_id: bytes, answer: Slice) -> Encoded:
        return codec.encode(self._request, model, version, prediction_id.decode(), answer)


class PlainV2Call(msgspec.Struct, eq=False, gc=False):
    """The same, when the client sent nothing but tensors in JSON, and wants all outputs so. id: the client's own."""

    batch: Batch
    id: str | None
    timeout_s: float | None = None
    wanted: list[str] | None = None

    def encode(self, model: str, version: str, prediction_id: bytes, answer: Slice) -> Encoded:
        id = b'"%b"' % prediction_id if self.id is None else _write(self.id)
        form = answer.frame.v2_form
        if form is not None and answer.rows == 1:  # as most are; plain.v2, written out
            return form.one % (id, *form.rows[answer.first]), None
        body = plain.v2(model, version, id, answer)
        if body is None:
            return codec.encode(InferRequest([], None, self.id), model, version, prediction_id.decode(), answer)
        return body, None


class V1Call(msgspec.Struct, eq=False, gc=False):
    """`/v1/models/{m}:predict`."""

    batch: Batch
    timeout_s: float | None = None
    wanted: list[str] | None = None

    def encode(self, model: str, version: str, prediction_id: bytes, answer: Slice) -> Encoded:  # noqa: ARG002
        return plain.v1(answer) or rows.encode(answer), None


def encode_together(calls: list[Call], model: str, version: str, ids: list[bytes], frame: Frame) -> list[bytes] | None:
    """The answers to usual calls of one row each, who share a whole frame in this order: what `encode` gives each of
    them. ids: what those are named who brought no id of their own. None: they are not all so."""
    kinds = set(map(type, calls))
    if frame.rows != len(calls) or len(kinds) != 1:
        return None
    if PlainV2Call in kinds:
        asked = zip(cast(list[PlainV2Call], calls), ids, strict=True)
        texts = (b'"%b"' % given if call.id is None else _write(call.id) for call, given in asked)
        return plain.v2_by_row(model, version, texts, frame)
    return plain.v1_by_row(frame) if V1Call in kinds else None


def v2(headers: Mapping[str, str], vocabulary: Vocabulary) -> Reader:
    length = headers.get(BINARY_HEADER)

    def read(body: bytes) -> Call:
        inputs = vocabulary.required.inputs.values() if length == "0" else ()  # a body without a JSON part names none
        specs = [TensorSpec(spec.name, spec.datatype, [-1, *spec.tail]) for spec in inputs]
        return V2Call(codec.decode(body, length, specs), vocabulary)

    if length is not None:
        return read
    codec.check_is_json(headers.get("content-type", ""))
    return usual.v2_reader(vocabulary, PlainV2Call, read)


def v1(headers: Mapping[str, str], vocabulary: Vocabulary) -> Reader:  # noqa: ARG001
    def read(body: bytes) -> Call:
        return V1Call(usual.decode_v1(body, vocabulary) or rows.decode(body, vocabulary))

    return read


def offers(outputs: Iterable[str], wanted: list[str] | None) -> bool:
    """Whether a variant with these outputs has all that were asked for."""
    return wanted is None or set(wanted) <= set(outputs)
