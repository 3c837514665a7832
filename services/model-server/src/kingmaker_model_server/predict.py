"""The prediction core: bytes in, bytes out, no web framework.

Whoever reads HTTP (today an ASGI route, later a protocol on the socket) hands over path parts, headers and
the whole body, and sends what comes back. Inference runs inline: a thread hand-over costs 1.8-3 times the
CPU of the request and five times its p99 (measured), and batch 1 takes microseconds.
"""

import logging
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from numpy.typing import NDArray

from kingmaker_contracts import problems, tensors
from kingmaker_contracts.inference import (
    BINARY_HEADER,
    JSON_FORBIDDEN,
    BadTensor,
    InferRequest,
    InferResponse,
    ModelMetadata,
    Tensor,
    TensorSpec,
)
from kingmaker_contracts.problems import Code, Problem
from kingmaker_model_server import rows
from kingmaker_model_server.errors import ModelFailed
from kingmaker_model_server.metrics import Metrics
from kingmaker_model_server.session import Feed, OnnxModel
from kingmaker_model_server.signature import Signature, refuse

logger = logging.getLogger(__name__)

Headers = Mapping[bytes, bytes]
"""Request headers, names in lower case."""

_BINARY_HEADER: Final = BINARY_HEADER.encode()
_JSON: Final = (b"content-type", b"application/json")
_OCTETS: Final = (b"content-type", b"application/octet-stream")
_RETRY: Final = (b"retry-after", b"1")


