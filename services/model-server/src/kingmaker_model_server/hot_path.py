"""Predictions straight from the socket: the paths clients use, answered without ASGI, joined by round.

A path is matched byte for byte. Whatever is spelled in another way (another model, percent signs, another
method) goes on to FastAPI, whose routes end in the same prediction core.
"""

import math
from collections.abc import Callable
from typing import Any, Final, TypeVar

from kingmaker_contracts.deadlines import TIMEOUT_HEADER, timeout_s
from kingmaker_contracts.problems import Problem
from kingmaker_model_server.answers import Answer
from kingmaker_model_server.batching import answer_alone, answer_together
from kingmaker_model_server.job import Job
from kingmaker_model_server.predict import Predictor
from kingmaker_model_server.reading import header_length
from kingmaker_servicekit.fast_http import Call, FastRoute, protocol_class
from kingmaker_servicekit.rounds import Rounds

_POST: Final = b"POST"
_TIMEOUT: Final = TIMEOUT_HEADER.encode()
Said = TypeVar("Said")
_Read = Callable[[Call, float], Job | Answer]
"""What is to be run for a request, or the refusal. With it goes when its round began to be read."""


class HotPath:
    """The fast routes of one model."""

    def __init__(self, predictor: Predictor, predict_route: str | None = None) -> None:
        """predict_route: what Vertex AI calls `/invocations`."""
        self._predictor = predictor
        self._rounds: Rounds[tuple[_Read, Call]] = Rounds(self._serve, _is_one_request)
        name = predictor.name.encode()
        self._any_version = b"/v2/models/%b/versions/" % name
        self._routes = {
            b"/v2/models/%b/infer" % name: self._route_of(self._infer),
            b"/v1/models/%b:predict" % name: self._route_of(self._predict),
            b"/invocations": self._route_of(self._invoke),
        }
        if predict_route is not None:
            self._routes[predict_route.encode()] = self._routes[b"/invocations"]

    def protocol(self) -> type[Any]:
        """What to give uvicorn as its HTTP protocol."""
        return protocol_class(self.route, self.refuse)

    def route(self, method: bytes, path: bytes) -> FastRoute | None:
        """The fast route of a request, None when FastAPI is to answer."""
        if method != _POST:
            return None
        return self._routes.get(path) or self._version_route(path)

    def refuse(self, status: int, _: Call | None) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """Headers and body for what the protocol itself refuses."""
        answer = self._predictor.too_large() if status == 413 else self._predictor.refused(status)
        return list(answer.headers), answer.body

    def _version_route(self, path: bytes) -> FastRoute | None:
        """The route that names the loaded version; any other is FastAPI's to refuse."""
        loaded = self._predictor.loaded
        if loaded is None or path != self._any_version + loaded.version.encode() + b"/infer":
            return None
        route = self._routes[path] = self._route_of(self._infer)
        return route

    def _route_of(self, read: _Read) -> FastRoute:
        add = self._rounds.add

        def handle(call: Call) -> None:
            add((read, call))

        return FastRoute(handle, self._predictor.max_body_bytes)

    def _serve(self, asked: list[tuple[_Read, Call]]) -> None:
        predictor = self._predictor
        started = predictor.clock()
        if len(asked) == 1:
            [(read, call)] = asked
            answer_alone(predictor, read(call, started), call)
        else:
            answer_together(predictor, [(read(call, started), call) for read, call in asked])

    def _infer(self, call: Call, started: float) -> Job | Answer:
        try:
            length, left_s = _of_head(call, _infer_head)
        except Problem as problem:
            return self._predictor.misread(problem)
        job = self._predictor.infer_read(length, call.body, started)
        if isinstance(job, Job):
            job.expires = call.arrived + left_s
        return job

    def _invoke(self, call: Call, started: float) -> Job | Answer:
        job = self._predictor.invoke_job(call.header, call.body)
        if isinstance(job, Job):
            job.started = started
        return job

    def _predict(self, call: Call, started: float) -> Job | Answer:
        try:
            left_s = _of_head(call, _time_left_s)
        except Problem as problem:
            return self._predictor.misread(problem)
        job = self._predictor.predict_job(self._predictor.name, call.body)
        if isinstance(job, Job):
            job.started = started
            job.expires = call.arrived + left_s
        return job


def _is_one_request(asked: list[tuple[_Read, Call]]) -> bool:
    return len(asked) == 1


def _of_head(call: Call, read: Callable[[Call], Said]) -> Said:
    """What read makes of a request's head: once for all requests with the same. Raises Problem."""
    notes = call.head.notes
    if notes is None:
        return read(call)
    said: Said | None = notes.get(read)
    if said is None:
        said = notes[read] = read(call)
    return said


def _infer_head(call: Call) -> tuple[int | None, float]:
    """Length of the body's JSON part, and how long the caller waits. Raises Problem."""
    return header_length(call.header), _time_left_s(call)


def _time_left_s(call: Call) -> float:
    """How long the caller waits for this answer. Raises Problem."""
    text = call.header(_TIMEOUT)
    return math.inf if text is None else timeout_s(text.decode("latin-1"))
