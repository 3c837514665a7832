"""From a client's bytes to an answer: decode, choose, and put the outcome into words. No web framework in sight.

The caller first asks to be admitted (unknown model, too much in flight), then calls `serve` with what arrived; the
answers come through callbacks, at once or later. Nothing here waits for Redis, a shadow or a log, and a request
costs no task and no future: `predict` is for callers that want to await one.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from time import perf_counter, time_ns

import msgspec

from kingmaker_contracts import buckets
from kingmaker_contracts.problems import Code, Problem
from kingmaker_gateway import codec, runs, split, wishes
from kingmaker_gateway.answers import ID_LINE, Answer, Headers, Reply, problem_answer, unknown_model
from kingmaker_gateway.frames import Slice
from kingmaker_gateway.ids import Ids
from kingmaker_gateway.metrics import Metrics
from kingmaker_gateway.models import LiveModel, Models
from kingmaker_gateway.prediction import Prediction
from kingmaker_gateway.protocols import Call, Reader, offers
from kingmaker_gateway.recorder import Recorder
from kingmaker_gateway.runs import UNANSWERED
from kingmaker_gateway.split import CHAMPION
from kingmaker_gateway.state import Fits, State, fits_from
from kingmaker_gateway.upstream import Upstream

logger = logging.getLogger(__name__)


class Arrival(msgspec.Struct, eq=False):
    """A request that was admitted; its place in flight is free again when `reply` was called, which is once, also when
    it is an error. variant: from the path; headers: names in lower case; started: perf_counter, when it was whole."""

    model: LiveModel
    variant: str | None
    headers: Mapping[str, str]
    body: bytes
    read: Reader
    reply: Reply
    started: float


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
        """Take a place in flight at a model, to be given back by `release` or `serve`. Raises Problem."""
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

    def serve(self, arrivals: Sequence[Arrival]) -> None:
        """Answer requests of one round, each step for all of them (see servicekit.rounds)."""
        now = self.now()
        read = [request for request in map(self._read, arrivals) if request is not None]
        chosen = [self._choose(*request, now) for request in read]
        asked: dict[Upstream | None, None] = {}
        for prediction in chosen:
            if prediction is None:
                continue
            try:
                asked[prediction.begin()] = None
            except Exception:  # a mistake with one request must not cost its neighbours their answers
                logger.exception("a request could not be sent", extra={"model": prediction.model.name})
                if prediction.mark is UNANSWERED:
                    self.failed(prediction, _our_mistake())
        for upstream in asked:
            if upstream is not None:
                upstream.flush()

    async def predict(
        self, model: LiveModel, variant: str | None, headers: Mapping[str, str], body: bytes, read: Reader
    ) -> Answer:
        """Answer one request that was admitted, for a caller that is a coroutine."""
        answer: asyncio.Future[Answer] = self._loop.create_future()

        def reply(status: int, headers: Headers, body: bytes, own: bytes) -> None:
            if not answer.done():  # cancelled: the client has gone
                answer.set_result(Answer(status, headers, body, own))

        self.serve([Arrival(model, variant, headers, body, read, reply, perf_counter())])
        return await answer

    def refuse(self, problem: Problem, model: LiveModel | None = None) -> Answer:
        """The answer to a request that was not routed."""
        self._metrics.rejected.labels(problem.code.value).inc()
        (self._metrics.unrouted if model is None else model.unrouted).tally.count(problem.status)
        return problem_answer(problem)

    def _read(self, arrival: Arrival) -> tuple[Arrival, State, int | None, Call] | None:
        """With the state that holds for it, and the variant it asks for, if any; None: it was turned away."""
        state, variant, headers = arrival.model.state, arrival.variant, arrival.headers
        try:
            override = wishes.override(state, variant, headers) if headers or variant is not None else None
            vocabulary = state.vocabularies[CHAMPION if override is None else override]
            if vocabulary is None:
                name = state.record.name
                raise Problem(Code.NOT_READY, f"model {name!r} is not ready: its champion is not loaded yet")
            return arrival, state, override, arrival.read(arrival.body, headers, vocabulary)
        except Exception as fault:
            self._turn_away(arrival, fault)
            return None

    def _choose(
        self, arrival: Arrival, state: State, override: int | None, call: Call, now: float
    ) -> Prediction | None:
        """Who is to answer it; None: it was turned away."""
        headers = arrival.headers
        try:
            key = wishes.sticky_key(state, call, headers) if state.is_sticky else None
            id, text_id = self._ids.new()
            fits = state.fits_of(call.batch) if call.wanted is None else _fits(state, call, call.wanted)
            can_answer, eligible, may_be_given = fits
            variant, assigned, reason = split.choose(
                state.table,
                key,
                text_id,
                override=override,
                eligible=may_be_given,
                available=state.takes_traffic,
                now=now,
            )
            is_plain = not headers and call.timeout_s is None
            return Prediction(
                self,
                arrival.model,
                state,
                call,
                arrival.reply,
                call.batch.rows,
                id,
                text_id,
                0 if key is None else buckets.key_hash(key),
                variant,
                assigned,
                reason,
                can_answer,
                eligible,
                now,
                now + (state.deadline_s if is_plain else wishes.time_left_s(state, call, headers)),
                arrival.started,
            )
        except Exception as fault:
            self._turn_away(arrival, fault)
            return None

    def _turn_away(self, arrival: Arrival, fault: Exception) -> None:
        if isinstance(fault, Problem):
            problem = fault
        else:
            logger.error("a request could not be read", exc_info=fault)
            problem = _our_mistake()
        arrival.model.in_flight -= 1
        arrival.reply(*self.refuse(problem, arrival.model))

    # prediction.Desk

    def answered(self, prediction: Prediction, answer: Slice) -> None:
        """A model has answered: word it."""
        state = prediction.state
        version = state.answerers[prediction.variant].version
        try:
            prediction.words = prediction.call.encode(state.record.name, version, prediction.text_id, answer)
        except Exception:  # one answer that cannot be written must not cost its neighbours theirs
            logger.exception("an answer could not be encoded", extra={"model": state.record.name})

    def settled(self, prediction: Prediction) -> None:
        """Count the answer and send it. It is recorded with its frame."""
        if prediction.words is None:
            self._refuse(prediction, _our_mistake())
            return
        body, head_length = prediction.words
        head = prediction.state.head_of(prediction.variant, prediction.reason)
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
        prediction.latency_s = latency_s
        prediction.mark = (prediction.rows, prediction.assigned, prediction.reason, prediction.eligible, status)
        variants = prediction.state.variants
        variants[prediction.variant].counts.tally.answered(status, latency_s)
        if prediction.reason == "fallback":
            variants[prediction.assigned].counts.fallbacks.inc()
        prediction.model.in_flight -= 1
        prediction.reply(status, headers, body, ID_LINE % prediction.text_id)

    def _record(self, prediction: Prediction) -> None:
        """A request that no model answered."""
        by = prediction.state.answerers[prediction.variant]
        self._recorder.offer(
            runs.of(by, [prediction], time_ns() // 1000, prediction.rows, prediction.batch.arrays, None)
        )


def _our_mistake() -> Problem:
    return Problem(Code.INTERNAL, "a mistake of the gateway; its log has the details")


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
