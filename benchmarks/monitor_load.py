"""Everything the monitor does with a prediction, without the network: run as a process of its own, prints JSON.

`python -m benchmarks.monitor_load FOLDER ROWS`: entries of 100 rows and 25 features are decoded, checked, counted
into histograms, latency buckets, totals and all windows, and committed to SQLite, on one core. Once as a monitor does
it, with every prediction kept for its label, and once without that store; then, without it, what makes counting dearer:
a segment, whose rows are counted again, and challengers whose bins differ, in which the champion's are counted too.
"""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from benchmarks import monitor_drift
from kingmaker.publishing import histograms
from kingmaker_contracts import events, prediction_ids
from kingmaker_contracts.labels import Role
from kingmaker_contracts.plan import Plan, PlannedVariant
from kingmaker_contracts.profile import Profile, Score, sha256_of
from kingmaker_contracts.wire import write_json
from kingmaker_monitor import binning, reports
from kingmaker_monitor.aggregates import Aggregate, pack, unpack
from kingmaker_monitor.ingest import fold, predictions
from kingmaker_monitor.ingest.decoding import Read, Stream, decode
from kingmaker_monitor.ingest.reader import COUNT
from kingmaker_monitor.ingest.rounds import Book
from kingmaker_monitor.profiles import Profiles
from kingmaker_monitor.state import Arm
from kingmaker_monitor.store import Store

MODEL: Final = "default/bench"
FEATURES: Final = 25
BATCH: Final = 100
VALUES: Final = 10
"""Of the feature that segments."""
DEARER_ROWS: Final = 100_000
Entries = list[tuple[bytes, dict[bytes, bytes]]]


def profile_of(features: int, seed: int = 7, *, segmenting: bool = False) -> Profile:
    """Normal features and a score between 0 and 1, 200 bins each.

    seed: of the training rows, and so of the bins; segmenting: the last feature is whole numbers from 0 to 9.
    """
    dice = np.random.default_rng(seed)
    plain = monitor_drift.profile_of(dice.normal(size=(50_000, features)))
    assert plain.reference is not None
    reference = msgspec.structs.replace(plain.reference, score=monitor_drift.histogram(dice.random(50_000)))
    if segmenting:
        last = {f"f{features - 1}": histograms.numeric(dice.integers(0, VALUES, 50_000))}
        reference = msgspec.structs.replace(reference, numeric=reference.numeric | last)
    return msgspec.structs.replace(plain, score=Score("binary", "p", 1, "1", ["0", "1"]), reference=reference)


