"""The prediction core: bytes in, bytes out, no web framework. Both ways in end here.

A request is read into a `Job`, jobs are run, alone (the plain ASGI route) or joined (the hot path), and their
answers written. Inference runs inline: a thread hand-over costs 1.8-3 times the CPU of the request and five
times its p99 (measured), and batch 1 takes microseconds.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from kingmaker_contracts import problems
from kingmaker_contracts.inference import BadTensor, ModelMetadata
from kingmaker_contracts.problems import Code, Problem
from kingmaker_model_server.answers import JSON, Answer
from kingmaker_model_server.errors import ModelFailed
from kingmaker_model_server.job import Job
from kingmaker_model_server.metrics import Metrics
from kingmaker_model_server.reading import HeaderOf, Reader, header_length
from kingmaker_model_server.run import Runner, Unsound
from kingmaker_model_server.session import OnnxModel
from kingmaker_model_server.signature import Signature, refuse

logger = logging.getLogger(__name__)

Headers = Mapping[bytes, bytes]
"""Request headers, names in lower case."""

UNREADABLE: Final = {
    400: (Code.BAD_INPUT, "not a valid HTTP request"),
    408: (Code.REQUEST_TIMEOUT, "the body did not arrive in time"),
    431: (Code.BAD_INPUT, "the request's headers are too large"),
    500: (Code.INTERNAL, "a fault of this server; its log has more"),
}
"""What can go wrong before a request is whole, or outside the core."""

_RETRY: Final = (b"retry-after", b"1")


@dataclass(slots=True, frozen=True)
class Loaded:
    """A model ready to answer, with all that is fixed about it. profile: the bytes of its profile.json."""

    model: OnnxModel
    signature: Signature
    version: str
    metadata: ModelMetadata
    profile: bytes | None = None


@dataclass(slots=True, frozen=True)
class _Serving:
    """What `load` makes of a loaded model."""

    loaded: Loaded
    reader: Reader
    runner: Runner


class Predictor:
    """Answers infer and predict requests for one model name, once `load` has been told of the model."""

    def __init__(
        self, name: str, max_body_bytes: int, metrics: Metrics, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.name = name
        self.max_body_bytes = max_body_bytes
        self._serving: _Serving | None = None
        self._metrics = metrics
        self._requests = metrics.requests
        self._observe = metrics.request_duration.observe
        self.clock = clock

    @property
    def loaded(self) -> Loaded | None:
        """The model, once it answers."""
        return None if self._serving is None else self._serving.loaded

    def load(self, loaded: Loaded) -> None:
        """From now on answer with this model."""
        reader = Reader(loaded.signature, loaded.metadata, loaded.version)
        runner = Runner(loaded.model, loaded.signature, self._metrics, self.clock)
        self._serving = _Serving(loaded, reader, runner)

    def find(self, name: str, version: str | None = None) -> Loaded:
        """The model a path names. Raises Problem (model_not_found, not_ready)."""
        return self._find(name, version).loaded

    def infer(self, name: str, version: str | None, headers: Headers, body: bytes) -> Answer:
        """POST /v2/models/{name}[/versions/{version}]/infer, on its own."""
        return self._answered(self.infer_job(name, version, headers.get, body))

    def predict(self, name: str, body: bytes) -> Answer:
        """POST /v1/models/{name}:predict, on its own."""
        return self._answered(self.predict_job(name, body))

    def invoke(self, headers: Headers, body: bytes) -> Answer:
        """POST /invocations, on its own."""
        return self._answered(self.invoke_job(headers.get, body))

    def infer_job(self, name: str, version: str | None, header: HeaderOf, body: bytes) -> Job | Answer:
        """The job of an infer request, or the refusal."""
        return self._read(lambda: self._find(name, version).reader.infer(header_length(header), body))

    def infer_read(self, length: int | None, body: bytes, started: float) -> Job | Answer:
        """The same where the path has been found to name this model, and the head has been read."""
        try:
            job = (self._serving or self._find(self.name)).reader.infer(length, body)
        except Exception as fault:  # the outermost handler, whoever reads HTTP
            return self._count(_refusal(fault), started)
        job.started = started
        return job

    def predict_job(self, name: str, body: bytes) -> Job | Answer:
        """The job of a predict request, or the refusal."""
        return self._read(lambda: self._find(name).reader.predict(body))

    def invoke_job(self, header: HeaderOf, body: bytes) -> Job | Answer:
        """The job of an invocations request, or the refusal."""
        return self._read(lambda: self._find(self.name).reader.invoke(header, body))

    def answer(self, jobs: Sequence[Job]) -> list[Answer]:
        """The answers of jobs of one kind that were read in one round, run together, in order. Never raises: what
        fails together is run alone."""
        if len(jobs) == 1:
            return [self.alone(jobs[0])]
        runner = self._serving_now().runner
        try:
            return self._counted(jobs, runner.run(jobs))
        except Unsound:
            return self._answer_sound(jobs)
        except Exception as fault:  # part of the outermost handler: what one request does must not hurt another
            logger.debug("a joined run failed", extra={"reason": str(fault), "requests": len(jobs)})
            self._metrics.retried_alone.inc(len(jobs))
            return [self.alone(job) for job in jobs]

    def alone(self, job: Job) -> Answer:
        """The answer of one job. Never raises."""
        try:
            runner = self._serving_now().runner
            try:
                answer = runner.run_one(job)
            except Unsound:
                answer = runner.run_one(job.strictly())
        except Exception as fault:  # the outermost handler, whoever reads HTTP
            answer = _refusal(fault)
        # _count, written out
        self._requests[answer.status].inc()
        self._observe(self.clock() - job.started)
        return answer

    def too_large(self) -> Answer:
        """For a body that was not read to its end."""
        answer = error(Problem(Code.BODY_TOO_LARGE, f"the body is larger than {self.max_body_bytes} bytes"))
        return self._count(answer, self.clock())

    def misread(self, problem: Problem) -> Answer:
        """For one whose head says what cannot be meant."""
        return self._count(error(problem), self.clock())

    def expired(self, job: Job) -> Answer:
        """For one that waited here longer than its caller does."""
        self._metrics.expired.inc()
        return self._count(
            error(Problem(Code.DEADLINE_EXCEEDED, "the caller's time ran out before the run")), job.started
        )

    def refused(self, status: int) -> Answer:
        """For what HTTP itself refuses, with one of the statuses in UNREADABLE."""
        code, text = UNREADABLE[status]
        answer = Answer(status, (JSON,), problems.body(code, text))
        return self._count(answer, self.clock())

    def _answered(self, job: Job | Answer) -> Answer:
        return job if isinstance(job, Answer) else self.alone(job)

    def _find(self, name: str, version: str | None = None) -> _Serving:
        if name != self.name:
            raise Problem(Code.MODEL_NOT_FOUND, f"unknown model {name!r}; this server has {self.name!r}")
        serving = self._serving
        if serving is None:
            raise Problem(Code.NOT_READY, f"model {name!r} is still loading")
        if version is not None and version != serving.loaded.version:
            raise Problem(
                Code.MODEL_NOT_FOUND,
                f"model {name!r} has no version {version!r} here; this server has {serving.loaded.version!r}",
            )
        return serving

    def _serving_now(self) -> _Serving:
        assert self._serving is not None  # noqa: S101 - only a loaded model makes jobs
        return self._serving

    def _read(self, read: Callable[[], Job]) -> Job | Answer:
        started = self.clock()
        try:
            job = read()
        except Exception as fault:  # the outermost handler, whoever reads HTTP
            return self._count(_refusal(fault), started)
        job.started = started
        return job

    def _answer_sound(self, jobs: Sequence[Job]) -> list[Answer]:
        """Refuse the jobs with values the model must not see, and run the others together."""
        runner = self._serving_now().runner
        sound = [job for job in jobs if runner.is_sound(job)]
        answers = dict(zip(sound, self.answer(sound), strict=True)) if sound else {}
        return [answers[job] if job in answers else self.alone(job) for job in jobs]

    def _counted(self, jobs: Sequence[Job], answers: list[Answer]) -> list[Answer]:
        self._observe(self.clock() - jobs[0].started, len(jobs))
        self._requests[200].inc(len(jobs))
        return answers

    def _count(self, answer: Answer, started: float) -> Answer:
        self._requests[answer.status].inc()
        self._observe(self.clock() - started)
        return answer


def error(problem: Problem) -> Answer:
    """The answer for a problem."""
    headers = (JSON, _RETRY) if problem.code in problems.RETRY_AFTER else (JSON,)
    return Answer(problem.status, headers, problems.body(problem.code, problem.message))


def _refusal(fault: Exception) -> Answer:
    """The answer for whatever went wrong."""
    if isinstance(fault, Problem):
        return error(fault)
    if isinstance(fault, BadTensor):
        return error(refuse(str(fault)))
    if isinstance(fault, ModelFailed):
        # not the client's doing: the rows fit the signature, and another variant may answer them
        return error(Problem(Code.INTERNAL, f"the model failed on these rows: {fault}"))
    logger.error("request failed", exc_info=fault)
    return error(Problem(Code.INTERNAL, "a fault of this server; its log has more"))
