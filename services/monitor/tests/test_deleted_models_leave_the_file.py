"""A model that is gone leaves nothing behind in the state file, and comes back as it was while it may."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from kingmaker_contracts import keys
from kingmaker_monitor.ingest import gone_models
from kingmaker_monitor.ingest.gone_models import STAY_MS

if TYPE_CHECKING:
    from services.monitor.tests.conftest import Counting, Reading, World

OTHER = "default/other"


def rows(counting: "Counting") -> dict[str, int]:
    """How much each table holds, but for what is of the file and of no model."""
    names = [name for (name,) in counting.store.sql.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    of_models = set(names) - {"about", "mishaps", "profiles", "idle_profiles"}
    return {
        name: counting.store.sql.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in sorted(of_models)
    }


@pytest.fixture
def counting(new_counting: "Callable[..., Counting]", world: "World") -> "Counting":
    """Two models in one file, of which only the first has anything to tell."""
    made = new_counting()
    made.take(world.batch(1, first=0), world.batch(2, variant="gbm"), world.labels((0, 1), (1, 0), (777, 1)))
    made.book.follow({OTHER: world.plan()}, {OTHER: 1})
    return made


def test_a_model_that_is_away_for_a_week_is_forgotten_whole(counting: "Counting", world: "World") -> None:
    before = rows(counting)
    assert all(before[name] for name in ("aggregates", "arms", "labels", "models", "predictions", "producers"))
    counting.book.forget_gone({OTHER}, world.t0)
    counting.book.forget_gone({OTHER}, world.t0 + STAY_MS - 1)
    assert rows(counting) == before | {"gone_models": 1}
    counting.book.forget_gone({OTHER}, world.t0 + STAY_MS)
    assert counting.book.models.keys() == {OTHER}
    assert {name: count for name, count in rows(counting).items() if count} == {"models": 1}
    counting.book.tidy(world.t0 + STAY_MS)
    counting.reopen()
    assert counting.book.models.keys() == {OTHER}


def test_a_model_that_comes_back_begins_its_week_anew(counting: "Counting", world: "World") -> None:
    counting.book.forget_gone({OTHER}, world.t0)
    counting.reopen()
    counting.book.forget_gone({OTHER, world.model}, world.t0 + STAY_MS)
    counting.book.forget_gone({OTHER}, world.t0 + STAY_MS)
    counting.book.forget_gone({OTHER}, world.t0 + 2 * STAY_MS - 1)
    assert counting.evidence.variants["lr"].answered == 10


def test_the_week_goes_on_over_restarts(counting: "Counting", world: "World") -> None:
    counting.book.forget_gone({OTHER}, world.t0)
    counting.reopen()
    counting.book.forget_gone({OTHER}, world.t0 + STAY_MS)
    assert counting.book.models.keys() == {OTHER}


def test_much_is_forgotten_in_pieces(counting: "Counting", world: "World", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gone_models, "_PIECE", 8)
    counting.book.forget_gone({OTHER}, world.t0)
    left = []
    while world.model in counting.book.models:
        counting.book.forget_gone({OTHER}, world.t0 + STAY_MS)
        left.append(rows(counting)["predictions"])
    assert left == [12, 4, 0]


async def test_the_reader_forgets_what_redis_no_longer_names(
    counting: "Counting",
    reading: "Reading",
    world: "World",
    publish: Callable[..., None],
    valkey: Any,
) -> None:
    counting.book.forget_gone({OTHER}, world.t0 - STAY_MS)
    publish(valkey.client, world.plan())
    valkey.client.sadd(keys.MODELS, OTHER)
    valkey.client.srem(keys.MODELS, world.model)
    await reading.until(lambda: world.model not in counting.book.models)
    assert counting.book.models.keys() == {OTHER}


async def test_a_model_of_a_forgotten_name_has_evidence_of_its_own(
    counting: "Counting", reading: "Reading", world: "World"
) -> None:
    async def shown(*models: str) -> Any:
        reading.reader.models = models
        await reading.evaluator.step()
        return reading.board.snapshot.models

    former = (await shown(world.model))["flights"].evidence
    version = counting.state.version
    await shown(OTHER)
    for now_ms in (world.t0, world.t0 + STAY_MS):
        counting.book.forget_gone({OTHER}, now_ms)
    counting.book.follow({world.model: world.plan()}, {world.model: 1})
    counting.state.version = version
    evidence = (await shown(world.model))["flights"].evidence
    assert (former.variants["lr"].answered, evidence.variants["lr"].answered) == (10, 0)
