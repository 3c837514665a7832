"""One round: everything that was read at once becomes counts, rows and offsets in one transaction.

Memory is changed along the way, so a round that fails leaves it untrustworthy; the owner then loads it
anew from the file. `Book.apply` does that, and gives up an entry that fails alone, so that no entry can
stop the monitor.
"""

import logging
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby

from kingmaker_contracts.events import EventBatch
from kingmaker_contracts.plan import Plan, Retention
from kingmaker_monitor.accounts import Account
from kingmaker_monitor.ingest import fold, labels, predictions
from kingmaker_monitor.ingest.changes import Changes
from kingmaker_monitor.ingest.decoding import Decoded, Read, decode
from kingmaker_monitor.ingest.judging import Judging
from kingmaker_monitor.profiles import Profiles
from kingmaker_monitor.state import Arm, ModelState, Producer
from kingmaker_monitor.store import Store
from kingmaker_monitor.windows import KEEP_MS, TOTAL, pane_of

logger = logging.getLogger(__name__)


class Book:
    """Everything the monitor has counted, in memory and in the store. Used by one thread only."""

    def __init__(self, store: Store, profiles: Profiles) -> None:
        self._store = store
        self.profiles = profiles
        self.models: dict[str, ModelState] = {}
        self.load()

    def load(self) -> None:
        """Make memory what the store says."""
        self.models = self._store.load()
        for sha256, raw in self._store.profiles():
            self.profiles.learn(sha256, raw)

    def learn(self, sha256: str, raw: bytes | None) -> None:
        """Take in a profile as fetched."""
        if self.profiles.learn(sha256, raw) and raw is not None:
            self._store.save_profile(sha256, raw)
            for state in self.models.values():
                state.version += 1  # what was counted can be judged now

    def follow(self, plans: dict[str, Plan | None]) -> None:
        """Know these models and what is planned for them. A plan of None keeps the last good one."""
        with self._guarded():
            for name, plan in plans.items():
                state = self.models.get(name)
                if state is None:
                    state = self.models[name] = self._store.new_model(name)
                if plan is not None and plan != state.plan:
                    state.plan = plan
                    state.version += 1
                    self._store.save_plan(state, plan)

    def apply(self, reads: Iterable[Decoded], now_ms: int) -> None:
        """Commit a round. Raises sqlite3.Error, after which memory is as before the round."""
        reads = list(reads)
        try:
            self._commit(reads, now_ms)
        except sqlite3.Error:
            self.load()
            raise
        except Exception:  # a fault of ours must not stop the reading: find the entry that has it
            logger.exception("a round failed, taking its entries one by one")
            self.load()
            for read in reads:
                self._salvage(read, now_ms)

    def tidy(self, now_ms: int) -> None:
        """Forget what has outlived its retention: parked labels, pending predictions, old panes and rollouts."""
        with self._guarded():
            for state in self.models.values():
                retention = state.plan.retention if state.plan else Retention()
                gone = labels.give_up(self._store, state, now_ms, retention.parked_seconds)
                gone += predictions.expire(self._store, state, now_ms, retention.pending_seconds)
                if gone:
                    state.version += 1
                    self._store.save_progress(state, ())
            self._store.sql.execute(
                "DELETE FROM aggregates WHERE pane <> ? AND pane < ?", (TOTAL, pane_of(now_ms - KEEP_MS))
            )

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            with self._store.transaction():
                yield
        except sqlite3.Error:
            self.load()
            raise

    def _commit(self, reads: list[Decoded], now_ms: int) -> None:
        with self._store.transaction():
            for model, its_reads in groupby(sorted(reads, key=_model), key=_model):
                state = self.models.get(model)
                if state is not None:
                    _Round(self._store, self.profiles, state, now_ms).run(list(its_reads))

    def _salvage(self, read: Decoded, now_ms: int) -> None:
        parts = [Decoded(read.stream, None, {}, batches=[batch]) for batch in read.batches]
        parts += [Decoded(read.stream, None, {}, labels=[batch]) for batch in read.labels]
        failed = 0
        for part in parts:
            try:
                self._commit([part], now_ms)
            except sqlite3.Error:
                self.load()
                raise
            except Exception:  # as above: this is the entry
                logger.exception("stream entry given up", extra={"stream": read.stream.key})
                failed += 1
                self.load()
        self._commit([Decoded(read.stream, read.last, read.acks, malformed=read.malformed + failed)], now_ms)


