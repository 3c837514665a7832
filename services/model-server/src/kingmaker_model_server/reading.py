"""From bytes to a job: the quick reader when the request is as usual, else the strict one with its words."""

from collections.abc import Callable
from typing import Any, Final

from kingmaker_contracts import tensors
from kingmaker_contracts.inference import (
    BINARY_HEADER,
    JSON_FORBIDDEN,
    BadTensor,
    InferRequest,
    ModelMetadata,
    RequestedOutput,
    TensorSpec,
)
from kingmaker_contracts.problems import Code, Problem
from kingmaker_model_server import invocations, media, rows, typed, typed_rows
from kingmaker_model_server.answers import Ids, InferWriter, PredictWriter, Writer, id_text
from kingmaker_model_server.invocation_answers import ByOutputWriter, CsvWriter, JsonLinesWriter
from kingmaker_model_server.job import Job, Kind
from kingmaker_model_server.layouts import Layout, Layouts
from kingmaker_model_server.media import Content, Media
from kingmaker_model_server.session import Feed
from kingmaker_model_server.signature import Signature, refuse
from kingmaker_model_server.typed import Asked, Read

HeaderOf = Callable[[bytes], bytes | None]
"""The first value of a request header; the name in lower case."""

_BINARY_HEADER: Final = BINARY_HEADER.encode()
_KNOWN_WRITERS: Final = 64


