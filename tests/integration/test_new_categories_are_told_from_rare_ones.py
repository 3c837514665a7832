"""From training rows to the report: a category training never saw is counted as new, a rare one is not.

Publishing makes the profile, the gateway the events, the monitor the counts; each of the three has its part in it.
"""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kingmaker.publishing import histograms
from kingmaker_contracts import events
from kingmaker_contracts.plan import Plan, PlannedVariant
from kingmaker_contracts.profile import Feature, Output, Profile, Reference, sha256_of
from kingmaker_contracts.report import ModelReport
from kingmaker_contracts.wire import write_json
from kingmaker_gateway import answerers, envelope, runs
from kingmaker_gateway.answerers import Answerer
from kingmaker_monitor import health, reports
from kingmaker_monitor.ingest.decoding import Read, Stream, decode
from kingmaker_monitor.ingest.rounds import Book
from kingmaker_monitor.profiles import Profiles
from kingmaker_monitor.store import Store

MODEL = "default/flights"
NOW_MS = round(time.time() * 1000)
NAMED = histograms.MAX_CATEGORIES


def texts(values: list[str | None]) -> Any:
    array = np.empty((len(values), 1), object)
    array[:, 0] = values
    return array


def profile_of(training: list[str], most_rare: int = histograms.MAX_RARE) -> tuple[Profile, bytes]:
    column = histograms.categorical(np.array(training, dtype=object), most_rare)
    inputs = [Feature("airport", "BYTES", [-1, 1], "categorical", True)]
    reference = Reference(len(training), categorical={"airport": column})
    made = Profile("flights", "", inputs, [Output("p", "FP32", [-1, 1])], None, reference, None, None, "")
    return made, write_json(made)


class Way:
    """One variant's way from requests to the report."""

    def __init__(self, folder: Path, profile: Profile, raw: bytes, segments: list[str]) -> None:
        self.schema = sha256_of(raw)
        known, labels = answerers.codes_of(profile)
        self.by = Answerer(
            *(MODEL, 1, 1, "r", "lr", "1", "champion", ("lr",), self.schema, profile),
            known_codes=known,
            label_codes=labels,
        )
        self.plan = Plan("default", "flights", 1, 1, "r", [PlannedVariant("lr", "champion", "1", self.schema)],
                         segments=segments)  # fmt: skip
        self.store = Store.open(folder / f"{time.monotonic_ns()}.db")
        self.book = Book(self.store, Profiles(time.monotonic))
        self.book.follow({MODEL: self.plan}, {MODEL: 1})
        self.book.learn(self.schema, raw, NOW_MS)
        self.seq = 0

    def take(self, values: list[str | None], of_an_older_gateway: bool = False) -> None:
        self.seq += 1
        ids = [self.seq.to_bytes(8, "big") + i.to_bytes(8, "big") for i in range(len(values))]
        requests: list[Any] = [SimpleNamespace(id=id, mark=(1, 0, "weight", 1, 200), key_hash=0) for id in ids]
        latencies_s = [0.0005] * len(requests)
        run = runs.of(self.by, requests, latencies_s, NOW_MS * 1000, len(values), {"airport": texts(values)}, None)
        batch = envelope.build([run], "gw", self.seq, 0, 0)
        if of_an_older_gateway:
            batch.rare = []
        entry = (b"%d-0" % self.seq, {b"b": events.encode(batch)})
        self.book.apply([decode(Read(Stream(MODEL, "events", 0), [entry]))], NOW_MS)

    @property
    def counts(self) -> list[int]:
        """Named, other, new, missing."""
        state = self.book.models[MODEL]
        total = next(state.totals[n] for arm, n in state.arms.items() if arm.version and not arm.segment)
        found = total.arrays["live/airport"].tolist()
        return [sum(found[:-3]), *found[-3:]]

    @property
    def report(self) -> reports.Reports:
        return reports.of_model(self.book.models[MODEL], self.plan, self.book.profiles, "now")

    @property
    def new_unknown(self) -> list[str]:
        state = self.book.models[MODEL]
        return (
            health.of_model(state, self.book.profiles, {}, [], redis_up=True, clock_jumps=0).profiles["lr"].new_unknown
        )


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(1, 400), st.data())
def test_counts_are_those_of_a_plain_look(tmp_path: Path, size: int, data: st.DataObject) -> None:
    """Any number of categories, any mixture of named, rare, new and missing ones in entries of any size."""
    dice = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    names = [f"{'x' * int(dice.integers(0, 200))}{i}" for i in range(size)]
    training = [name for i, name in enumerate(names) for _ in range(size - i)]
    profile, raw = profile_of(training)
    assert profile.reference is not None
    way = Way(tmp_path, profile, raw, [])
    seen: list[str | None] = []
    for _ in range(3):
        pool: list[str | None] = [*names, *(f"new {i}" for i in range(int(dice.integers(0, 600)))), None, ""]
        rows = [pool[i] for i in dice.integers(0, len(pool), int(dice.integers(1, 900)))]
        way.take(rows)
        seen += rows
    named = set(names[:NAMED])
    want = [
        sum(x in named for x in seen),
        sum(bool(x) and x not in named and x in names for x in seen),
        sum(bool(x) and x not in names for x in seen),
        sum(not x for x in seen),
    ]
    assert way.counts == want
    column = way.report.windows["lr"]["rollout"].drift["training"].columns["airport"]
    assert column.new == pytest.approx(want[2] / len(seen))
    assert way.new_unknown == []
    way.store.close()


def test_a_profile_that_does_not_know_its_rare_ones_says_so(tmp_path: Path) -> None:
    profile, raw = profile_of([f"a{i}" for i in range(300)], most_rare=10)
    way = Way(tmp_path, profile, raw, ["airport"])
    way.take(["a0", "a299", "new"])
    assert profile.reference is not None
    assert way.counts[1] == 2 + ("a0" not in profile.reference.categorical["airport"].categories)
    assert way.counts[2] == 0
    found = way.report
    assert found.windows["lr"]["rollout"].drift["training"].columns["airport"].new is None
    assert "(new)" not in found.segments["airport"]
    assert way.new_unknown == ["airport"]
    way.store.close()


def test_new_ones_are_a_segment_of_their_own(tmp_path: Path) -> None:
    profile, raw = profile_of([f"a{i:03d}" for i in range(300) for _ in range(300 - i)])
    way = Way(tmp_path, profile, raw, ["airport"])
    way.take(["a000", "a299", "a150", "a050", "new", "new too", None])
    rows = {name: by["lr"]["rollout"].answered for name, by in way.report.segments["airport"].items()}
    assert rows == {"a000": 1, "(other)": 3, "(new)": 2, "(missing)": 1}
    way.store.close()


def test_what_an_older_gateway_wrote_is_rare_rather_than_new(tmp_path: Path) -> None:
    profile, raw = profile_of([f"a{i:03d}" for i in range(300) for _ in range(300 - i)])
    way = Way(tmp_path, profile, raw, [])
    way.take(["a299", "new"], of_an_older_gateway=True)
    way.take(["a299", "new", "a000"])
    assert way.counts == [1, 3, 1, 0]
    way.store.close()


def test_a_report_of_an_older_monitor_is_read() -> None:
    fields = msgspec.json.schema(ModelReport)["$defs"]["ProfileHealth"]
    assert "new_unknown" not in fields["required"]
