"""A version that is gone, and all that waits for its labels, take their profile along."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from kingmaker_contracts.feedback import FeedbackBatch, LabelEvent
from kingmaker_contracts.plan import Plan, Retention
from kingmaker_contracts.profile import sha256_of
from kingmaker_contracts.wire import write_json
from kingmaker_monitor import evidence
from kingmaker_monitor.ingest.decoding import decode
from kingmaker_monitor.ingest.rounds import Book
from kingmaker_monitor.profiles import Profiles
from kingmaker_monitor.store import Store

if TYPE_CHECKING:
    from services.monitor.tests.conftest import World

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
NIGHTS = 12
KEPT_DAYS = 3


class Nightly:
    """A model that is trained every night, with a monitor and a clock of its own. Version n serves on day n."""

    def __init__(self, world: "World", path: Path) -> None:
        self.world, self._path, self.now_ms = world, path, world.t0
        self.raw = [
            write_json(msgspec.structs.replace(world.profile, onnx_sha256=f"{night:064}")) for night in range(NIGHTS)
        ]
        self.schema = [sha256_of(raw) for raw in self.raw]
        self.open()

    def open(self) -> None:
        self.store = Store.open(self._path)
        self.book = Book(self.store, Profiles(lambda: self.now_ms / 1000))

    def plan(self, night: int) -> Plan:
        """Version of that night alone."""
        plan: Plan = self.world.plan(f"r{night}", Retention(pending_seconds=KEPT_DAYS * 86_400), lr=str(night))
        champion = msgspec.structs.replace(plan.variants[0], profile=self.schema[night])
        return msgspec.structs.replace(plan, variants=[champion])

    def deploy(self, night: int) -> None:
        self.book.follow({self.world.model: self.plan(night)}, {self.world.model: 1})
        self.book.learn(self.schema[night], self.raw[night], self.now_ms)

    def serve(self, night: int) -> None:
        """Ten predictions now."""
        ids = np.array([self.world.id(night * 100 + row, self.now_ms) for row in range(10)], "V16")
        batch = self.world.batch(1, id=ids, t0=self.now_ms, producer=f"gw-{self.now_ms}", schema=self.schema[night],
                                 rollout=f"r{night}", version=str(night), variants=["lr"])  # fmt: skip
        self.take(batch)

    def take(self, *things: Any) -> None:
        self.book.apply([decode(read) for read in self.world.read(*things)], self.now_ms)

    def label(self, night: int, row: int = 0) -> FeedbackBatch:
        made = self.world.t0 + night * DAY_MS
        return FeedbackBatch(self.now_ms, [LabelEvent(self.world.id(night * 100 + row, made), None, 1)])

    def live(self, hours: int) -> None:
        """Time passes, with a look every hour."""
        for _ in range(hours):
            self.now_ms += HOUR_MS
            self.book.slide(self.now_ms)
            while True:
                self.book.tidy(self.now_ms)
                if not self.book.is_overdue:
                    break

    @property
    def held(self) -> list[int]:
        """Nights whose profile the file has."""
        names = self.store.profiles()
        return [night for night, schema in enumerate(self.schema) if schema in names]


@pytest.fixture
def nightly(world: "World", tmp_path: Path) -> Iterator[Nightly]:
    made = Nightly(world, tmp_path / "nightly.db")
    yield made
    made.store.close()


def test_a_model_trained_every_night_keeps_the_profiles_of_what_waits(nightly: Nightly) -> None:
    for night in range(NIGHTS):
        nightly.deploy(night)
        nightly.serve(night)
        nightly.live(24)
        if night % 4 == 3:  # what is known of idle profiles outlives the process
            nightly.store.close()
            nightly.open()
    # predictions of the last three days wait; the profile of the day before goes when the oldest of them does
    assert nightly.held == list(range(NIGHTS - KEPT_DAYS - 1, NIGHTS))


def test_the_last_prediction_that_waits_is_judged_by_its_old_profile(nightly: Nightly) -> None:
    nightly.deploy(0)
    nightly.serve(0)
    for night in range(1, KEPT_DAYS):
        nightly.live(24)
        nightly.deploy(night)
        nightly.serve(night)
    nightly.live(23)
    nightly.take(nightly.label(0))
    nightly.book.follow({nightly.world.model: nightly.plan(0)}, {nightly.world.model: 1})
    state = nightly.book.models[nightly.world.model]
    assert evidence.of_model(state, nightly.plan(0), nightly.book.profiles, "now").variants["lr"].quality.n == 1


def test_a_forgotten_profile_is_fetched_when_its_version_returns(nightly: Nightly) -> None:
    nightly.deploy(0)
    nightly.serve(0)
    nightly.live(24)
    nightly.deploy(1)
    nightly.live(24 * (KEPT_DAYS + 2))
    assert nightly.held == [1]
    assert nightly.book.profiles.get(nightly.schema[0]) is None
    assert nightly.book.profiles.missing(nightly.schema[0])
    nightly.deploy(0)
    nightly.serve(0)
    state = nightly.book.models[nightly.world.model]
    found = evidence.of_model(state, nightly.plan(0), nightly.book.profiles, "now").variants["lr"]
    assert found.answered == 20
    assert found.drift["distance"].n == 20, "the sums of its rollout were kept, and go on"


def test_a_profile_that_never_met_a_row_goes_once_no_plan_names_it(nightly: Nightly) -> None:
    nightly.deploy(0)
    nightly.live(48)
    assert nightly.held == [0]
    nightly.deploy(1)
    nightly.serve(1)
    nightly.live(3)
    assert nightly.held == [1]


def test_a_prediction_of_another_model_keeps_nothing(nightly: Nightly, world: "World") -> None:
    """Each model has a time of its own to wait."""
    nightly.deploy(0)
    nightly.serve(0)
    other = "default/boats"
    patient = msgspec.structs.replace(nightly.plan(0), retention=Retention(pending_seconds=365 * 86_400))
    nightly.book.follow({other: patient}, {other: 1})
    nightly.store.sql.execute(
        "INSERT INTO predictions(model, id, row, arm, kind, code, at) VALUES(?, ?, 0, 1, 0, 0, 0)",
        (nightly.book.models[other].number, world.id(9)),
    )
    nightly.deploy(1)
    nightly.book.follow({other: msgspec.structs.replace(patient, variants=[])}, {other: 1})
    nightly.live(24 * (KEPT_DAYS + 2))
    assert nightly.held == [1]


def test_a_file_of_an_earlier_release_is_taken_as_it_is(nightly: Nightly, tmp_path: Path) -> None:
    nightly.deploy(0)
    nightly.store.sql.execute("DROP TABLE idle_profiles")
    nightly.store.close()
    nightly.open()
    nightly.live(1)
    assert nightly.held == [0]
    assert not list(tmp_path.glob("*.damaged-*"))
    with closing(sqlite3.connect(tmp_path / "nightly.db")) as file:
        assert file.execute("SELECT count(*) FROM idle_profiles").fetchone() == (0,)