class Reader:
    """Reads the requests of one model. Every method raises Problem or BadTensor for what cannot be answered."""

    def __init__(self, signature: Signature, metadata: ModelMetadata, version: str) -> None:
        self._signature = signature
        self._outputs = metadata.outputs
        self._name = metadata.name
        self._version = version
        self._ids = Ids()
        self._typed = typed.reader_of(signature)
        self._typed_rows = typed_rows.reader_of(signature)
        self._has_open_rows = any(-1 in spec.shape[1:] for spec in signature.inputs)
        self._predict_writer = PredictWriter(metadata.outputs)
        self._by_output_writer = ByOutputWriter(metadata.outputs)
        self._invocation_writers: dict[Media, Writer] = {
            Media.JSON: self._predict_writer,
            Media.CSV: CsvWriter(metadata.outputs),
            Media.JSON_LINES: JsonLinesWriter(metadata.outputs),
        }
        self._writers: dict[Asked, InferWriter] = {}
        self._layouts = Layouts()

    def infer(self, length: int | None, body: bytes) -> Job:
        """A V2 request. length: of the JSON part, see `header_length`."""
        if length is not None:
            layout = self._layouts.get(body[:length])
            if layout is not None and len(body) == layout.size:
                places = layout.places
                # one tensor, as mostly: a call less
                values: list[Any] = [body[places[0]]] if len(places) == 1 else [body[place] for place in places]
                request_id = layout.request_id or self._ids.next()
                return Job(values, layout.rows, (), layout.writer, request_id, (self._infer_strictly, length, body))
        return self._infer_anew(length, body)

    def _infer_anew(self, length: int | None, body: bytes) -> Job:
        """One whose JSON part is not remembered."""
        read = None if self._typed is None else self._typed.read(body, length)
        if read is None:
            return self._infer_strictly(length, body)
        is_wanted = length is not None and self._layouts.is_wanted(body[:length], body)
        writer = self._writers.get(read.asked)
        if writer is None:
            return self._infer_strictly(length, body)
        if length is not None and is_wanted:
            self._remember(length, body, read, writer)
        request_id = self._ids.next() if read.request_id is None else id_text(read.request_id)
        return Job(read.values, read.rows, (), writer, request_id, (self._infer_strictly, length, body))

    def _remember(self, length: int, body: bytes, read: Read, writer: Writer) -> None:
        places = None if self._typed is None else self._typed.places(read, length)
        if places is not None:
            request_id = None if read.request_id is None else id_text(read.request_id)
            self._layouts.keep(body[:length], Layout(places, len(body), read.rows, writer, request_id))

    def predict(self, body: bytes) -> Job:
        """A V1 request."""
        read = None if self._typed_rows is None else self._typed_rows.read(body)
        if read is None:
            return self._predict_strictly(body)
        values, count = read
        return Job(values, count, (), self._predict_writer, b"", (self._predict_strictly, body))

    def invoke(self, header: HeaderOf, body: bytes) -> Job:
        """A request of another platform: `/invocations`, or the predict route of Vertex AI."""
        content = media.content_of(header(b"content-type"))
        answer = media.answer_of(header(b"accept"))
        read = None
        if content.media is Media.JSON and self._typed_rows is not None:
            read = self._typed_rows.read(body)  # instances alone, as clients usually write them
        if read is None:
            return self._invoke_strictly(content, answer, body)
        values, count = read
        writer = self._invocation_writers[answer]
        return Job(values, count, (), writer, b"", (self._invoke_strictly, content, answer, body))

    def _invoke_strictly(self, content: Content, answer: Media, body: bytes) -> Job:
        self._check_row_wise("rows are not supported yet")
        read = invocations.read(content, body, self._signature)
        writer = self._invocation_writers[answer]
        if read.by_output and answer is Media.JSON:
            writer = self._by_output_writer
        return self._job(self._fed(read.instances), writer, b"")

    def _predict_strictly(self, body: bytes) -> Job:
        self._check_row_wise(":predict is not supported yet")
        return self._job(self._fed(rows.instances_of(body)), self._predict_writer, b"")

    def _check_row_wise(self, what: str) -> None:
        if not self._signature.row_wise:
            raise Problem(Code.NOT_SUPPORTED, f"the model's first dimension does not count rows, {what}")

    def _fed(self, instances: list[Any]) -> Feed:
        """V1 rows as arrays for the model."""
        return self._signature.feed(rows.to_tensors(instances, self._signature))

    def _infer_strictly(self, length: int | None, body: bytes) -> Job:
        request = self._decoded(length, body)
        writer = self._writer(request)
        feed = self._signature.feed(request.inputs)
        request_id = self._ids.next() if request.id is None else id_text(request.id)
        return self._job(feed, writer, request_id)

    def _decoded(self, length: int | None, body: bytes) -> InferRequest:
        """The request. Raises BadTensor, Problem (bad_input)."""
        try:
            return tensors.decode_request(body, length, self._signature.inputs)
        except BadTensor:
            raise
        except (ValueError, OverflowError) as fault:
            # numpy's own words for shapes no array can have, such as [0, 10**30] or seventy dimensions
            raise refuse(str(fault)) from None

    def _job(self, feed: Feed, writer: Writer, request_id: bytes) -> Job:
        arrays: list[Any] = list(feed.values())
        if not self._signature.row_wise:
            return Job(arrays, 1, None, writer, request_id)
        kind: Kind = tuple(array.shape[1:] for array in arrays) if self._has_open_rows else ()
        return Job(arrays, len(arrays[0]), kind, writer, request_id)

    def _writer(self, request: InferRequest) -> InferWriter:
        """What writes the outputs asked for, remembered for the quick reader. Raises Problem (bad_input)."""
        asked: Asked = (request.binary_output, tuple((o.name, o.binary) for o in request.outputs or ()))
        writer = self._writers.get(asked)
        if writer is None:
            wanted = _wanted(request.outputs or [], self._outputs)
            binary = frozenset(spec.name for spec in wanted if request.wants_binary(spec.name))
            for spec in wanted:
                if spec.datatype in JSON_FORBIDDEN and spec.name not in binary:
                    raise refuse(f"output {spec.name!r}: {spec.datatype} has no JSON form, ask for it as binary data")
            writer = InferWriter(self._name, self._version, wanted, binary)
            if len(self._writers) < _KNOWN_WRITERS:  # clients choose the keys, so there must be an end to them
                self._writers[asked] = writer
        return writer


def header_length(header: HeaderOf) -> int | None:
    """The length of a body's JSON part, None for plain JSON. Raises Problem (bad_input)."""
    text = header(_BINARY_HEADER)
    if text is None:
        if (header(b"content-type") or b"").startswith(b"application/octet-stream"):
            raise refuse("content-type is application/octet-stream, but Inference-Header-Content-Length is missing")
        return None
    if not (text.isdigit() and len(text) < 16):
        shown = text.decode("latin-1")[:40]
        raise refuse(f"Inference-Header-Content-Length is {shown!r}, expected a number of bytes")
    return int(text)


def _wanted(asked: list[RequestedOutput], outputs: list[TensorSpec]) -> list[TensorSpec]:
    """The outputs to compute, in the order asked for. Raises Problem (bad_input)."""
    if not asked:
        return outputs
    by_name = {spec.name: spec for spec in outputs}
    names = [output.name for output in asked]
    for name in names:
        if name not in by_name:
            known = ", ".join(map(repr, by_name))
            raise refuse(f"unknown output {name!r}; the model gives {known}")
        if names.count(name) > 1:
            raise refuse(f"output {name!r} is asked for twice")
    return [by_name[name] for name in names]
