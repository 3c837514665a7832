"""Where answers go out: frames of outputs into each request's own words, and no outcome unsaid, uncounted, unrecorded.

Requests of one frame are answered in steps that each are taken for all of them (see servicekit.rounds).
"""

import asyncio
import logging
from time import perf_counter, time_ns
from typing import Any, Final

from kingmaker_contracts.problems import Code, Problem
from kingmaker_gateway import codec, runs
from kingmaker_gateway.aftermath import Aftermath
from kingmaker_gateway.answers import ID_LINE, problem_answer
from kingmaker_gateway.coalescer import Ask, hand_out
from kingmaker_gateway.codec import Encoded
from kingmaker_gateway.frames import Frame, Slice
from kingmaker_gateway.prediction import Prediction
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
        self._recorder = recorder
        self._aftermath = Aftermath(recorder)
        self.now = asyncio.get_running_loop().time

    def deliver(self, frame: Frame, asks: list[Ask], firsts: list[int]) -> None:
        """Answer the members of a frame. See coalescer.Deliver."""
        if len(asks) == 1:
            asks[0].asker.answered(Slice(frame, firsts[0], asks[0].rows))
            return
        askers: list[Any] = [ask.asker for ask in asks]
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

    # prediction.Desk

    def answered(self, predictions: list[Prediction], frame: Frame, firsts: list[int]) -> None:
        """A variant has answered these. They share a state; firsts: where the rows of each begin."""
        state, variant = predictions[0].shared.state, predictions[0].variant
        name, version = state.record.name, state.answerers[variant].version
        if variant != CHAMPION:
            for prediction in predictions:
                prediction.praise()
        worded = predictions
        words: list[Encoded] = []
        for prediction, first in zip(predictions, firsts, strict=True):
            try:
                answer = Slice(frame, first, prediction.rows)
                words.append(prediction.call.encode(name, version, prediction.text_id, answer))
            except Exception:  # one answer that cannot be written must not cost its neighbours theirs
                logger.exception("an answer could not be encoded", extra={"model": name})
                self._refuse(prediction, our_mistake())
                worded = [other for other in worded if other is not prediction]
        latencies_s = _latencies_s(predictions)
        if worded is predictions:
            self._send(worded, words, latencies_s)
        elif worded:
            self._send(worded, words, _latencies_s(worded))
        self._aftermath.settle(predictions, frame, firsts, latencies_s)

    def failed(self, prediction: Prediction, problem: Problem) -> None:
        """No model answered."""
        self._refuse(prediction, problem)
        by = prediction.shared.state.answerers[prediction.variant]
        rows, arrays = prediction.rows, prediction.batch.arrays
        self._recorder.offer(
            runs.of(by, [prediction], _latencies_s([prediction]), time_ns() // 1000, rows, arrays, None)
        )

    def _send(self, predictions: list[Prediction], words: list[Encoded], latencies_s: list[float]) -> None:
        _close(predictions, 200, latencies_s)
        reasons = [prediction.mark.reason for prediction in predictions]
        if reasons.count(reasons[0]) == len(reasons):
            _send_alike(predictions, words)
            return
        for reason in set(reasons):
            members = [at for at, found in enumerate(reasons) if found == reason]
            _send_alike([predictions[at] for at in members], [words[at] for at in members])

    def _refuse(self, prediction: Prediction, problem: Problem) -> None:
        head = prediction.shared.state.head_of(prediction.variant, prediction.mark.reason)
        words = problem_answer(problem, head.routed)
        prediction.mark = prediction.mark._replace(status=words.status)
        _close([prediction], words.status, _latencies_s([prediction]))
        try:
            prediction.request.answer(words.status, words.headers, words.body, ID_LINE % prediction.text_id)
        except Exception as error:
            _could_not_be_sent(prediction, error)


def _latencies_s(predictions: list[Prediction]) -> list[float]:
    """Until now."""
    now = perf_counter()
    return [now - prediction.request.arrived for prediction in predictions]


def _close(predictions: list[Prediction], status: int, latencies_s: list[float]) -> None:
    """Count the answers of one variant, and give back their places in flight."""
    shared = predictions[0].shared
    shared.state.variants[predictions[0].variant].counts.tally.answered(status, latencies_s)
    shared.model.in_flight -= len(predictions)


def _send_alike(predictions: list[Prediction], words: list[Encoded]) -> None:
    """They were answered by one variant for the same reason."""
    first = predictions[0]
    head = first.shared.state.head_of(first.variant, first.mark.reason)
    if len(predictions) > 1:
        requests: list[Any] = [prediction.request for prediction in predictions]
        bodies, head_lengths = zip(*words, strict=True)
        if set(map(type, requests)) == _CALLS and head_lengths.count(None) == len(head_lengths):
            lines = [ID_LINE % prediction.text_id for prediction in predictions]
            for _, error in answer_all(requests, 200, head.json, bodies, lines):
                _could_not_be_sent(first, error)
            return
    for prediction, (body, head_length) in zip(predictions, words, strict=True):
        headers = head.json if head_length is None else [*head.routed, *codec.binary_headers(head_length)]
        try:
            prediction.request.answer(200, headers, body, ID_LINE % prediction.text_id)
        except Exception as error:  # it must not cost its neighbours theirs
            _could_not_be_sent(prediction, error)


def _could_not_be_sent(prediction: Prediction, error: Exception) -> None:
    logger.error("an answer could not be sent", exc_info=error, extra={"model": prediction.shared.model.name})


def our_mistake() -> Problem:
    return Problem(Code.INTERNAL, "a mistake of the gateway; its log has the details")
