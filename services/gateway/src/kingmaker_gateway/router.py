"""From a client's bytes to an answer: decode, choose, and put the outcome into words. No web framework in sight.

The caller first asks to be admitted (unknown model, too much in flight), then calls `start` with the body; the
answer comes through a callback, at once or later. Nothing here waits for Redis, a shadow or a log, and a request
costs no task and no future: `predict` is for callers that want to await one.
"""

import asyncio
import logging
from collections.abc import Mapping
from time import perf_counter, time_ns

from kingmaker_contracts import buckets
from kingmaker_contracts.problems import Code, Problem
from kingmaker_gateway import codec, split, wishes
from kingmaker_gateway.answers import ID_LINE, Answer, Headers, Reply, problem_answer, unknown_model
from kingmaker_gateway.envelope import Run
from kingmaker_gateway.frames import Slice
from kingmaker_gateway.ids import Ids
from kingmaker_gateway.metrics import Metrics
from kingmaker_gateway.models import LiveModel, Models
from kingmaker_gateway.prediction import Prediction
from kingmaker_gateway.protocols import Call, Reader, offers
from kingmaker_gateway.recorder import Recorder
from kingmaker_gateway.split import CHAMPION
from kingmaker_gateway.state import Fits, State, fits_from

logger = logging.getLogger(__name__)


class Router:
    """The prediction core. ids: names predictions; recorder: told of those that got no answer from a model."""

    def __init__(self, models: Models, recorder: Recorder, ids: Ids, metrics: Metrics) -> None:
        self._models = models
        self._recorder = recorder
        self._ids = ids
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time

    def admit(self, name: str) -> LiveModel:
        """Take a place in flight at a model, to be given back by `release` or `start`. Raises Problem."""
        model = self._models.get(name)
        if model is None:
            raise unknown_model(name)
        limit = model.state.record.limits.max_in_flight
        if model.in_flight >= limit:
            raise Problem(Code.TOO_MANY_REQUESTS, f"{limit} requests are in flight at model {name!r}, the limit")
        model.in_flight += 1
        return model

    def release(self, model: LiveModel) -> None:
        model.in_flight -= 1

    def start(  # noqa: PLR0917  by position: keywords cost on every request
        self,
        model: LiveModel,
        variant: str | None,
        headers: Mapping[str, str],
        body: bytes,
        read: Reader,
        reply: Reply,
    ) -> None:
        """Answer one request that was admitted, through `reply`, also when it is an error; its place is free then.
        headers: names in lower case; variant: from the path."""
        try:
            prediction = self._accept(model, variant, headers, body, read, reply)
        except Problem as problem:
            model.in_flight -= 1
            reply(*self.refuse(problem, model))
            return
        except BaseException:
            model.in_flight -= 1
            raise
        prediction.begin()

    async def predict(
        self, model: LiveModel, variant: str | None, headers: Mapping[str, str], body: bytes, read: Reader
    ) -> Answer:
        """`start`, for a caller that is a coroutine."""
        answer: asyncio.Future[Answer] = self._loop.create_future()

        def reply(status: int, headers: Headers, body: bytes, own: bytes) -> None:
            if not answer.done():  # cancelled: the client has gone
                answer.set_result(Answer(status, headers, body, own))

        self.start(model, variant, headers, body, read, reply)
        return await answer

    def refuse(self, problem: Problem, model: LiveModel | None = None) -> Answer:
        """The answer to a request that was not routed."""
        self._metrics.rejected.labels(problem.code.value).inc()
        (self._metrics.unrouted if model is None else model.unrouted).tally.count(problem.status)
        return problem_answer(problem)

    def _accept(  # noqa: PLR0917
        self, model: LiveModel, variant: str | None, headers: Mapping[str, str], body: bytes, read: Reader, reply: Reply
    ) -> Prediction:
        started, arrived = perf_counter(), self.now()
        state = model.state
        override = wishes.override(state, variant, headers) if headers or variant is not None else None
        vocabulary = state.vocabularies[CHAMPION if override is None else override]
        if vocabulary is None:
            raise Problem(Code.NOT_READY, f"model {state.record.name!r} is not ready: its champion is not loaded yet")
        call = read(body, headers, vocabulary)
        key = wishes.sticky_key(state, call, headers) if state.is_sticky else None
        id, text_id = self._ids.new()
        fits = state.fits_of(call.batch) if call.wanted is None else _fits(state, call, call.wanted)
        can_answer, eligible, may_be_given = fits
        variant_index, assigned, reason = split.choose(
            state.table,
            key,
            text_id,
            override=override,
            eligible=may_be_given,
            available=state.takes_traffic,
            now=arrived,
        )
        key_hash = 0 if key is None else buckets.key_hash(key)
        is_plain = not headers and call.timeout_s is None
        deadline = arrived + (state.deadline_s if is_plain else wishes.time_left_s(state, call, headers))
        return Prediction(
            self,
            model,
            state,
            call,
            reply,
            call.batch.rows,
            id,
            text_id,
            key_hash,
            variant_index,
            assigned,
            reason,
            can_answer,
            eligible,
            arrived,
            deadline,
            started,
        )

    # prediction.Desk

    def answered(self, prediction: Prediction, answer: Slice) -> None:
        """A model has answered: word it, count it, send it. It is recorded with its frame."""
        state, variant, id = prediction.state, prediction.variant, prediction.text_id
        version = state.answerers[variant].version
        try:
            body, head_length = prediction.call.encode(state.record.name, version, id, answer)
        except Exception:  # one answer that cannot be written must not cost its neighbours theirs
            logger.exception("an answer could not be encoded", extra={"model": state.record.name})
            problem = Problem(Code.INTERNAL, "a mistake of the gateway; its log has the details")
            self._refuse(prediction, problem)
            return
        head = state.head_of(variant, prediction.reason)
        headers = head.json if head_length is None else [*head.routed, *codec.binary_headers(head_length)]
        self._send(prediction, 200, headers, body)

    def failed(self, prediction: Prediction, problem: Problem) -> None:
        """No model answered."""
        self._refuse(prediction, problem)
        self._record(prediction)

    def _refuse(self, prediction: Prediction, problem: Problem) -> None:
        head = prediction.state.head_of(prediction.variant, prediction.reason)
        words = problem_answer(problem, head.routed)
        self._send(prediction, words.status, words.headers, words.body)

    def _send(self, prediction: Prediction, status: int, headers: Headers, body: bytes) -> None:
        latency_s = perf_counter() - prediction.started
        prediction.entry = (
            prediction.id,
            prediction.rows,
            prediction.assigned,
            prediction.reason,
            prediction.eligible,
            prediction.key_hash,
            time_ns() // 1000,
            int(latency_s * 1e6),
            status,
        )
        variants = prediction.state.variants
        variants[prediction.variant].counts.tally.answered(status, latency_s)
        if prediction.reason == "fallback":
            variants[prediction.assigned].counts.fallbacks.inc()
        prediction.model.in_flight -= 1
        prediction.reply(status, headers, body, ID_LINE % prediction.text_id)

    def _record(self, prediction: Prediction) -> None:
        """A request that no model answered."""
        by = prediction.state.answerers[prediction.variant]
        self._recorder.offer(Run(by, [prediction.entry], prediction.rows, prediction.batch.arrays, None))


def _fits(state: State, call: Call, wanted: list[str]) -> Fits:
    """Which variants take these inputs and give these outputs."""
    fits = state.fits_of(call.batch)
    return fits_from(
        [
            fit and signature is not None and offers(signature.outputs, wanted)
            for fit, signature in zip(fits.by_variant, state.signatures, strict=True)
        ],
        state.signatures,
    )
