"""One routed request on its way: which variant is asked, who stands in for it, and how it ends.

A state object with two callbacks instead of a task: a request costs no future and no turn of the scheduler.
Afterwards its id, mark and key are what the recorder keeps of it.
"""

import logging
from collections.abc import Sequence
from typing import Protocol

import msgspec

from kingmaker_contracts.problems import Code, Problem
from kingmaker_gateway.answers import Request
from kingmaker_gateway.batch import Batch
from kingmaker_gateway.breaker import Breaker
from kingmaker_gateway.coalescer import Ask
from kingmaker_gateway.errors import UpstreamError, UpstreamTimeout, UpstreamUnreachable
from kingmaker_gateway.frames import Frame, Slice
from kingmaker_gateway.models import LiveModel
from kingmaker_gateway.protocols import Call
from kingmaker_gateway.runs import Mark
from kingmaker_gateway.split import CHAMPION
from kingmaker_gateway.state import State
from kingmaker_gateway.variants import LiveVariant

logger = logging.getLogger(__name__)

_CHALLENGERS_SHARE = 0.5
"""Of what is left of the deadline: the champion keeps the other half for a fallback."""


class Desk(Protocol):
    """Where answers go out: `failed` is called, once, or `answered` with those of the same frame."""

    def answered(self, predictions: "list[Prediction]", frame: Frame, firsts: list[int]) -> None: ...

    def failed(self, prediction: "Prediction", problem: Problem) -> None: ...

    def now(self) -> float: ...


class Shared(msgspec.Struct, eq=False, frozen=True):
    """What requests of a round that ask alike have in common. arrived: the loop's clock, which uvloop keeps to the
    millisecond."""

    desk: Desk
    model: LiveModel
    state: State
    arrived: float


class Prediction(msgspec.Struct, eq=False, gc=False):
    """mark: as it is recorded, with status 200 until it ends in another way; can_answer: by variant; deadline: the
    loop's clock; failed_variant: a challenger that was asked in vain, -1: none. A Struct like Ask, for one is made for
    every request.
    """

    shared: Shared
    call: Call
    request: Request
    rows: int
    id: bytes
    text_id: bytes
    variant: int
    mark: Mark
    can_answer: Sequence[bool]
    deadline: float
    key_hash: int = 0
    failed_variant: int = -1

    def first_ask(self) -> Ask | None:
        """What to ask the chosen variant. None: the desk has been told the end."""
        deadline = self.deadline
        if self._has_substitute:
            now = self.shared.desk.now()
            if self._live.breaker.admits(now):
                deadline = now + (deadline - now) * _CHALLENGERS_SHARE
            else:  # a neighbour of this round is the probe
                self._fall_back()
        return self._ask(deadline)

    def stand_back(self) -> None:
        """It is not asked after all, so it is no challenger's probe."""
        if self._has_substitute:
            self._live.breaker.abandoned()

    @property
    def is_hurried(self) -> bool:
        """Whether the client gave less time than the model's own deadline."""
        return self._allowed_ms < self.shared.state.record.limits.deadline_ms

    @property
    def batch(self) -> Batch:
        return self.call.batch

    # coalescer.Asker

    def answered(self, answer: Slice) -> None:
        """As every asker; a desk that is given frames answers predictions itself, those of a frame together."""
        self.shared.desk.answered([self], answer.frame, [answer.first])

    def failed(self, error: UpstreamError) -> None:
        live = self._live
        if isinstance(error, UpstreamTimeout):
            live.counts.abandoned.inc()
        elif live.signature is not None:
            live.counts.upstream_failures.inc()
            logger.debug("attempt failed", extra={"variant": live.routed.name, "reason": str(error)})
        if not self._has_substitute:
            self.shared.desk.failed(self, self._problem(error))
            return
        before = live.breaker.state
        if isinstance(error, UpstreamTimeout) and self.is_hurried:
            live.breaker.abandoned()  # a client's haste says nothing about the challenger's health
        else:
            live.breaker.failed(self.shared.desk.now())
        if live.breaker.state is not before:
            _told(live, live.breaker, str(error))
        self.failed_variant = self.variant
        self._fall_back()
        ask = self._ask(self.deadline)
        if ask is not None:
            self._live.upstream.ask(ask)

    def praise(self) -> None:
        """A challenger has answered."""
        if self._has_substitute:
            breaker = self._live.breaker
            before = breaker.state
            breaker.succeeded()
            if breaker.state is not before:
                _told(self._live, breaker, "")

    @property
    def _live(self) -> LiveVariant:
        return self.shared.state.variants[self.variant]

    @property
    def _has_substitute(self) -> bool:
        return self.variant != CHAMPION and self.mark.reason != "override"

    @property
    def _allowed_ms(self) -> int:
        return round((self.deadline - self.shared.arrived) * 1000)

    def _fall_back(self) -> None:
        self.variant, self.mark = CHAMPION, self.mark._replace(reason="fallback")
        self.shared.state.variants[self.mark.assigned].counts.fallbacks.inc()

    def _ask(self, deadline: float) -> Ask | None:
        """None: the variant cannot be asked, and that was dealt with."""
        state = self.shared.state
        signature = state.signatures[self.variant]
        if signature is None:
            self.failed(UpstreamError("no signature"))
            return None
        return Ask(self.call.batch, signature, state.record.limits.max_frame_rows, deadline, self, self.rows)

    def _problem(self, error: UpstreamError) -> Problem:
        if isinstance(error, UpstreamTimeout):
            return Problem(Code.DEADLINE_EXCEEDED, f"no answer within {self._allowed_ms} ms")
        name = self.shared.state.table.variants[self.variant]
        if isinstance(error, UpstreamUnreachable):
            return Problem(Code.NOT_READY, f"variant {name!r} has no model server that can be reached")
        return Problem(Code.UPSTREAM_FAILED, f"variant {name!r} gave no usable answer")


def _told(live: LiveVariant, breaker: Breaker, reason: str) -> None:
    level = logging.WARNING if reason else logging.INFO
    logger.log(
        level,
        "breaker changed",
        extra={"variant": live.routed.name, "state": breaker.state.name, "reason": reason},
    )
