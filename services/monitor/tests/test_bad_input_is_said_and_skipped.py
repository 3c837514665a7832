"""What cannot be right is counted, reported and left out: never a crash loop, never mixed in silently."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from kingmaker_contracts import keys
from kingmaker_contracts.profile import Feature, sha256_of
from kingmaker_contracts.report import ModelReport, Pipeline
from kingmaker_contracts.wire import write_json
from kingmaker_monitor import health
from kingmaker_monitor.ingest import predictions
from kingmaker_monitor.ingest.rounds import Book
from kingmaker_monitor.profiles import IDLE_S, RETRY_S, Profiles
from kingmaker_monitor.store import Store

if TYPE_CHECKING:
    from services.monitor.tests.conftest import Counting, Process, Reading, World


def pipeline(counting: "Counting") -> Pipeline:
    return health.of_model(
        counting.state, counting.book.profiles, {}, counting.book.mishaps, redis_up=True, clock_jumps=0
    )


def test_rows_of_an_unknown_profile_are_counted_as_such(counting: "Counting", world: "World") -> None:
    evidence = counting.take(world.batch(1), world.batch(2, schema="e" * 64))
    assert evidence.variants["lr"].answered == 20
    assert evidence.variants["lr"].drift["distance"].n == 10
    found = pipeline(counting).profiles["lr"]
    assert (found.state, found.unprofiled, found.foreign) == ("usable", 10, 10)


def test_features_that_do_not_fit_the_profile_stay_out_of_its_bins(counting: "Counting", world: "World") -> None:
    wide = world.batch(1, features=np.zeros((3, 10), np.float32))
    evidence = counting.take(wide, world.batch(2))
    assert evidence.variants["lr"].answered == 20
    assert evidence.variants["lr"].drift["distance"].n == 10
    assert pipeline(counting).profiles["lr"].unprofiled == 10


def test_a_profile_that_does_not_fit_its_model_is_named(
    new_counting: "Callable[..., Counting]", world: "World"
) -> None:
    inputs = [world.profile.inputs[0], Feature("gain", "FP32", [-1, 1], "numeric")]
    raw = write_json(msgspec.structs.replace(world.profile, inputs=inputs))
    schema = sha256_of(raw)
    plan = world.plan()
    plan = msgspec.structs.replace(plan, variants=[msgspec.structs.replace(plan.variants[0], profile=schema)])
    counting = new_counting(plan=plan, profile=False)
    assert pipeline(counting).profiles["lr"].state == "missing"
    counting.book.learn(schema, raw, world.t0)
    counting.take(world.batch(1, schema=schema))
    faults = pipeline(counting).profiles["lr"].faults
    assert faults == [
        "it describes carrier, which the model does not take",
        "it has no reference of its kind for gain",
    ]
    assert counting.evidence.variants["lr"].drift["gain"].verdict == "NoData"
    assert counting.evidence.variants["lr"].drift["distance"].n == 10


def test_a_profile_under_another_ones_name_is_not_used(counting: "Counting", world: "World") -> None:
    assert not counting.book.profiles.learn("f" * 64, world.raw_profile)
    assert counting.book.profiles.get("f" * 64) is None


def test_a_segment_that_cannot_be_is_said(new_counting: "Callable[..., Counting]", world: "World") -> None:
    counting = new_counting(plan=msgspec.structs.replace(world.plan(), segments=["distance", "nothing", "carrier"]))
    assert pipeline(counting).segment_faults == [
        f"{variant}: segment {text}"
        for text in (
            "distance is a number with many values; a category or at most 20 distinct numbers can segment",
            "nothing is no feature with a reference in its profile",
        )
        for variant in ("lr", "gbm")
    ]


@pytest.mark.parametrize("column", ["latency", "score", "dt", "label", "key_hash"])
def test_any_values_of_a_column_are_counted_once(counting: "Counting", world: "World", column: str) -> None:
    batch = world.batch(1)
    kind = batch.columns[column].dtype
    worst = np.array([np.inf, -np.inf, np.nan] if kind.kind == "f" else [0, np.iinfo(kind).max, 1], kind)
    batch.columns[column] = np.resize(worst, 10)
    counting.book.slide(world.t0)
    evidence = counting.take(batch, world.batch(2))
    assert (evidence.events.stored, evidence.events.malformed) == (20, 0)
    assert b"NaN" not in msgspec.json.encode(evidence)


def test_evidence_goes_on_though_every_round_has_an_entry_that_fails(
    counting: "Counting", world: "World", monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round that fails is loaded anew and taken entry by entry; what is shown is made anew when the version says."""
    insert = predictions.insert

    def fail(*args: Any, **kwargs: Any) -> None:
        insert(*args, **kwargs)
        if len(kwargs["at_ms"]) > 10:
            raise ValueError("a fault of ours")

    monkeypatch.setattr(predictions, "insert", fail)
    versions = []
    for seq in (1, 3, 5):
        evidence = counting.take(world.batch(seq, sent=0), world.batch(seq + 1, 13, sent=0))
        versions.append(counting.state.version)
    assert (evidence.events.stored, evidence.events.malformed) == (30, 3)
    assert len(set(versions)) == 3


