"""A request with more rows than a frame takes: one part after another, then the whole as if it had been one frame.

One part at a time, so that a client with ten thousand rows takes its turn like everybody else.
"""

import logging
from collections.abc import Callable, Sequence

import numpy as np

from kingmaker_contracts.inference import Tensor
from kingmaker_gateway import frames
from kingmaker_gateway.coalescer import Ask, Deliver
from kingmaker_gateway.errors import UpstreamError, UpstreamGarbage
from kingmaker_gateway.frames import Slice

logger = logging.getLogger(__name__)


class Parts:
    """Asker of each part in turn. ask: the whole; add: how a part is sent; deliver: what to do with the whole."""

    def __init__(self, ask: Ask, add: Callable[[Ask], None], deliver: Deliver) -> None:
        self._ask = ask
        self._add = add
        self._deliver = deliver
        self._answers: list[Sequence[Tensor]] = []
        self._next = 0

    @property
    def is_hurried(self) -> bool:
        return self._ask.asker.is_hurried

    def begin(self) -> None:
        """Send the next part. Never raises: whoever brought the last one has others to answer."""
        whole = self._ask
        first = self._next
        rows = min(whole.max_rows, whole.rows - first)
        self._next = first + rows
        try:
            self._add(Ask(whole.batch, whole.signature, whole.max_rows, whole.deadline, self, rows, first))
        except Exception as error:
            logger.exception("part of a large request could not be sent")
            self.failed(UpstreamError(f"a part that could not be sent: {error!r}"))

    def answered(self, answer: Slice) -> None:
        self._answers.append(answer.tensors)
        batch = self._ask.batch
        if self._next < batch.rows:
            self.begin()
            return
        frame = frames.join([self._ask], self._ask.signature)
        try:
            frame.outputs = [
                Tensor(column[0].name, column[0].datatype, np.concatenate([part.array for part in column]))
                for column in zip(*self._answers, strict=True)
            ]
        except ValueError as error:  # each part was a good answer, but a row's shape differs
            self.failed(UpstreamGarbage(f"the parts' outputs do not go together: {error}"))
            return
        self._deliver(frame, [self._ask], [0])

    def failed(self, error: UpstreamError) -> None:
        self._ask.asker.failed(error)