@dataclass(slots=True, frozen=True)
class Answer:
    """A whole HTTP answer but for content-length; header names are in lower case."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


@dataclass(slots=True, frozen=True)
class Loaded:
    """A model ready to answer, with all that is fixed about it."""

    model: OnnxModel
    signature: Signature
    version: str
    metadata: ModelMetadata


class Predictor:
    """Answers infer and predict requests for one model name, once `load` has been told of the model."""

    def __init__(
        self, name: str, max_body_bytes: int, metrics: Metrics, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.name = name
        self.max_body_bytes = max_body_bytes
        self.loaded: Loaded | None = None
        self._metrics = metrics
        self._clock = clock

    def load(self, loaded: Loaded) -> None:
        """From now on answer with this model."""
        self.loaded = loaded

    def find(self, name: str, version: str | None = None) -> Loaded:
        """The model a path names. Raises Problem (model_not_found, not_ready)."""
        if name != self.name:
            raise Problem(Code.MODEL_NOT_FOUND, f"unknown model {name!r}; this server has {self.name!r}")
        if self.loaded is None:
            raise Problem(Code.NOT_READY, f"model {name!r} is still loading")
        if version is not None and version != self.loaded.version:
            raise Problem(
                Code.MODEL_NOT_FOUND,
                f"model {name!r} has no version {version!r} here; this server has {self.loaded.version!r}",
            )
        return self.loaded

    def infer(self, name: str, version: str | None, headers: Headers, body: bytes) -> Answer:
        """POST /v2/models/{name}[/versions/{version}]/infer."""
        return self._answer(lambda: self._infer(self.find(name, version), headers, body))

    def predict(self, name: str, body: bytes) -> Answer:
        """POST /v1/models/{name}:predict."""
        return self._answer(lambda: self._predict(self.find(name), body))

    def too_large(self) -> Answer:
        """For a body that was not read to its end."""
        return self._answer(self._refuse_size)

    def _answer(self, work: Callable[[], Answer]) -> Answer:
        """Do the work, turn what went wrong into an answer, and count."""
        started = self._clock()
        try:
            answer = work()
        except Problem as problem:
            answer = error(problem)
        except BadTensor as fault:
            answer = error(refuse(str(fault)))
        except ModelFailed as fault:
            # not the client's doing: the rows fit the signature, and another variant may answer them
            answer = error(Problem(Code.INTERNAL, f"the model failed on these rows: {fault}"))
        except Exception:  # the outermost handler, whoever reads HTTP
            logger.exception("request failed")
            answer = error(Problem(Code.INTERNAL, "a fault of this server; its log has more"))
        self._metrics.requests[answer.status].inc()
        self._metrics.request_duration.observe(self._clock() - started)
        return answer

    def _infer(self, loaded: Loaded, headers: Headers, body: bytes) -> Answer:
        request = _decoded(headers, body, loaded.signature.inputs)
        wanted = _wanted(request, loaded.model.outputs)
        arrays = self._run(loaded, [spec.name for spec in wanted], loaded.signature.feed(request.inputs))
        outputs = [Tensor(s.name, s.datatype, array) for s, array in zip(wanted, arrays, strict=True)]
        binary = frozenset(spec.name for spec in wanted if request.wants_binary(spec.name))
        answer = InferResponse(
            self.name, outputs, loaded.version, str(uuid.uuid4()) if request.id is None else request.id
        )
        content, head = tensors.encode_response(answer, binary)
        if head is None:
            return Answer(200, (_JSON,), content)
        return Answer(200, (_OCTETS, (_BINARY_HEADER, b"%d" % head)), content)

    def _predict(self, loaded: Loaded, body: bytes) -> Answer:
        if not loaded.model.row_wise:
            raise Problem(
                Code.NOT_SUPPORTED, "the model's first dimension does not count rows, :predict is not supported yet"
            )
        feed = loaded.signature.feed(rows.to_tensors(rows.instances_of(body), loaded.signature))
        names = [spec.name for spec in loaded.model.outputs]
        return Answer(200, (_JSON,), rows.predictions(list(zip(names, self._run(loaded, names, feed), strict=True))))

    def _run(self, loaded: Loaded, outputs: list[str], feed: Feed) -> list[NDArray[Any]]:
        started = self._clock()
        arrays = loaded.model.run(outputs, feed)
        self._metrics.inference_duration.observe(self._clock() - started)
        self._metrics.rows.inc(len(next(iter(feed.values()))) if loaded.model.row_wise else 1)
        return arrays

    def _refuse_size(self) -> Answer:
        raise Problem(Code.BODY_TOO_LARGE, f"the body is larger than {self.max_body_bytes} bytes")


def error(problem: Problem) -> Answer:
    """The answer for a problem."""
    headers = (_JSON, _RETRY) if problem.code in problems.RETRY_AFTER else (_JSON,)
    return Answer(problem.status, headers, problems.body(problem.code, problem.message))


def _decoded(headers: Headers, body: bytes, inputs: list[TensorSpec]) -> InferRequest:
    """The request. Raises BadTensor, Problem (bad_input)."""
    try:
        return tensors.decode_request(body, _header_length(headers), inputs)
    except (ValueError, OverflowError) as fault:
        # numpy's own words for shapes no array can have, such as [0, 10**30] or seventy dimensions
        raise refuse(str(fault)) from None


def _header_length(headers: Headers) -> int | None:
    """The length of a body's JSON part, None for plain JSON. Raises Problem (bad_input)."""
    text = headers.get(_BINARY_HEADER)
    if text is None:
        if headers.get(b"content-type", b"").startswith(b"application/octet-stream"):
            raise refuse("content-type is application/octet-stream, but Inference-Header-Content-Length is missing")
        return None
    if not (text.isdigit() and len(text) < 16):
        shown = text.decode("latin-1")[:40]
        raise refuse(f"Inference-Header-Content-Length is {shown!r}, expected a number of bytes")
    return int(text)


def _wanted(request: InferRequest, outputs: list[TensorSpec]) -> list[TensorSpec]:
    """The outputs to compute, in the order asked for. Raises Problem (bad_input)."""
    wanted = outputs
    if request.outputs:
        by_name = {spec.name: spec for spec in outputs}
        names = [output.name for output in request.outputs]
        for name in names:
            if name not in by_name:
                known = ", ".join(map(repr, by_name))
                raise refuse(f"unknown output {name!r}; the model gives {known}")
            if names.count(name) > 1:
                raise refuse(f"output {name!r} is asked for twice")
        wanted = [by_name[name] for name in names]
    for spec in wanted:
        if spec.datatype in JSON_FORBIDDEN and not request.wants_binary(spec.name):
            raise refuse(f"output {spec.name!r}: {spec.datatype} has no JSON form, ask for it as binary data")
    return wanted