def entries(rows: int, schema: str, now_ms: int, *, segmenting: bool = False) -> Entries:
    """Entries of BATCH rows as a gateway writes them."""
    dice = np.random.default_rng(11)
    made = []
    for seq in range(1, rows // BATCH + 1):
        ids = [prediction_ids.new(now_ms, (seq * BATCH + i).to_bytes(9, "big"), 0) for i in range(BATCH)]
        score = dice.random(BATCH)
        columns = {
            "id": np.array(ids, "V16"),
            "row": np.zeros(BATCH),
            "assigned": np.zeros(BATCH),
            "reason": np.zeros(BATCH),
            "eligible": np.ones(BATCH),
            "key_hash": dice.integers(0, 1 << 62, BATCH),
            "dt": np.arange(BATCH),
            "latency": dice.integers(500, 9000, BATCH),
            "status": np.full(BATCH, 200),
            "score": score,
            "label": score >= 0.5,
        }
        features = dice.normal(size=(FEATURES, BATCH)).astype(np.float32)
        if segmenting:
            features[-1] = dice.integers(0, VALUES, BATCH)
        batch = events.EventBatch(
            producer="gw", seq=seq, sent=(seq - 1) * BATCH, dropped=0, t0=now_ms, revision=1, rollout="r", variant="lr",
            version="1", role="champion", schema=schema, variants=["lr"],
            columns={name: np.asarray(column, events.COLUMNS[name]) for name, column in columns.items()},
            features=features,
        )  # fmt: skip
        made.append((b"%d-0" % seq, {b"b": events.encode(batch)}))
    return made


def ingest(
    folder: Path,
    made: Entries,
    raw: bytes,
    now_ms: int,
    *,
    challengers: Sequence[bytes] = (),
    segments: Sequence[str] = (),
) -> tuple[float, Store]:
    """Seconds of processor time, and the store it left. challengers: profiles in whose bins rows are counted too."""
    store = Store.open(folder / f"{time.monotonic_ns()}.db")
    book = Book(store, Profiles(time.monotonic))
    profiles = {sha256_of(one): one for one in (raw, *challengers)}
    names: list[tuple[str, Role]] = [("lr", "champion"), *((f"c{i}", "challenger") for i in range(len(challengers)))]
    variants = [PlannedVariant(name, role, "1", sha) for (name, role), sha in zip(names, profiles, strict=True)]
    book.follow({MODEL: Plan("default", "bench", 1, 1, "r", variants, segments=list(segments))}, {MODEL: 1})
    for sha, profile in profiles.items():
        book.learn(sha, profile, now_ms)
    book.slide(now_ms)
    stream = Stream(MODEL, "events", 0)
    began = time.process_time()
    for at in range(0, len(made), COUNT):
        book.apply([decode(Read(stream, made[at : at + COUNT]))], now_ms)
    spent = time.process_time() - began
    arms = {number: arm for arm, number in book.models[MODEL].arms.items()}
    by_segment = {"": 0}
    for number, total in book.models[MODEL].windows["1h"].sums.items():
        feature = arms[number].segment.partition("=")[0]
        by_segment[feature] = by_segment.get(feature, 0) + total.rows("answered")
    if by_segment != dict.fromkeys(["", *segments], len(made) * BATCH):
        raise RuntimeError(f"{by_segment} rows counted, {len(made) * BATCH} written")
    return spent, store


def evaluation(folder: Path) -> float:
    """Seconds for 50 features, three variants, every window, against training and champion."""
    profile = profile_of(50)
    raw, sha = write_json(profile), sha256_of(write_json(profile))
    store = Store.open(folder / "evaluation.db")
    book = Book(store, Profiles(time.monotonic))
    variants = [PlannedVariant("a", "champion", "1", sha)]
    variants += [PlannedVariant(name, "challenger", "2", sha) for name in ("b", "c")]
    plan = Plan("default", "bench", 1, 1, "r", variants)
    book.follow({MODEL: plan}, {MODEL: 1})
    book.learn(sha, raw, 0)
    state, bins = book.models[MODEL], binning.of_profile(profile)
    dice = np.random.default_rng(3)
    for number, variant in enumerate(variants, 1):
        state.arms[Arm("r", variant.name, variant.version, sha, variant.role)] = number
        features = dice.normal(size=(50, 5000)).astype(np.float32)
        rows = fold.Rows([v.name for v in variants], _columns(5000, dice), features)
        counted = fold.of_answering(rows, bins)
        for sums in (state.totals, *(window.sums for window in state.windows.values())):
            sums[number] = Aggregate({name: values.copy() for name, values in counted.arrays.items()})
    best = min(_timed(lambda: reports.of_model(state, plan, book.profiles, "now")) for _ in range(5))
    store.close()
    return best


def _columns(rows: int, dice: Any) -> dict[str, Any]:
    wanted = {"latency": dice.integers(500, 9000, rows), "status": np.full(rows, 200), "score": dice.random(rows)}
    return {
        name: np.zeros(rows, dtype) if name == "id" else np.asarray(wanted.get(name, np.zeros(rows)), dtype)
        for name, dtype in events.COLUMNS.items()
    }


def _timed(work: Callable[[], Any]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def dearer_rates(folder: Path, made: Entries, raw: bytes, now_ms: int) -> dict[str, float]:
    """Rows per second and core of what costs more than the plain counting."""
    rows = len(made) * BATCH
    challengers = [write_json(profile_of(FEATURES, seed)) for seed in (8, 9)]
    with_others, store = ingest(folder, made, raw, now_ms, challengers=challengers)
    store.close()
    profile = write_json(profile_of(FEATURES, segmenting=True))
    segmented = entries(rows, sha256_of(profile), now_ms, segmenting=True)
    by_segment, store = ingest(folder, segmented, profile, now_ms, segments=[f"f{FEATURES - 1}"])
    store.close()
    return {
        "rows per second and core, counted for two challengers of other bins too": rows / with_others,
        f"rows per second and core, counted by a segment of {VALUES} values too": rows / by_segment,
    }


def main() -> None:
    folder, rows = Path(sys.argv[1]), int(sys.argv[2])
    now_ms = round(time.time() * 1000)
    raw = write_json(profile_of(FEATURES))
    made = entries(rows, sha256_of(raw), now_ms)
    ingest(folder, made[:COUNT], raw, now_ms)[1].close()  # warm
    before = monitor_drift.memory_mb("VmRSS")
    spent, store = ingest(folder, made, raw, now_ms)
    grown = monitor_drift.memory_mb("VmRSS") - before
    pages, size = (store.sql.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    busiest = "SELECT raw FROM aggregates WHERE pane > 0 ORDER BY length(raw) DESC"
    packed = unpack(store.sql.execute(busiest).fetchone()[0])
    store.close()
    features = Aggregate({name: values for name, values in packed.arrays.items() if name.startswith("live/f")})
    keeping = predictions.insert
    predictions.insert = lambda *_, **__: None
    before = monitor_drift.memory_mb("VmRSS")
    counting, store = ingest(folder, made, raw, now_ms)
    grown_counting = monitor_drift.memory_mb("VmRSS") - before
    store.close()
    dearer = dearer_rates(folder, made[: DEARER_ROWS // BATCH], raw, now_ms)
    predictions.insert = keeping
    told = {
        "rows": rows,
        "rows per second and core, counted": rows / counting,
        "rows per second and core, counted and kept for labels": rows / spent,
        **dearer,
        "bytes of Redis per row, entries alone": sum(len(fields[b"b"]) for _, fields in made) / rows,
        "bytes of state file per kept row": pages * size / rows,
        f"monitor's memory grown by {rows:,} rows counted, MB": grown_counting,
        f"monitor's memory grown by {rows:,} rows counted and kept, MB (SQLite's cache, 64 at most)": grown,
        "bytes in memory per feature and window": sum(values.nbytes for values in features.arrays.values()) / FEATURES,
        "bytes in the state file per feature and pane": len(pack(features)) / FEATURES,
        "evaluation of 50 features, all windows, 3 variants, ms": evaluation(folder) * 1000,
    }
    print(msgspec.json.encode(told).decode())


if __name__ == "__main__":
    main()
