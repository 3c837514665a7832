"""From a client's bytes to an answer: decode, choose, ask, fall back, answer. No web framework in sight.

The caller first asks to be admitted (unknown model, too much in flight), then reads the body, then calls
predict, sends the answer, and last calls the answer's `after`: copies to shadows leave only when the
client has been served. Nothing here waits for Redis, a shadow or a log.
"""

import asyncio
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from kingmaker_contracts import buckets, prediction_ids
from kingmaker_contracts.inference import BINARY_HEADER, Tensor
from kingmaker_contracts.labels import Reason
from kingmaker_contracts.problems import Code, Problem
from kingmaker_gateway import split, wishes
from kingmaker_gateway.answers import Answer, Headers, problem_answer, unknown_model
from kingmaker_gateway.envelope import Prediction
from kingmaker_gateway.errors import UpstreamError, UpstreamTimeout, UpstreamUnreachable
from kingmaker_gateway.metrics import Metrics
from kingmaker_gateway.models import LiveModel, Models, State
from kingmaker_gateway.protocols import Call, Reader, offers
from kingmaker_gateway.recorder import Recorder
from kingmaker_gateway.shadow import Copy, Outcome
from kingmaker_gateway.split import CHAMPION, Choice

logger = logging.getLogger(__name__)

_MIRRORED: Final[frozenset[Reason]] = frozenset({"weight", "sticky", "ineligible", "fallback"})
_CHALLENGERS_SHARE: Final = 0.5
"""Of what is left of the deadline: the champion keeps the other half for a fallback."""


@dataclass(slots=True)
class _Request:
    """One routed request on its way. arrived, deadline: the loop's clock, which uvloop keeps to the millisecond;
    started: perf_counter, for latencies; key: the sticky key."""

    state: State
    call: Call
    id: bytes
    text_id: str
    key: str | None
    choice: Choice
    eligible: list[bool]
    arrived: float
    deadline: float
    started: float
    failed: set[int] = field(default_factory=set)

    @property
    def eligible_bits(self) -> int:
        return sum(1 << i for i, fits in enumerate(self.eligible[1:9]) if fits)


