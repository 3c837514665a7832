"""The way in: read what a client sent, choose who answers it, ask them. No web framework in sight.

Requests of one round of the event loop that ask alike are taken together, in steps that each are taken for all of them
(see servicekit.rounds); the answers go out at the desk, at once or later. Nothing here waits for Redis, a shadow or a
log, and a request costs no task and no future: `predict` is for callers that want to await one.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from time import perf_counter

from kingmaker_contracts import buckets
from kingmaker_contracts.problems import Code, Problem
from kingmaker_gateway import split, wishes
from kingmaker_gateway.answers import Answer, Headers, Request, problem_answer, too_many, unknown_model
from kingmaker_gateway.batch import Vocabulary
from kingmaker_gateway.coalescer import Ask
from kingmaker_gateway.desk import Desk, our_mistake
from kingmaker_gateway.ids import Ids
from kingmaker_gateway.metrics import Metrics
from kingmaker_gateway.models import LiveModel, Models
from kingmaker_gateway.prediction import Prediction, Shared
from kingmaker_gateway.protocols import Call, offers
from kingmaker_gateway.runs import Mark
from kingmaker_gateway.split import CHAMPION, Choice
from kingmaker_gateway.state import Fits, State, fits_from
from kingmaker_gateway.upstream import Upstream
from kingmaker_gateway.wishes import Wish

logger = logging.getLogger(__name__)


class _Awaited:
    """A request whose answer a coroutine waits for. See answers.Request."""

    __slots__ = ("_headers", "answered", "arrived", "body")

    def __init__(self, headers: Mapping[str, str], body: bytes, answered: "asyncio.Future[Answer]") -> None:
        """headers: names in lower case."""
        self._headers = headers
        self.body = body
        self.arrived = perf_counter()
        self.answered = answered

    def header(self, name: bytes) -> bytes | None:
        value = self._headers.get(name.decode("latin-1"))
        return None if value is None else value.encode("latin-1")

    def answer(self, status: int, headers: Headers, body: bytes, own: bytes = b"") -> None:
        if not self.answered.done():  # cancelled: the client has gone
            self.answered.set_result(Answer(status, headers, body, own))


class Router:
    """The way in of predictions. desk: where their answers go out; ids: names predictions."""

    def __init__(self, models: Models, desk: Desk, ids: Ids, metrics: Metrics) -> None:
        self._models = models
        self._desk = desk
        self._ids = ids
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._leaving: dict[Upstream, None] = {}

    def admit(self, name: str) -> LiveModel:
        """Take a place in flight at a model, to be given back by `release` or `predict`. Raises Problem."""
        model = self._models.get(name)
        if model is None:
            raise unknown_model(name)
        if not model.take_places(1):
            raise too_many(name, model.state.record.limits.max_in_flight)
        return model

    def release(self, model: LiveModel) -> None:
        model.in_flight -= 1

    async def predict(self, model: LiveModel, wish: Wish, body: bytes) -> Answer:
        """Answer one request that was admitted, for a caller that is a coroutine."""
        answered: asyncio.Future[Answer] = self._loop.create_future()
        self._serve(model, wish, [_Awaited(wish.headers, body, answered)], is_all=True)
        return await answered

    def answer(self, name: str, wish: Wish, requests: Sequence[Request], is_all: bool) -> None:
        """Answer requests of one round that ask alike, each step for all of them (see servicekit.rounds). is_all: the
        round has no others, and they leave at once; else when `flush` is called, for others may travel with them."""
        model = self._models.get(name)
        if model is None:
            for request in requests:
                request.answer(*self.refuse(unknown_model(name)))
            return
        places = model.take_places(len(requests))
        if places < len(requests):
            for request in requests[places:]:
                request.answer(*self.refuse(too_many(name, model.state.record.limits.max_in_flight), model))
            requests = requests[:places]
        if places:
            self._serve(model, wish, requests, is_all)

    def flush(self) -> None:
        """All that were taken in leave, as far as connections are free."""
        leaving, self._leaving = self._leaving, {}
        for upstream in leaving:
            try:
                upstream.flush()
            except Exception:  # a mistake with one variant's must not keep the others here
                logger.exception("requests could not be sent")

    def refuse(self, problem: Problem, model: LiveModel | None = None) -> Answer:
        """The answer to a request that was not routed."""
        self._metrics.rejected.labels(problem.code.value).inc()
        (self._metrics.unrouted if model is None else model.unrouted).tally.count(problem.status)
        return problem_answer(problem)

    def _serve(self, model: LiveModel, wish: Wish, requests: Sequence[Request], is_all: bool) -> None:
        state = model.state
        try:
            override = None if wish.is_plain else wishes.override(state, wish.variant, wish.headers)
            read = wish.reader(_vocabulary(state, override))
        except Exception as fault:
            for request in requests:
                self._turn_away(model, request, fault)
            return
        calls: list[Call] = []
        unread: list[Request] = []
        for request in requests:
            try:
                calls.append(read(request.body))
            except Exception as fault:
                unread.append(request)
                self._turn_away(model, request, fault)
        if unread:
            requests = [request for request in requests if request not in unread]
        if calls:
            self._begin(state, self._choose(model, state, wish, override, requests, calls), is_all)

    def _choose(  # noqa: PLR0917 - once a round
        self,
        model: LiveModel,
        state: State,
        wish: Wish,
        override: int | None,
        requests: Sequence[Request],
        calls: list[Call],
    ) -> list[Prediction]:
        """Who is to answer each of them. calls: what the requests' bodies say."""
        shared = Shared(self._desk, model, state, self._loop.time())
        try:
            if wish.is_plain and not state.is_sticky and False not in [call.batch.is_whole for call in calls]:
                return self._choose_usual(shared, requests, calls)
            keys: Iterable[str | None] = repeat(None, len(calls))
            if state.is_sticky:
                requests, calls, keys = self._keyed(model, state, requests, calls)
            raws, texts = self._ids.take(len(calls))
            owners = state.table.assigned(_names(keys, texts) if state.is_sticky else texts)
        except Exception as fault:
            for request in requests:
                self._turn_away(model, request, fault)
            return []
        now, headers = shared.arrived, wish.headers
        predictions = []
        for request, call, key, id, text_id, owner in zip(requests, calls, keys, raws, texts, owners, strict=True):
            try:
                rows = call.batch.rows
                fits = state.fits_of(call.batch) if call.wanted is None else _fits(state, call, call.wanted)
                choice = split.choose(
                    state.table, owner, key is not None, override, fits.eligible, state.takes_traffic, now
                )
                limit_s = wishes.time_left_s(state, call, headers)
                key_hash = 0 if key is None else buckets.key_hash(key)
                mark = _mark(state, rows, choice, fits)
            except Exception as fault:
                self._turn_away(model, request, fault)
                continue
            can_answer, deadline = fits.by_variant, now + limit_s
            predictions.append(
                Prediction(
                    shared, call, request, rows, id, text_id, choice.variant, mark, can_answer, deadline, key_hash
                )
            )
        return predictions

    def _choose_usual(self, shared: Shared, requests: Sequence[Request], calls: list[Call]) -> list[Prediction]:
        """The same in half the steps where bodies are usual and nothing but the split decides, as for most."""
        state, now = shared.state, shared.arrived
        raws, texts = self._ids.take(len(calls))
        owners = state.table.assigned(texts)
        fits, deadline = state.fits_whole, now + state.deadline_s
        one_row, can_answer = Mark(1, CHAMPION, "weight", fits.bits, 200), fits.by_variant
        predictions = []
        for request, call, id, text_id, owner in zip(requests, calls, raws, texts, owners, strict=True):
            rows, variant, mark = call.batch.rows, CHAMPION, one_row
            if owner != CHAMPION or rows > 1:
                choice = split.choose(state.table, owner, False, None, fits.eligible, state.takes_traffic, now)
                variant, mark = choice.variant, _mark(state, rows, choice, fits)
            predictions.append(
                Prediction(shared, call, request, rows, id, text_id, variant, mark, can_answer, deadline)
            )
        return predictions

    def _keyed(
        self, model: LiveModel, state: State, requests: Sequence[Request], calls: list[Call]
    ) -> tuple[list[Request], list[Call], list[str | None]]:
        """Those whose key can be told, and their keys."""
        kept: list[Request] = []
        kept_calls: list[Call] = []
        keys: list[str | None] = []
        for request, call in zip(requests, calls, strict=True):
            try:
                keys.append(wishes.sticky_key(state, call, request))
            except Exception as fault:
                self._turn_away(model, request, fault)
            else:
                kept.append(request)
                kept_calls.append(call)
        return kept, kept_calls, keys

    def _begin(self, state: State, predictions: list[Prediction], is_all: bool) -> None:
        """Turn to those who were chosen, to each with all that is theirs."""
        signature, max_rows = state.signatures[CHAMPION], state.record.limits.max_frame_rows
        champions: list[Ask] = []
        others: dict[int, list[Ask]] = {}
        for prediction in predictions:
            if prediction.variant == CHAMPION and signature is not None:  # as most are; first_ask, written out
                batch, deadline = prediction.call.batch, prediction.deadline
                champions.append(Ask(batch, signature, max_rows, deadline, prediction, prediction.rows))
                continue
            try:
                ask = prediction.first_ask()
            except Exception:  # a mistake with one request must not cost its neighbours their answers
                logger.exception("a request could not be sent", extra={"model": state.record.name})
                self._give_up(prediction)
                continue
            if ask is not None:  # one that has fallen back travels with the champion's own
                asks = champions if prediction.variant == CHAMPION else others.setdefault(prediction.variant, [])
                asks.append(ask)
        if champions:
            self._leave(state, CHAMPION, champions, predictions, is_all)
        if others:
            for variant, asks in others.items():
                self._leave(state, variant, asks, predictions, is_all)

    def _leave(self, state: State, variant: int, asks: list[Ask], predictions: list[Prediction], is_all: bool) -> None:
        """All that are asked of one variant; predictions: these and others of the round."""
        upstream = state.variants[variant].upstream
        try:
            if is_all:
                upstream.leave(asks)
            else:
                upstream.add(asks)
                self._leaving[upstream] = None
        except Exception:  # they must neither wait for ever nor keep their places
            logger.exception("requests could not be sent", extra={"model": state.record.name})
            for prediction in predictions:
                if prediction.variant == variant:
                    self._give_up(prediction)

    def _give_up(self, prediction: Prediction) -> None:
        """After a mistake of ours, unless it came when its end had been told."""
        if prediction.mark.status == 200:
            prediction.stand_back()
            self._desk.failed(prediction, our_mistake())

    def _turn_away(self, model: LiveModel, request: Request, fault: Exception) -> None:
        if isinstance(fault, Problem):
            problem = fault
        else:
            logger.error("a request could not be read", exc_info=fault)
            problem = our_mistake()
        model.in_flight -= 1
        request.answer(*self.refuse(problem, model))


def _mark(state: State, rows: int, choice: Choice, fits: Fits) -> Mark:
    """Of a request that was given to somebody; one that falls back is counted."""
    if choice.reason == "fallback":
        state.variants[choice.assigned].counts.fallbacks.inc()
    return Mark(rows, choice.assigned, choice.reason, fits.bits, 200)


def _names(keys: Iterable[str | None], ids: Sequence[bytes]) -> list[bytes]:
    """What the split goes by: a caller's key, or else the prediction's id."""
    return [id if key is None else key.encode() for key, id in zip(keys, ids, strict=True)]


def _vocabulary(state: State, override: int | None) -> Vocabulary:
    vocabulary = state.vocabularies[CHAMPION if override is None else override]
    if vocabulary is None:
        raise Problem(Code.NOT_READY, f"model {state.record.name!r} is not ready: its champion is not loaded yet")
    return vocabulary


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
