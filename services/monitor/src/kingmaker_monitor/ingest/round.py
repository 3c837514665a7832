"""One round of one model: everything that was read at once becomes counts, rows and positions, inside a transaction."""

from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kingmaker_contracts.events import EventBatch
from kingmaker_monitor.accounts import Account
from kingmaker_monitor.binning import Binning
from kingmaker_monitor.ingest import fold, labels, predictions
from kingmaker_monitor.ingest.changes import Changes
from kingmaker_monitor.ingest.decoding import Decoded
from kingmaker_monitor.ingest.judging import Judging
from kingmaker_monitor.positions import Position
from kingmaker_monitor.profiles import Profiles
from kingmaker_monitor.state import Arm, ModelState, Producer
from kingmaker_monitor.store import Store
from kingmaker_monitor.windows import is_kept, pane_of


class Round:
    """Changes memory along the way: when it fails, the owner loads memory anew from the store."""

    def __init__(self, store: Store, profiles: Profiles, state: ModelState, now_ms: int) -> None:
        self._store = store
        self._profiles = profiles
        self._state = state
        self._now_ms = now_ms
        self._changes = Changes()
        self._touched: set[Producer] = set()
        self._also: dict[str, fold.Also] = {}
        self._has_shadows = state.has_shadows
        self._has_news = False

    def run(self, reads: list[Decoded]) -> None:
        state, store = self._state, self._store
        before = predictions.newest(store)
        for read in reads:
            self._take_events(read)
            state.tally.malformed += read.malformed
            if read.last is not None:
                at = state.positions.get(read.stream.key, Position())
                state.positions[read.stream.key] = Position(read.last, at.read + read.entries)
        judging = Judging({number: arm for arm, number in state.arms.items()}, self._profiles)
        if self._has_shadows:
            predictions.pair_up(store, state, before, judging)
        desk = labels.Desk(store, state, judging, state.retention, self._now_ms)
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
        for producer, entry in read.newest.items():
            account = self._account(Producer(read.stream.partition, producer), is_new=False)
            if account is not None:
                account.seen_at(entry)
        for producer, ack in read.acks.items():
            account = self._account(Producer(read.stream.partition, producer), is_new=ack.sent > 0)
            if account is not None:
                self._has_news |= account.acknowledge(ack.last_seq, ack.sent, ack.dropped, ack.written)
        for producer in read.ended:
            account = self._account(Producer(read.stream.partition, producer), is_new=False)
            if account is not None:
                self._has_news |= account.close()

    def _is_new(self, partition: int, batch: EventBatch) -> bool:
        account = self._account(Producer(partition, batch.producer), is_new=True)
        if account is not None and account.accept(batch.seq, batch.sent, batch.dropped, batch.count):
            return True
        self._state.tally.duplicates += batch.count
        return False

    def _account(self, producer: Producer, *, is_new: bool) -> Account | None:
        account = self._state.accounts.get(producer)
        if account is None and is_new:
            account = self._store.unfold(self._state, producer)  # cut off for long, and back
        if account is None and is_new:
            self._state.tally.lives += 1
            account = self._state.accounts[producer] = Account(number=self._state.tally.lives)
        if account is not None:
            self._touched.add(producer)
        return account

    def _count(self, batches: list[EventBatch]) -> None:
        """Count batches that have one header and one pane."""
        first = batches[0]
        state, pane = self._state, pane_of(first.t0)
        arm = Arm(first.rollout, first.variant, first.version, first.schema, first.role)
        binning = self._profiles.get(first.schema)
        rows = fold.without_rare(fold.join(batches), binning, first.rare)
        self._has_shadows |= bool(rows.shadow.any())
        if not is_kept(pane, self._now_ms):
            state.tally.misdated += len(rows.columns["id"])
        number = self._store.arm_number(state, arm)
        also = self._also_of(arm, binning)
        self._changes.of(number, pane).merge(fold.of_answering(rows, binning, also))
        for name, added in fold.of_assigned(rows).items():
            meant = self._store.arm_number(state, Arm(first.rollout, name, "", "", ""))
            self._changes.of(meant, pane).merge(added)
        segments = self._count_segments(arm, pane, rows, binning, also)
        at_ms = np.concatenate([batch.t0 + batch.columns["dt"].astype(np.int64) // 1000 for batch in batches])
        predictions.insert(self._store, state, number, rows, at_ms=at_ms, segments=segments)

    def _count_segments(
        self, arm: Arm, pane: int, rows: fold.Rows, binning: Binning | None, also: fold.Also | None
    ) -> NDArray[Any] | None:
        """Counts the rows again by segment. Returns the numbers of each row's segment arms, shape (rows, segments)."""
        features = self._state.plan.segments if self._state.plan else []
        if not features or binning is None or not fold.fits(rows, binning):
            return None
        numbers: list[NDArray[Any]] = []
        for found in fold.of_segments(rows, binning, features):
            mine = np.zeros(len(rows.columns["id"]), predictions.SEGMENT)
            for text, chosen in found:
                number = self._store.arm_number(self._state, arm._replace(segment=text))
                self._changes.of(number, pane).merge(fold.of_answering(rows.of(chosen), binning, also))
                mine[chosen] = number
            numbers.append(mine)
        return np.stack(numbers, axis=1) if numbers else None

    def _also_of(self, arm: Arm, binning: Binning | None) -> fold.Also | None:
        """What a champion's rows are counted for besides: challengers whose bins differ."""
        plan = self._state.plan
        if arm.role != "champion" or plan is None or binning is None:
            return None
        if arm.schema not in self._also:
            others = {
                variant.profile: bins
                for variant in plan.variants
                if variant.role == "challenger" and variant.profile and (bins := self._profiles.get(variant.profile))
            }
            self._also[arm.schema] = fold.also_for(binning, others)
        return self._also[arm.schema]


def _header(batch: EventBatch) -> tuple[str | int, ...]:
    """What batches must share to be counted as one."""
    header = (batch.rollout, batch.variant, batch.version, batch.schema, batch.role, *batch.variants)
    return (pane_of(batch.t0), batch.features.shape[0], *header, "", *batch.rare, "", *batch.withheld)
