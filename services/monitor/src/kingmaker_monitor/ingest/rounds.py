"""Everything the monitor has counted, in memory and on disk, and the only way to change it: transactions.

Memory is changed along the way, so a round that fails leaves it untrustworthy; the owner then loads it
anew from the file. `Book.apply` does that, and gives up an entry that fails alone, so that no entry can
stop the monitor.
"""

import logging
import sqlite3
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from itertools import groupby
from typing import Final

from kingmaker_contracts.plan import Plan
from kingmaker_monitor import accounts
from kingmaker_monitor.errors import Superseded
from kingmaker_monitor.ingest import gone_models, idle_profiles, labels, predictions
from kingmaker_monitor.ingest.changes import Changes
from kingmaker_monitor.ingest.decoding import Decoded, Read, Stream, decode
from kingmaker_monitor.ingest.judging import Judging
from kingmaker_monitor.ingest.round import Round
from kingmaker_monitor.positions import Extent, Position, Standing, standing
from kingmaker_monitor.profiles import Profiles
from kingmaker_monitor.state import ModelState
from kingmaker_monitor.store import Store
from kingmaker_monitor.windows import PANE_MS, TOTAL, oldest_kept, pane_of

logger = logging.getLogger(__name__)

EXPIRE_PIECE: Final = 5_000
"""Predictions forgotten in one transaction: 15 ms, and little for its log to grow by."""
EXPIRE_ROWS: Final = 50_000
"""Predictions forgotten before reading goes on: once a second while more are left, so faster than any that come."""


