"""One routed request on its way: which variant is asked, who stands in for it, and how it ends.

A state object with two callbacks instead of a task: a request costs no future and no turn of the scheduler.
Afterwards its id, mark, key and latency are what the recorder keeps of it.
"""

import logging
from collections.abc import Sequence
from typing import Protocol

import msgspec

from kingmaker_contracts.labels import Reason
from kingmaker_contracts.problems import Code, Problem
from kingmaker_gateway.answers import Request
from kingmaker_gateway.batch import Batch
from kingmaker_gateway.breaker import Breaker
from kingmaker_gateway.coalescer import Ask
from kingmaker_gateway.errors import UpstreamError, UpstreamTimeout, UpstreamUnreachable
from kingmaker_gateway.frames import Frame, Slice
from kingmaker_gateway.models import LiveModel
from kingmaker_gateway.protocols import Call
from kingmaker_gateway.runs import UNANSWERED, Mark
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


class Prediction(msgspec.Struct, eq=False, gc=False):
    """arrived, deadline: the loop's clock, which uvloop keeps to the millisecond; failed_variant: a challenger that was
    asked in vain, -1: none; can_answer: by variant, eligible: the same as contracts.events has it; mark, latency_s: set
    when it ends. A Struct like Ask, for one is made for every request.
    """

    desk: Desk
    model: LiveModel
    state: State
    call: Call
    request: Request
    rows: int
    id: bytes
    text_id: bytes
    key_hash: int
    variant: int
    assigned: int
    reason: Reason
    can_answer: Sequence[bool]
    eligible: int
    arrived: float
    deadline: float
    failed_variant: int = -1
    mark: Mark = UNANSWERED
    latency_s: float = 0.0

    def first_ask(self) -> Ask | None:
        """What to ask the chosen variant. None: the desk has been told the end."""
        deadline = self.deadline
        if self._has_substitute:
            now = self.desk.now()
            if self._live.breaker.admits(now):
                deadline = now + (deadline - now) * _CHALLENGERS_SHARE
            else:  # a neighbour of this round is the probe
                self.variant, self.reason = CHAMPION, "fallback"
        return self._ask(deadline)

    @property
    def is_hurried(self) -> bool:
        """Whether the client gave less time than the model's own deadline."""
        return round((self.deadline - self.arrived) * 1000) < self.state.record.limits.deadline_ms

    @property
    def batch(self) -> Batch:
        return self.call.batch

    # coalescer.Asker

    def answered(self, answer: Slice) -> None:
        self.desk.answered([self], answer.frame, [answer.first])

    def failed(self, error: UpstreamError) -> None:
        live = self._live
        if isinstance(error, UpstreamTimeout):
            live.counts.abandoned.inc()
        elif live.signature is not None:
            live.counts.upstream_failures.inc()
            logger.debug("attempt failed", extra={"variant": live.routed.name, "reason": str(error)})
        if not self._has_substitute:
            self.desk.failed(self, self._problem(error))
            return
        before = live.breaker.state
        if isinstance(error, UpstreamTimeout) and self.is_hurried:
            live.breaker.abandoned()  # a client's haste says nothing about the challenger's health
        else:
            live.breaker.failed(self.desk.now())
        if live.breaker.state is not before:
            _told(live, live.breaker, str(error))
        self.failed_variant = self.variant
        self.variant, self.reason = CHAMPION, "fallback"
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
        return self.state.variants[self.variant]

    @property
    def _has_substitute(self) -> bool:
        return self.variant != CHAMPION and self.reason != "override"

    def _ask(self, deadline: float) -> Ask | None:
        """None: the variant cannot be asked, and that was dealt with."""
        signature = self.state.signatures[self.variant]
        if signature is None:
            self.failed(UpstreamError("no signature"))
            return None
        return Ask(self.call.batch, signature, self.state.record.limits.max_frame_rows, deadline, self, self.rows)

    def _problem(self, error: UpstreamError) -> Problem:
        if isinstance(error, UpstreamTimeout):
            allowed = round((self.deadline - self.arrived) * 1000)
            return Problem(Code.DEADLINE_EXCEEDED, f"no answer within {allowed} ms")
        name = self.state.table.variants[self.variant]
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
