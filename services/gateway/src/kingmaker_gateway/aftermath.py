"""What happens once the members of a frame have their answers: the recorder gets the frame, shadows get a copy.

Both by reference, a few steps a frame and next to nothing a request; no client waits for any of it.
"""

import logging
from time import time_ns
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kingmaker_contracts.inference import Tensor
from kingmaker_contracts.labels import Reason
from kingmaker_gateway import runs, split
from kingmaker_gateway.answerers import Answerer
from kingmaker_gateway.frames import Frame
from kingmaker_gateway.prediction import Prediction
from kingmaker_gateway.recorder import Recorder
from kingmaker_gateway.runs import Mark, Run
from kingmaker_gateway.split import CHAMPION
from kingmaker_gateway.state import State

logger = logging.getLogger(__name__)

_MIRRORED: Final[frozenset[Reason]] = frozenset({"weight", "sticky", "ineligible", "fallback"})


class Aftermath:
    """Stateless but for the recorder."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def settle(self, predictions: list[Prediction], frame: Frame, firsts: list[int], latencies_s: list[float]) -> None:
        """They have been answered out of this frame. firsts: where the rows of each begin; latencies_s: of each.

        Never raises: others who share their frame or their round may not have been answered yet.
        """
        state, variant = predictions[0].shared.state, predictions[0].variant
        by = state.answerers[variant]
        rows = predictions[0].rows if len(predictions) == 1 else sum([prediction.rows for prediction in predictions])
        is_theirs = rows == frame.rows
        try:
            arrays, outputs = (frame.arrays, frame.outputs) if is_theirs else _picked(frame, predictions, firsts)
            run = runs.of(by, predictions, latencies_s, time_ns() // 1000, rows, arrays, outputs)
        except Exception:
            self._lose(by, rows)
            return
        try:
            self._recorder.offer(run)
            if variant == CHAMPION and state.mirrors:
                self._mirror(frame if is_theirs else None, run, state, predictions)
        except Exception:
            logger.exception("answers could not be passed on", extra={"model": by.model, "rows": rows})

    def refused(self, prediction: Prediction, latency_s: float) -> None:
        """No model has answered it. Never raises either."""
        by = prediction.shared.state.answerers[prediction.variant]
        try:
            arrays = prediction.batch.arrays
            run = runs.of(by, [prediction], [latency_s], time_ns() // 1000, prediction.rows, arrays, None)
        except Exception:
            self._lose(by, prediction.rows)
            return
        try:
            self._recorder.offer(run)
        except Exception:
            logger.exception("a refusal could not be passed on", extra={"model": by.model, "rows": prediction.rows})

    def _lose(self, by: Answerer, rows: int) -> None:
        logger.exception("answers could not be recorded", extra={"model": by.model, "rows": rows})
        self._recorder.lose(by.model, rows)

    def _mirror(self, frame: Frame | None, run: Run, state: State, predictions: list[Prediction]) -> None:
        """frame: when it holds these predictions and nobody else; run: theirs."""
        for index, percent in state.mirrors:
            signature, shadow = state.signatures[index], state.variants[index].shadow
            if signature is None or shadow is None:
                continue
            by, max_rows = state.answerers[index], state.record.limits.max_frame_rows
            if percent == 100 and _all_are_copied(run.marks, index):
                shadow.offer(predictions, run, frame, signature, by, max_rows)
                continue
            salt, name = state.table.salt, state.table.variants[index]
            copied = [
                p
                for p in predictions
                if p.can_answer[index]
                and p.failed_variant != index
                and p.mark.reason in _MIRRORED
                and (percent == 100 or split.is_mirrored(salt, name, percent, p.text_id))
            ]
            if len(copied) == len(predictions):
                shadow.offer(copied, run, frame, signature, by, max_rows)
            elif copied:
                shadow.offer(copied, None, None, signature, by, max_rows)


def _all_are_copied(marks: list[Mark], index: int) -> bool:
    """Whether it is plain without a look at each of these requests that this shadow gets them all."""
    if len(marks) > 1:
        return False
    _, _, reason, eligible, _ = marks[0]
    return reason in _MIRRORED and reason != "fallback" and bool(eligible >> (index - 1) & 1)


def _picked(
    frame: Frame, predictions: list[Prediction], firsts: list[int]
) -> tuple[dict[str, NDArray[Any]], list[Tensor]]:
    """The rows of these members alone, of inputs and outputs."""
    members = zip(predictions, firsts, strict=True)
    index = np.concatenate([np.arange(first, first + prediction.rows) for prediction, first in members])
    arrays = {name: array[index] for name, array in frame.arrays.items()}
    return arrays, [Tensor(tensor.name, tensor.datatype, tensor.array[index]) for tensor in frame.outputs]
