"""Where answers go out: frames of outputs into each request's own words, and no outcome unsaid, uncounted, unrecorded.

Requests of one frame are answered in steps that each are taken for all of them (see servicekit.rounds).
"""

import asyncio
import logging
from time import perf_counter
from typing import Any, Final

from kingmaker_contracts.problems import Code, Problem
from kingmaker_gateway import codec, protocols
from kingmaker_gateway.aftermath import Aftermath
from kingmaker_gateway.answers import ID, ID_LINE, Headers, problem_answer
from kingmaker_gateway.coalescer import Ask, hand_out
from kingmaker_gateway.frames import Frame, Slice
from kingmaker_gateway.prediction import Prediction, Shared
from kingmaker_gateway.recorder import Recorder
from kingmaker_gateway.split import CHAMPION
from kingmaker_servicekit.fast_answers import answer_all
from kingmaker_servicekit.fast_http import Call

logger = logging.getLogger(__name__)

_PREDICTIONS: Final = {Prediction}
_CALLS: Final = {Call}


class Desk:
    """recorder: told of all that was answered, or was not."""

    def __init__(self, recorder: Recorder) -> None:
        self._aftermath = Aftermath(recorder)
        self.now = asyncio.get_running_loop().time

    def deliver(self, frame: Frame, asks: list[Ask], firsts: list[int]) -> None:
        """Answer the members of a frame. See coalescer.Deliver."""
        askers: list[Any] = [ask.asker for ask in asks]
        if len(asks) == 1 and askers[0].__class__ is Prediction:
            self.answered(askers, frame, firsts)
            return
        if set(map(type, askers)) == _PREDICTIONS:
            states = [prediction.shared.state for prediction in askers]
            if states.count(states[0]) == len(states):
                self.answered(askers, frame, firsts)
                return
        self._deliver_apart(frame, asks, firsts)

    def _deliver_apart(self, frame: Frame, asks: list[Ask], firsts: list[int]) -> None:
        """Some are parts of large requests, or routing changed while they were on their way."""
        groups: dict[int, tuple[list[Prediction], list[int]]] = {}
        for ask, first in zip(asks, firsts, strict=True):
            prediction = ask.asker
            if prediction.__class__ is not Prediction:
                hand_out(frame, [ask], [first])
                continue
            predictions, own_firsts = groups.setdefault(id(prediction.shared.state), ([], []))
            predictions.append(prediction)
            own_firsts.append(first)
        for predictions, own_firsts in groups.values():
            self.answered(predictions, frame, own_firsts)

    def _answer_several(self, predictions: list[Prediction], frame: Frame, firsts: list[int]) -> list[float]:
        """Gives how long each took."""
        requests: list[Any] = [prediction.request for prediction in predictions]
        bodies = _bodies_of_all(predictions, requests, frame)
        if bodies is not None:
            return _answer_all(predictions, requests, bodies)
        return [
            self._answer(prediction, Slice(frame, first, prediction.rows))
            for prediction, first in zip(predictions, firsts, strict=True)
        ]

    # prediction.Desk

    def answered(self, predictions: list[Prediction], frame: Frame, firsts: list[int]) -> None:
        """A variant has answered these. They share a state; firsts: where the rows of each begin."""
        if predictions[0].variant != CHAMPION:
            for prediction in predictions:
                prediction.praise()
        if len(predictions) == 1:
            latencies_s = [self._answer(predictions[0], Slice(frame, firsts[0], predictions[0].rows))]
        else:
            latencies_s = self._answer_several(predictions, frame, firsts)
        self._aftermath.settle(predictions, frame, firsts, latencies_s)

    def failed(self, prediction: Prediction, problem: Problem) -> None:
        """No model answered."""
        self._aftermath.refused(prediction, self._refuse(prediction, problem))

    def _answer(self, prediction: Prediction, answer: Slice) -> float:
        """Gives how long it took, as the others do."""
        state, variant = prediction.shared.state, prediction.variant
        name, version = state.record.name, state.answerers[variant].version
        try:
            body, head_length = prediction.call.encode(name, version, prediction.text_id, answer)
        except Exception:  # one answer that cannot be written must not cost its neighbours theirs
            logger.exception("an answer could not be encoded", extra={"model": name})
            return self._refuse(prediction, our_mistake())
        head = state.head_of(variant, prediction.mark.reason)
        headers = head.json if head_length is None else [*head.routed, *codec.binary_headers(head_length)]
        return _send(prediction, 200, headers, body)

    @staticmethod
    def _refuse(prediction: Prediction, problem: Problem) -> float:
        head = prediction.shared.state.head_of(prediction.variant, prediction.mark.reason)
        words = problem_answer(problem, head.routed)
        prediction.mark = prediction.mark._replace(status=words.status)
        return _send(prediction, words.status, words.headers, words.body)


def _bodies_of_all(predictions: list[Prediction], requests: list[Any], frame: Frame) -> list[bytes] | None:
    """What to say to each, when their answers differ in that and their ids alone. None: when not."""
    state, variant, reason = predictions[0].shared.state, predictions[0].variant, predictions[0].mark.reason
    if [prediction.mark.reason for prediction in predictions].count(reason) < len(predictions):
        return None
    if set(map(type, requests)) != _CALLS:
        return None
    calls, ids = [prediction.call for prediction in predictions], [prediction.text_id for prediction in predictions]
    try:
        return protocols.encode_together(calls, state.record.name, state.answerers[variant].version, ids, frame)
    except Exception:  # whom it concerns will be told when answered alone
        return None


def _answer_all(predictions: list[Prediction], calls: list[Call], bodies: list[bytes]) -> list[float]:
    shared, variant, reason = predictions[0].shared, predictions[0].variant, predictions[0].mark.reason
    ids = [prediction.text_id for prediction in predictions]
    now = perf_counter()
    latencies_s = [now - call.arrived for call in calls]
    shared.state.variants[variant].counts.tally.answered_together(200, latencies_s)
    shared.model.in_flight -= len(calls)
    headers = shared.state.head_of(variant, reason).json
    for _, error in answer_all(calls, 200, headers, bodies, name=ID, values=ids):
        _could_not_be_sent(shared, error)
    return latencies_s


def _send(prediction: Prediction, status: int, headers: Headers, body: bytes) -> float:
    shared, request = prediction.shared, prediction.request
    latency_s = perf_counter() - request.arrived
    shared.state.variants[prediction.variant].counts.tally.answered(status, latency_s)
    shared.model.in_flight -= 1
    try:
        request.answer(status, headers, body, ID_LINE % prediction.text_id)
    except Exception as error:  # nor one that cannot be sent
        _could_not_be_sent(shared, error)
    return latency_s


def _could_not_be_sent(shared: Shared, error: Exception) -> None:
    logger.error("an answer could not be sent", exc_info=error, extra={"model": shared.model.name})


def our_mistake() -> Problem:
    return Problem(Code.INTERNAL, "a mistake of the gateway; its log has the details")