def read_and_apply(book: Book, reads: list[Read], now_ms: int) -> None:
    """Decode and commit, for callers that need no profile fetched in between."""
    book.apply([decode(read) for read in reads], now_ms)


def _model(read: Decoded) -> str:
    return read.stream.model


class _Round:
    """A round of one model, inside the transaction."""

    def __init__(self, store: Store, profiles: Profiles, state: ModelState, now_ms: int) -> None:
        self._store = store
        self._profiles = profiles
        self._state = state
        self._now_ms = now_ms
        self._changes = Changes()
        self._touched: set[Producer] = set()
        self._has_shadows = state.has_shadows
        self._has_news = False

    def run(self, reads: list[Decoded]) -> None:
        state, store = self._state, self._store
        before = predictions.newest(store)
        for read in reads:
            self._take_events(read)
            state.tally.malformed += read.malformed
            if read.last is not None:
                state.offsets[read.stream.key] = read.last
        judging = Judging({number: arm for arm, number in state.arms.items()}, self._profiles)
        if self._has_shadows:
            predictions.pair_up(store, state, before, judging)
        retention = state.plan.retention if state.plan else Retention()
        desk = labels.Desk(store, state, judging, retention, self._now_ms)
        desk.match(before)
        for read in reads:
            for batch in read.labels:
                desk.take(batch)
        judging.count(self._changes)
        self._changes.save(state, store, self._now_ms)
        store.save_progress(state, self._touched)
        if self._has_news or any(read.last is not None for read in reads):
            state.version += 1

    def _take_events(self, read: Decoded) -> None:
        fresh = [batch for batch in read.batches if self._is_new(read.stream.partition, batch)]
        for _, batches in groupby(sorted(fresh, key=_header), key=_header):
            self._count(list(batches))
        if fresh:
            last = max(batch.t0 + int(batch.columns["dt"].max()) // 1000 for batch in fresh)
            self._state.tally.late_ms = max(0, self._now_ms - last)
        for producer, ack in read.acks.items():
            account = self._account(Producer(read.stream.partition, producer), is_new=ack.sent > 0)
            if account is not None:
                self._has_news |= account.acknowledge(ack.last_seq, ack.sent, ack.dropped)

    def _is_new(self, partition: int, batch: EventBatch) -> bool:
        account = self._account(Producer(partition, batch.producer), is_new=True)
        if account is not None and account.accept(batch.seq, batch.sent, batch.dropped, batch.count):
            return True
        self._state.tally.duplicates += batch.count
        return False

    def _account(self, producer: Producer, *, is_new: bool) -> Account | None:
        account = self._state.accounts.get(producer)
        if account is None and is_new:
            account = self._state.accounts[producer] = Account()
        if account is not None:
            self._touched.add(producer)
        return account

    def _count(self, batches: list[EventBatch]) -> None:
        """Count batches that have one header and one pane."""
        first = batches[0]
        state, store, pane = self._state, self._store, pane_of(first.t0)
        arm = store.arm_number(state, Arm(first.rollout, first.variant, first.version, first.schema, first.role))
        rows = fold.join(batches)
        self._has_shadows |= bool(rows.shadow.any())
        self._changes.of(arm, pane).merge(fold.of_answering(rows, self._profiles.get(first.schema)))
        for name, added in fold.of_assigned(rows).items():
            meant = store.arm_number(state, Arm(first.rollout, name, "", "", ""))
            self._changes.of(meant, pane).merge(added)
        for batch in batches:
            part = fold.Rows(batch.variants, batch.columns, batch.features)
            predictions.insert(store, state, arm, part, batch.t0)


def _header(batch: EventBatch) -> tuple[str | int, ...]:
    """What batches must share to be counted as one."""
    header = (batch.rollout, batch.variant, batch.version, batch.schema, batch.role, *batch.variants)
    return (pane_of(batch.t0), batch.features.shape[0], *header)