class Book:
    """Everything the monitor has counted, in memory and in the store. Used by one thread only.

    closed_lives: gateways' lives of a stream that are over and are kept one by one, see `accounts.finished`.
    """

    def __init__(self, store: Store, profiles: Profiles, closed_lives: int = 100) -> None:
        self._store = store
        self._closed_lives = closed_lives
        self.profiles = profiles
        self._aging: deque[str] = deque()
        """Models that may still have predictions whose time is up."""
        self._profiles_of = 0
        """The pane in which idle profiles were last looked for: it costs a look at every arm."""
        self._has_gone = True
        """Whether the file may hold models that are not there; the first look tells."""
        self.is_overdue = False
        """Whether to tidy at the next look: more is to be forgotten than one turn takes, or a plan may say so."""
        self.models: dict[str, ModelState] = {}
        self.is_stale = False
        """Whether memory may say more than the file: it was to be loaded anew, and that failed too."""
        self.mishaps = store.mishaps()
        """Of the state file, until now: it is only set aside when it is opened."""
        self.load()

    def load(self) -> None:
        """Make memory what the store says. Versions go on rising: what was made of one before is not shown again."""
        self.is_stale = True
        models = self._store.load()
        for name, state in models.items():
            state.version = self.models[name].version + 1 if name in self.models else 0
        self.models = models
        self.profiles.rest_in(self._store.profile, self._store.profiles())
        self.is_stale = False

    def learn(self, sha256: str, raw: bytes | None, now_ms: int) -> None:
        """Take in a profile as fetched. Labels that met their predictions before it are judged now; not so by one the
        file has but cannot read any more, for they were."""
        is_new = sha256 not in self._store.profiles()
        if not self.profiles.learn(sha256, raw) or raw is None:
            return
        try:
            with self._guarded():
                self._store.save_profile(sha256, raw)
                for state in self.models.values():
                    if is_new:
                        self._judge_by(sha256, state, now_ms)
                    state.version += 1  # what was counted can be judged now
        except Exception:
            self.profiles.unlearn(sha256)
            raise

    def follow(self, plans: Mapping[str, Plan | None], tokens: Mapping[str, int]) -> None:
        """Know these models and what is planned for them. A plan of None keeps the last good one.

        tokens: of our leases; raises Superseded when the file knows a higher one.
        """
        with self._guarded():
            for name, token in tokens.items():
                state = self.models.get(name)
                if state is None:
                    state = self.models[name] = self._store.new_model(name)
                self._store.take_over(state, token)
                plan = plans.get(name)
                if plan is not None and plan != state.plan:
                    state.plan = plan
                    state.version += 1
                    self.is_overdue = True
                    self._store.save_plan(state, plan)
                    self._store.load_totals(state)

    def tokens(self, names: Iterable[str]) -> dict[str, int]:
        """What the file knows of the leases of these models."""
        return {name: self.models[name].token if name in self.models else 0 for name in names}

    def place(self, stream: Stream, extent: Extent) -> Standing:
        """Look where a stream stands beside us: count what was trimmed unread, start anew when it is another."""
        state = self.models[stream.model]
        found = standing(state.positions.get(stream.key, Position()), extent)
        if found.trimmed or found.replaced:
            with self._guarded():
                self._store.check_token(state)
                state.positions[stream.key] = found.position
                state.tally.replaced += found.replaced
                if stream.kind == "events":
                    state.tally.trimmed_events += found.trimmed
                else:
                    state.tally.trimmed_feedback += found.trimmed
                state.version += 1
                self._store.save_progress(state, ())
            logger.warning(
                "stream replaced, reading it from its beginning" if found.replaced else "entries trimmed unread",
                extra={"stream": stream.key, "trimmed": found.trimmed},
            )
        return found

    def fold(self, stream: Stream, extent: Extent, acked: Collection[str]) -> None:
        """Keep only the sum of gateways' lives that are over and have left the stream. acked: producers of this stream
        whose ack is still there."""
        state = self.models[stream.model]
        mine = {one: account for one, account in state.accounts.items() if one.partition == stream.partition}
        speaking = [one for one in mine if one.id in acked]
        gone = accounts.finished(mine, first_entry=extent.first, acked=speaking, keep=self._closed_lives)
        if not gone:
            return
        with self._guarded():
            self._store.check_token(state)
            self._store.fold(state, gone)
            self._store.save_progress(state, ())
            state.version += 1

    def slide(self, now_ms: int) -> None:
        """Move every window to now."""
        with self._guarded():
            for state in self.models.values():
                self._store.slide(state, now_ms)

    def apply(self, reads: Iterable[Decoded], now_ms: int) -> None:
        """Commit a round. Raises Superseded and sqlite3.Error, after which memory is as before the round."""
        reads = list(reads)
        self._trust()
        try:
            self._commit(reads, now_ms)
        except (sqlite3.Error, Superseded):
            self.load()
            raise
        except Exception:  # a fault of ours must not stop the reading: find the entry that has it
            logger.exception("a round failed, taking its entries one by one")
            self.load()
            for read in reads:
                self._salvage(read, now_ms)

    def tidy(self, now_ms: int, read_until: Mapping[str, int] | None = None) -> None:
        """Forget what has outlived its retention: parked labels, pending predictions, old panes, idle profiles.

        read_until: by model, unix milliseconds up to which its streams are read, without it now: what came in time and
        lies unread behind that, as after a monitor was away, is still to be met.
        """
        waited = read_until or {}
        self.profiles.rest()
        with self._guarded():
            for state in self.models.values():
                until = min(now_ms, waited.get(state.name, now_ms))
                gone = labels.give_up(self._store, state, until, state.retention.parked_seconds)
                self._note(state, gone)
                self._store.slide(state, now_ms)  # what is deleted must have left the windows
            self._store.sql.execute(
                "DELETE FROM aggregates WHERE pane <> ? AND pane < ?", (TOTAL, oldest_kept(now_ms) - PANE_MS)
            )
            if pane_of(now_ms) != self._profiles_of:
                self._profiles_of = pane_of(now_ms)
                in_use = self.profiles.in_use
                self.profiles.forget(idle_profiles.forget(self._store, self.models.values(), in_use, now_ms))
        self._expire(now_ms, waited)

    def _judge_by(self, sha256: str, state: ModelState, now_ms: int) -> None:
        arms = {number for arm, number in state.arms.items() if arm.schema == sha256 and not arm.segment}
        if not arms:
            return
        self._store.check_token(state)
        judging = Judging({number: arm for arm, number in state.arms.items()}, self.profiles)
        labels.Desk(self._store, state, judging, state.retention, now_ms).judge_late(arms)
        changes = Changes()
        judging.count(changes)
        changes.save(state, self._store, now_ms)
        self._store.save_progress(state, ())

    def forget_gone(self, there: Set[str], now_ms: int) -> None:
        """Forget, a piece a turn, models that have been away for long. there: those Redis names."""
        if not self._has_gone and there >= self.models.keys():
            return
        with self._guarded():
            for name in gone_models.forget(self._store, self.models.values(), there, now_ms):
                logger.info("a model that is gone is forgotten", extra={"model": name})
                del self.models[name]
        self._aging = deque(name for name in self._aging if name in self.models)
        self._has_gone = not there >= self.models.keys()

    def _expire(self, now_ms: int, waited: Mapping[str, int]) -> None:
        """The models in turn, a piece each, until nothing is left or it is enough for now."""
        if not self._aging:
            self._aging.extend(self.models)
        gone = 0
        while self._aging and gone < EXPIRE_ROWS:
            name = self._aging.popleft()
            state = self.models[name]
            until = min(now_ms, waited.get(name, now_ms))
            with self._guarded():
                piece = predictions.expire(
                    self._store, state, until, state.retention.pending_seconds, at_most=EXPIRE_PIECE
                )
                self._note(state, piece)
            gone += piece
            if piece == EXPIRE_PIECE:
                self._aging.append(name)
        self.is_overdue = bool(self._aging)

    def _note(self, state: ModelState, gone: int) -> None:
        if gone:
            state.version += 1
            self._store.save_progress(state, ())

    def _trust(self) -> None:
        if self.is_stale:
            self.load()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        self._trust()
        try:
            with self._store.transaction():
                yield
        except Exception:
            self.load()
            raise

    def _commit(self, reads: list[Decoded], now_ms: int) -> None:
        with self._store.transaction():
            for model, its_reads in groupby(sorted(reads, key=_model), key=_model):
                state = self.models.get(model)
                if state is not None:
                    self._store.check_token(state)
                    Round(self._store, self.profiles, state, now_ms).run(list(its_reads))

    def _salvage(self, read: Decoded, now_ms: int) -> None:
        parts = [Decoded(read.stream, None, batches=[batch]) for batch in read.batches]
        parts += [Decoded(read.stream, None, labels=[batch]) for batch in read.labels]
        failed = 0
        for part in parts:
            try:
                self._commit([part], now_ms)
            except (sqlite3.Error, Superseded):
                self.load()
                raise
            except Exception:  # as above: this is the entry
                logger.exception("stream entry given up", extra={"stream": read.stream.key})
                failed += 1
                self.load()
        rest = Decoded(
            read.stream, read.last, read.acks, read.ended, read.entries,
            malformed=read.malformed + failed, newest=read.newest,
        )  # fmt: skip
        self._commit([rest], now_ms)


def read_and_apply(book: Book, reads: list[Read], now_ms: int) -> None:
    """Decode and commit, for callers that need no profile fetched in between."""
    book.apply([decode(read) for read in reads], now_ms)


def _model(read: Decoded) -> str:
    return read.stream.model