class Router:
    """The prediction core. partition: goes into every prediction id."""

    def __init__(self, models: Models, recorder: Recorder, partition: int, metrics: Metrics) -> None:
        self._models = models
        self._recorder = recorder
        self._partition = partition
        self._metrics = metrics

    def admit(self, name: str) -> LiveModel:
        """Take a place in flight at a model; `release` gives it back. Raises Problem."""
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

    async def predict(
        self, model: LiveModel, variant: str | None, headers: Mapping[str, str], body: bytes, read: Reader
    ) -> Answer:
        """The answer to one request, also when it is an error. headers: names in lower case; variant: from the path."""
        try:
            request = self._accept(model.state, variant, headers, body, read)
        except Problem as problem:
            return self.refuse(problem, model)
        try:
            outputs = await self._ask(request)
        except Problem as problem:
            return self._finish(model, request, problem, None)
        return self._finish(model, request, None, outputs)

    def refuse(self, problem: Problem, model: LiveModel | None = None) -> Answer:
        """The answer to a request that was not routed."""
        self._metrics.rejected.labels(problem.code.value).inc()
        if model is None:
            self._metrics.requests.labels("", "", str(problem.status)).inc()
        else:
            model.unrouted.count(problem.status)
        return problem_answer(problem, [])

    def _accept(
        self, state: State, variant: str | None, headers: Mapping[str, str], body: bytes, read: Reader
    ) -> _Request:
        started, arrived = time.perf_counter(), asyncio.get_running_loop().time()
        override = wishes.override(state, variant, headers)
        vocabulary = state.vocabularies[CHAMPION if override is None else override]
        if vocabulary is None:
            raise Problem(Code.NOT_READY, f"model {state.record.name!r} is not ready: its champion is not loaded yet")
        call = read(body, headers, vocabulary)
        time_left = min(
            state.record.limits.deadline_ms / 1000,
            *(limit for limit in (call.timeout_s, wishes.timeout_s(headers)) if limit is not None),
            float("inf"),
        )
        key = wishes.sticky_key(state, call, headers)
        id = prediction_ids.new(time.time_ns() // 1_000_000, os.urandom(9), self._partition)
        text_id = prediction_ids.text(id)
        eligible = [
            signature is not None and call.batch.fits(signature) and offers(signature.outputs, call.wanted)
            for signature in state.signatures
        ]
        choice = split.choose(
            state.table,
            key,
            text_id,
            override=override,
            eligible=_known_eligible(state, eligible),
            available=_available(state),
        )
        return _Request(state, call, id, text_id, key, choice, eligible, arrived, arrived + time_left, started)

    async def _ask(self, request: _Request) -> list[Tensor]:
        """Outputs of the chosen variant, or of the champion in its place. Raises Problem."""
        choice = request.choice
        if choice.variant == CHAMPION or choice.reason == "override":
            return await self._ask_finally(request, choice.variant)
        variant = request.state.variants[choice.variant]
        now = asyncio.get_running_loop().time()
        before = variant.breaker.state
        variant.breaker.admits(now)
        try:
            outputs = await self._attempt(request, choice.variant, now + (request.deadline - now) * _CHALLENGERS_SHARE)
        except UpstreamError as error:
            variant.breaker.failed(asyncio.get_running_loop().time())
            if variant.breaker.state is not before:
                logger.warning(
                    "breaker changed",
                    extra={"variant": variant.routed.name, "state": variant.breaker.state.name, "reason": str(error)},
                )
        except BaseException:
            variant.breaker.abandoned()
            raise
        else:
            variant.breaker.succeeded()
            if variant.breaker.state is not before:
                logger.info(
                    "breaker changed", extra={"variant": variant.routed.name, "state": variant.breaker.state.name}
                )
            return outputs
        request.failed.add(choice.variant)
        request.choice = Choice(CHAMPION, choice.assigned, "fallback")
        return await self._ask_finally(request, CHAMPION)

    async def _ask_finally(self, request: _Request, index: int) -> list[Tensor]:
        """Outputs of a variant nobody stands in for. Raises Problem."""
        try:
            return await self._attempt(request, index, request.deadline)
        except UpstreamTimeout:
            allowed = round((request.deadline - request.arrived) * 1000)
            raise Problem(Code.DEADLINE_EXCEEDED, f"no answer within {allowed} ms") from None
        except UpstreamUnreachable:
            name = request.state.table.variants[index]
            raise Problem(Code.NOT_READY, f"variant {name!r} has no model server that can be reached") from None
        except UpstreamError:
            name = request.state.table.variants[index]
            raise Problem(Code.UPSTREAM_FAILED, f"variant {name!r} gave no usable answer") from None

    async def _attempt(self, request: _Request, index: int, deadline: float) -> list[Tensor]:
        state = request.state
        variant, signature = state.variants[index], state.signatures[index]
        if signature is None:
            raise UpstreamError("no signature")
        try:
            return await variant.upstream.predict(
                request.call.batch, signature, state.record.limits.max_frame_rows, deadline
            )
        except UpstreamTimeout:
            variant.counts.abandoned.inc()
            raise
        except UpstreamError as error:
            variant.counts.upstream_failures.inc()
            logger.debug("attempt failed", extra={"variant": variant.routed.name, "reason": str(error)})
            raise

    def _finish(
        self, model: LiveModel, request: _Request, problem: Problem | None, outputs: list[Tensor] | None
    ) -> Answer:
        """Count, record and word the answer of a routed request."""
        state, choice = request.state, request.choice
        by, counts = state.answerers[choice.variant], state.variants[choice.variant].counts
        headers: Headers = [
            (b"x-prediction-id", request.text_id.encode()),
            (b"x-variant", by.variant.encode()),
            (b"x-model-version", by.version.encode("latin-1", "replace")),
            (b"x-route-reason", choice.reason.encode()),
        ]
        if outputs is not None:
            encoded = request.call.encode(model.name, by.version, request.text_id, outputs)
            headers.append((b"content-type", encoded.content_type.encode()))
            if encoded.head_length is not None:
                headers.append((BINARY_HEADER.encode(), b"%d" % encoded.head_length))
            answer = Answer(200, headers, encoded.body, partial(self._mirror, request) if state.mirrors else None)
        else:
            answer = problem_answer(problem or Problem(Code.INTERNAL, "no outputs"), headers)
        latency_s = time.perf_counter() - request.started
        counts.count(answer.status)
        counts.duration.observe(latency_s)
        if choice.reason == "fallback":
            state.variants[choice.assigned].counts.fallbacks.inc()
        self._record(
            request,
            choice.variant,
            reason=choice.reason,
            status=answer.status,
            latency_s=latency_s,
            outputs=outputs,
        )
        return answer

    def _record(
        self,
        request: _Request,
        index: int,
        *,
        reason: Reason,
        status: int,
        latency_s: float,
        outputs: list[Tensor] | None,
    ) -> None:
        self._recorder.offer(
            Prediction(
                by=request.state.answerers[index],
                id=request.id,
                rows=request.call.batch.rows,
                assigned=request.choice.assigned,
                reason=reason,
                eligible=request.eligible_bits,
                key_hash=0 if request.key is None else buckets.key_hash(request.key),
                answered_us=time.time_ns() // 1000,
                latency_us=int(latency_s * 1e6),
                status=status,
                inputs=request.call.batch.arrays,
                outputs=outputs,
            )
        )

    def _mirror(self, request: _Request) -> None:
        """Offer copies of what the champion has answered to the shadows."""
        state, choice = request.state, request.choice
        if choice.variant != CHAMPION or choice.reason not in _MIRRORED:
            return
        for index, percent in state.mirrors:
            signature, variant = state.signatures[index], state.variants[index]
            if signature is None or variant.shadow is None or not request.eligible[index] or index in request.failed:
                continue
            if split.is_mirrored(state.table.salt, state.table.variants[index], percent, request.text_id):
                done = partial(self._shadow_done, request, index)
                variant.shadow.offer(Copy(request.call.batch, signature, state.record.limits.max_frame_rows, done))

    def _shadow_done(self, request: _Request, index: int, outcome: Outcome) -> None:
        self._record(
            request,
            index,
            reason="shadow",
            status=outcome.status,
            latency_s=outcome.latency_s,
            outputs=outcome.outputs,
        )


def _known_eligible(state: State, eligible: list[bool]) -> list[bool]:
    """Eligible, or not understood yet: a variant without a signature is unavailable, which is another reason."""
    return [fits or state.signatures[i] is None for i, fits in enumerate(eligible)]


def _available(state: State) -> list[bool]:
    now = asyncio.get_running_loop().time()
    return [state.takes_requests(i) and variant.breaker.would_admit(now) for i, variant in enumerate(state.variants)]
