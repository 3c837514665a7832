"""Labels meet predictions, in any order, more than once, and contradicting each other.

(id, row, source) names a label. Said again it is a duplicate; said differently it is a conflict, and the
later statement wins (by observed_at, then by arrival). Of several sources the latest statement counts, once
a prediction. A label before its prediction is parked; what is still parked after the plan's parked_seconds
is unknown. A label whose id is older than pending_seconds is expired.
received = joined + duplicate + conflicting + unknown + expired + parked.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from kingmaker_contracts.feedback import FeedbackBatch, LabelEvent, label_text
from kingmaker_contracts.plan import Retention
from kingmaker_contracts.prediction_ids import unix_ms_of
from kingmaker_monitor.ingest import predictions
from kingmaker_monitor.ingest.judging import SHADOW, Judging, Stored, live_of
from kingmaker_monitor.state import ModelState
from kingmaker_monitor.store import Store


class _Known(NamedTuple):
    source: str
    label: str
    observed: int
    arrived: int
    parked: int


@dataclass(slots=True, frozen=True)
class Desk:
    """Where labels are taken in: one model, one round."""

    store: Store
    state: ModelState
    judging: Judging
    retention: Retention
    now_ms: int

    def take(self, batch: FeedbackBatch) -> None:
        for event in batch.labels:
            self._take(event, batch.received_at)

    def _take(self, event: LabelEvent, received_at: int) -> None:
        tally = self.state.tally
        tally.received += 1
        row, source, text = event.row or 0, event.source or "", label_text(event.label)
        observed = _observed_ms(event.observed_at, received_at)
        known = self._labels(event.id, row)
        mine = next((one for one in known if one.source == source), None)
        if mine is not None and mine.label == text:
            tally.duplicate += 1
            return
        answers = predictions.answers(self.store, self.state, event.id, row)
        is_live = any(answer.kind != SHADOW for answer in answers)
        if mine is not None:
            tally.conflicting += 1
            if observed < mine.observed:
                return
        elif is_live:
            tally.joined += 1
        elif unix_ms_of(event.id) < self.now_ms - self.retention.pending_seconds * 1000:
            tally.expired += 1
            return
        else:
            tally.parked += 1
        # arrival breaks ties of observed_at; within one round the later label has the larger number
        arrived = max([self.now_ms, *(one.arrived + 1 for one in known)])
        if mine is not None and mine.parked:
            arrived = mine.arrived  # a correction does not prolong the wait
        now = _Known(source, text, observed, arrived, int(not is_live))
        self.store.sql.execute(
            "INSERT OR REPLACE INTO labels VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
            (self.state.number, event.id, row, *now),
        )
        if is_live:
            self._judge(event.id, row, answers, known, [*(one for one in known if one.source != source), now])

    def _judge(self, id: bytes, row: int, answers: list[Stored], before: list[_Known], after: list[_Known]) -> None:
        """Replace what the old winner said by what the new one says."""
        old, new = _winner(before), _winner(after)
        if old is not None and new is not None and old.label == new.label:
            return
        if old is not None:
            self.judging.label(answers, old.label, -1)
        if new is not None:
            self.judging.label(answers, new.label, 1)
            self._mark(id, row, answers, new.label, is_first=old is None)

    def match(self, after: int) -> None:
        """Join this round's predictions with labels that were there first. after: from predictions.newest."""
        waiting = self.store.sql.execute(
            "SELECT DISTINCT p.id, p.row FROM predictions p CROSS JOIN labels l"
            " ON l.model = p.model AND l.id = p.id AND l.row = p.row WHERE p.number > ? AND p.model = ?",
            (after, self.state.number),
        ).fetchall()
        for id, row in waiting:
            answers = predictions.answers(self.store, self.state, id, row)
            if all(answer.kind == SHADOW for answer in answers):
                continue
            known = self._labels(id, row)
            winner = _winner(known)
            assert winner is not None  # noqa: S101 - the query found one
            earlier = [answer for answer in answers if answer.number <= after]
            if any(answer.kind != SHADOW for answer in earlier):
                self.judging.label(earlier, winner.label, -1)
            else:
                self._unpark(id, row, sum(one.parked for one in known))
                self._mark(id, row, answers, winner.label, is_first=True)
            self.judging.label(answers, winner.label, 1)

    def judge_late(self, arms: Collection[int]) -> None:
        """Enter what the labels say of these arms, whose profile came only now: until then it was nothing."""
        marks = ", ".join("?" * len(arms))
        labelled = self.store.sql.execute(
            "SELECT DISTINCT l.id, l.row FROM labels l CROSS JOIN predictions p"  # noqa: S608 - question marks
            f" ON p.model = l.model AND p.id = l.id AND p.row = l.row AND p.arm IN ({marks}) WHERE l.model = ?",
            (*arms, self.state.number),
        ).fetchall()
        for id, row in labelled:
            answers = predictions.answers(self.store, self.state, id, row)
            if all(answer.kind == SHADOW for answer in answers):
                continue
            winner = _winner(self._labels(id, row))
            assert winner is not None  # noqa: S101 - the query found one
            self.judging.label(answers, winner.label, 1, arms)
            if live_of(answers).arm in arms and self.judging.is_usable(answers, winner.label):
                self.state.tally.unusable -= 1  # as which it counted

    def _unpark(self, id: bytes, row: int, count: int) -> None:
        self.state.tally.parked -= count
        self.state.tally.joined += count
        self.store.sql.execute(
            "UPDATE labels SET parked = 0 WHERE model = ? AND id = ? AND row = ?", (self.state.number, id, row)
        )

    def _mark(self, id: bytes, row: int, answers: list[Stored], label: str, *, is_first: bool) -> None:
        """A live prediction has got its first label: it waits no longer."""
        if not self.judging.is_usable(answers, label):
            self.state.tally.unusable += 1
        if is_first:
            self.state.tally.pending -= self.store.sql.execute(
                "UPDATE predictions SET labelled = 1 WHERE model = ? AND id = ? AND row = ? AND kind <> ?"
                " AND labelled = 0",
                (self.state.number, id, row, SHADOW),
            ).rowcount

    def _labels(self, id: bytes, row: int) -> list[_Known]:
        found = self.store.sql.execute(
            "SELECT source, label, observed, arrived, parked FROM labels WHERE model = ? AND id = ? AND row = ?",
            (self.state.number, id, row),
        )
        return [_Known(*values) for values in found]


def give_up(store: Store, state: ModelState, now_ms: int, parked_s: int) -> int:
    """Labels that waited too long for a prediction become unknown; how many."""
    gone = store.sql.execute(
        "DELETE FROM labels WHERE parked = 1 AND model = ? AND arrived < ?", (state.number, now_ms - parked_s * 1000)
    ).rowcount
    state.tally.parked -= gone
    state.tally.unknown += gone
    return gone


def _winner(known: list[_Known]) -> _Known | None:
    return max(known, key=lambda one: (one.observed, one.arrived), default=None)


def _observed_ms(text: str | None, received_at: int) -> int:
    """When the truth was known; a missing or unreadable time counts as the time of arrival at the gateway."""
    if text is None:
        return received_at
    try:
        moment = datetime.fromisoformat(text)
        return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        return received_at