def test_a_file_that_is_set_aside_says_so_in_the_api(
    new_process: "Callable[..., Process]", publish: Callable[..., None], valkey: Any, world: "World"
) -> None:
    publish(valkey.client, world.plan(), *[world.batch(seq, 100) for seq in range(1, 31)])
    monitor = new_process(valkey.url)
    monitor.start()
    monitor.until(lambda: monitor.evidence().events.stored == 3000)
    assert monitor.stop() == 0
    valkey.client.xtrim(world.event_stream.key, maxlen=20, approximate=False)
    raw = bytearray(monitor.state_file.read_bytes())
    raw[8192:-8192] = b"\xa5" * (len(raw) - 16384)
    monitor.state_file.write_bytes(raw)
    monitor.start()
    monitor.until(lambda: monitor.evidence().events.stored == 2000)
    assert monitor.evidence().events.lost == 1000
    told = msgspec.json.decode(monitor.get("/api/models/flights").content, type=ModelReport).pipeline
    assert "set aside as monitor.db.damaged-1" in told.mishaps[0].what
    assert "pending predictions and labels are lost" in told.mishaps[0].what
    assert told.trimmed_events == 10
    assert valkey.client.get(keys.evidence("default", "flights")) is not None


def test_a_profile_nobody_asks_for_rests_in_the_file(tmp_path: Path, world: "World") -> None:
    now = 0.0
    store = Store.open(tmp_path / "state.db")
    profiles = Profiles(lambda: now)
    book = Book(store, profiles)
    book.learn(world.schema, world.raw_profile, world.t0)
    before = profiles.get(world.schema)
    assert before is not None
    now = IDLE_S - 1
    profiles.rest()
    assert profiles.get(world.schema) is before
    now = 2 * IDLE_S
    profiles.rest()
    assert not profiles.missing(world.schema)  # nobody fetches it again
    again = profiles.get(world.schema)
    assert again is not None
    assert again is not before
    assert again.known[0][1].is_cut_like(before.known[0][1])
    store.sql.execute("UPDATE profiles SET raw = x'00'")
    now = 4 * IDLE_S
    profiles.rest()
    assert profiles.get(world.schema) is None
    now += RETRY_S
    assert profiles.missing(world.schema)
    store.close()


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("counts", [2**63, 1], "Expected `int` <= 9007199254740992 - at `$.reference.numeric[...].counts[0]`"),
        ("counts", [1, -1], "Expected `int` >= 0 - at `$.reference.numeric[...].counts[1]`"),
        ("missing", -1, "Expected `int` >= 0 - at `$.reference.numeric[...].missing`"),
        ("shape", [-1, 10**12], "input distance of shape [-1, 1000000000000] makes more than 200000 columns"),
    ],
)
def test_a_profile_whose_numbers_cannot_be_is_refused(
    new_counting: "Callable[..., Counting]",
    world: "World",
    caplog: pytest.LogCaptureFixture,
    field: str,
    value: Any,
    said: str,
) -> None:
    document = msgspec.json.decode(world.raw_profile)
    if field == "shape":
        document["inputs"][0]["shape"] = value
    else:
        document["reference"]["numeric"]["distance"] |= {"edges": [0.5], "counts": [1, 1], "missing": 0, field: value}
    raw = msgspec.json.encode(document)
    counting = new_counting(profile=False)
    counting.book.learn(sha256_of(raw), raw, world.t0)
    assert said in str(vars(caplog.records[-1]))
    assert counting.book.profiles.get(sha256_of(raw)) is None


@pytest.mark.parametrize(
    "name",
    [
        keys.plan("default", "broken"),
        keys.profile("default", "broken", "e" * 64),
        keys.events("default", "broken", 0),
        keys.feedback("default", "broken", 0),
        keys.monitor_lease("default", "broken"),
        keys.monitor_token("default", "broken"),
    ],
)
async def test_a_key_of_another_type_stops_no_other_model(
    counting: "Counting",
    reading: "Reading",
    valkey: Any,
    world: "World",
    publish: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    plan = world.plan()
    variants = [msgspec.structs.replace(plan.variants[0], profile="e" * 64)]
    broken = msgspec.structs.replace(plan, name="broken", variants=variants)
    valkey.client.sadd(keys.MODELS, "default/broken")
    valkey.client.set(keys.plan("default", "broken"), write_json(broken))
    valkey.client.delete(name)
    valkey.client.hset(name, "kind", "another")
    publish(valkey.client, plan, world.batch(1))
    await reading.until(lambda: world.event_stream.key in counting.state.positions)
    assert [record for record in caplog.records if name in str(vars(record))]
    assert counting.evidence.variants["lr"].answered == 10
