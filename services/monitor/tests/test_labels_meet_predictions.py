"""Delayed truth: late, early, twice, contradicting, for nobody; and the numbers that come of it."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    log_loss,
    mean_absolute_error,
    roc_auc_score,
    root_mean_squared_error,
)

from kingmaker_contracts.feedback import FeedbackBatch, LabelEvent
from kingmaker_contracts.plan import Retention
from kingmaker_contracts.profile import Score, sha256_of
from kingmaker_contracts.wire import write_json

if TYPE_CHECKING:
    from services.monitor.tests.conftest import Counting, World

DAY_MS = 86_400_000


def outcomes(evidence: Any) -> dict[str, int]:
    feedback = evidence.feedback
    names = ("received", "joined", "duplicate", "conflicting", "unknown", "expired", "parked")
    found = {name: getattr(feedback, name) for name in names}
    assert found["received"] == sum(found.values()) - found["received"]
    return {name: count for name, count in found.items() if count}


def test_quality_equals_sklearn_on_the_same_rows(counting: "Counting", world: "World") -> None:
    dice = np.random.default_rng(8)
    score = dice.beta(1, 5, 4000).astype(np.float32)
    truth = dice.random(4000) < score
    counting.take(world.batch(1, 4000, score=score, label=(score >= 0.5).astype("<u1"), first=0))
    labels = [(i, bool(truth[i])) for i in range(4000)]
    found = counting.take(world.labels(*labels)).variants["lr"].quality
    assert (found.n, found.positives) == (4000, truth.sum())
    assert found.auc == pytest.approx(roc_auc_score(truth, score), abs=0.002)
    assert found.accuracy == pytest.approx(accuracy_score(truth, score >= 0.5), rel=1e-12)
    assert found.log_loss == pytest.approx(log_loss(truth, score.astype(float)), rel=1e-6)
    assert found.brier == pytest.approx(brier_score_loss(truth, score.astype(float)), rel=1e-6)


def test_a_regression_has_errors_and_a_corrected_typing_error_leaves_none(
    new_counting: "Callable[..., Counting]", world: "World"
) -> None:
    task = Score("regression", "minutes", 0)
    raw = write_json(msgspec.structs.replace(world.profile, score=task))
    schema = sha256_of(raw)
    plan = world.plan(lr="1")
    plan = msgspec.structs.replace(plan, variants=[msgspec.structs.replace(plan.variants[0], profile=schema)])
    counting = new_counting(plan=plan, profile=False)
    counting.book.learn(schema, raw, world.t0)
    dice = np.random.default_rng(8)
    score, truth = dice.normal(30, 9, (2, 1000)).astype(np.float32)
    score[7] = np.nan
    counting.take(world.batch(1, 1000, score=score, label=255, first=0, schema=schema, variants=["lr"]))
    labels = [(i, float(truth[i])) for i in range(1000)]
    found = counting.take(world.labels(*labels, (3, "late"), (5, math.inf))).variants["lr"].quality
    has = np.isfinite(score)
    assert (found.n, found.positives, found.auc, found.log_loss, found.accuracy) == (998, 0, None, None, None)
    has[[3, 5]] = False
    assert found.mae == pytest.approx(mean_absolute_error(truth[has], score[has]), rel=0.01)
    assert found.rmse == pytest.approx(root_mean_squared_error(truth[has], score[has]), rel=0.01)
    assert found.mae is not None
    assert found.mean_error == pytest.approx((score - truth)[has].mean(), abs=0.01 * found.mae)
    wrong = counting.take(world.labels((9, 1e15), received_at=world.t0 + 1)).variants["lr"].quality
    assert wrong.rmse is not None and wrong.rmse > 1000
    again = counting.take(world.labels((9, float(truth[9])), received_at=world.t0 + 2)).variants["lr"].quality
    assert again == found


@pytest.mark.parametrize("label", [1, 1.0, True, "1"])
def test_every_spelling_of_a_class_is_that_class(counting: "Counting", world: "World", label: Any) -> None:
    found = counting.take(world.batch(1, 1, first=0), world.labels((0, label)))
    assert found.variants["lr"].quality.positives == 1


def test_the_same_label_again_is_a_duplicate(counting: "Counting", world: "World") -> None:
    once = counting.take(world.batch(1, first=0), world.labels((0, 1)))
    again = counting.take(world.labels((0, 1), (0, "1")))
    assert outcomes(again) == {"received": 3, "joined": 1, "duplicate": 2}
    assert again.variants == once.variants
    assert again.feedback.pending == 9


def test_a_conflicting_label_replaces_what_the_old_one_said(counting: "Counting", world: "World") -> None:
    score = np.full(10, 0.9)
    counting.take(world.batch(1, score=score, label=1, first=0), world.labels((0, 1), (1, 0)))
    found = counting.take(world.labels((0, 0)))
    assert outcomes(found) == {"received": 3, "joined": 2, "conflicting": 1}
    quality = found.variants["lr"].quality
    assert (quality.n, quality.positives, quality.accuracy) == (2, 0, 0.0)
    assert quality.log_loss == pytest.approx(-math.log(0.1), rel=1e-5)


def test_the_later_observation_wins_whatever_arrives_last(counting: "Counting", world: "World") -> None:
    counting.take(world.batch(1, first=0), world.labels((0, 1, "2026-10-02T00:00:00Z")))
    found = counting.take(world.labels((0, 0, "2026-10-01T00:00:00Z")))
    assert outcomes(found) == {"received": 2, "joined": 1, "conflicting": 1}
    assert found.variants["lr"].quality.positives == 1
    found = counting.take(world.labels((0, 0, "2026-10-03T00:00:00+00:00")))
    assert found.variants["lr"].quality.positives == 0


def test_two_sources_count_one_prediction_once_and_the_latest_is_believed(counting: "Counting", world: "World") -> None:
    counting.take(world.batch(1, first=0), world.labels((0, 1, "2026-10-01T00:00:00Z", "card")))
    found = counting.take(world.labels((0, 0, "2026-10-02T00:00:00Z", "clerk")))
    assert outcomes(found) == {"received": 2, "joined": 2}
    quality = found.variants["lr"].quality
    assert (quality.n, quality.positives) == (1, 0)
    assert found.feedback.pending == 9


def test_a_label_before_its_prediction_waits_and_joins(counting: "Counting", world: "World") -> None:
    early = counting.take(world.labels((0, 1)))
    assert outcomes(early) == {"received": 1, "parked": 1}
    found = counting.take(world.batch(1, first=0))
    assert outcomes(found) == {"received": 1, "joined": 1}
    assert found.variants["lr"].quality.n == 1
    assert found.feedback.pending == 9


def test_a_label_without_a_prediction_becomes_unknown(counting: "Counting", world: "World") -> None:
    counting.take(world.labels((77, 1)))
    counting.book.tidy(world.t0 + 15 * 60_000 - 1)
    assert outcomes(counting.evidence) == {"received": 1, "parked": 1}
    counting.book.tidy(world.t0 + 15 * 60_000 + 1)
    assert outcomes(counting.evidence) == {"received": 1, "unknown": 1}


def test_predictions_expire_and_their_labels_come_too_late(
    new_counting: "Callable[..., Counting]", world: "World"
) -> None:
    counting = new_counting(plan=world.plan(retention=Retention(pending_seconds=86_400)))
    counting.take(world.batch(1, first=0), world.labels((0, 1)))
    counting.book.tidy(world.t0 + DAY_MS + 1000)
    assert counting.state.tally.unlabelled == 9
    assert counting.evidence.feedback.pending == 0
    found = counting.take(world.labels((1, 1)), now_ms=world.t0 + DAY_MS + 1000)
    assert outcomes(found) == {"received": 2, "joined": 1, "expired": 1}
    assert found.variants["lr"].quality.n == 1
    assert counting.store.sql.execute("SELECT count(*) FROM predictions").fetchone() == (0,)
    assert counting.store.sql.execute("SELECT count(*) FROM labels").fetchone() == (0,)


@pytest.mark.parametrize("reason", ["override", "fallback", "ineligible"])
def test_rows_the_split_did_not_choose_stay_out_of_quality(counting: "Counting", world: "World", reason: str) -> None:
    found = counting.take(world.batch(1, reason=reason, first=0), world.labels((0, 1)))
    assert outcomes(found) == {"received": 1, "joined": 1}
    assert found.variants["lr"].quality.n == 0


def test_a_failed_row_is_no_prediction(counting: "Counting", world: "World") -> None:
    found = counting.take(world.batch(1, 1, status=503, first=0), world.labels((0, 1)))
    assert outcomes(found) == {"received": 1, "parked": 1}
    assert found.feedback.pending == 0


def test_a_label_that_is_no_class_joins_and_is_left_out_of_quality(counting: "Counting", world: "World") -> None:
    found = counting.take(world.batch(1, first=0), world.labels((0, "maybe")))
    assert outcomes(found) == {"received": 1, "joined": 1}
    assert found.variants["lr"].quality.n == 0
    assert counting.state.tally.unusable == 1


def test_rows_of_one_request_have_labels_of_their_own(counting: "Counting", world: "World") -> None:
    ids = np.array([world.id(5)] * 3, "V16")
    batch = world.batch(1, 3, id=ids, row=[0, 1, 2])
    labels = FeedbackBatch(world.t0, [LabelEvent(world.id(5), row, 1) for row in (1, 2, None)])
    found = counting.take(batch, labels)
    assert found.variants["lr"].quality.n == 3
    assert found.feedback.pending == 0


def shadowed(world: "World") -> tuple[Any, Any]:
    champion = world.batch(1, 4, first=0, score=[0.9, 0.2, 0.8, 0.1], label=[1, 0, 1, 0])
    shadow = world.batch(
        2, 4, "gbm", first=0, sent=4, reason="shadow", assigned=0, score=[0.7, 0.6, 0.9, 0.2], label=[1, 1, 1, 0]
    )
    return champion, shadow


def test_champion_and_shadow_are_compared_row_by_row(counting: "Counting", world: "World") -> None:
    found = counting.take(*shadowed(world)).agreement["gbm"]
    assert (found.n, found.label, found.labelled) == (4, 0.75, 0)
    assert found.mean_abs_score_difference == pytest.approx((0.2 + 0.4 + 0.1 + 0.1) / 4, rel=1e-5)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations([0, 1, 2]), together=st.booleans())
def test_live_answer_shadow_answer_and_label_may_come_in_any_order(
    new_counting: "Callable[..., Counting]", world: "World", order: list[int], together: bool
) -> None:
    counting = new_counting(f"{''.join(map(str, order))}-{together}-{np.random.default_rng().integers(1 << 60)}.db")
    things = [*shadowed(world), world.labels((0, 1), (1, 0), (2, 0), (1, 1), (1, 0))]
    rounds = [order] if together else [[i] for i in order]
    found = [counting.take(*[things[i] for i in some]) for some in rounds][-1]
    pair = found.agreement["gbm"]
    assert (pair.n, pair.labelled, pair.champion_only_right, pair.challenger_only_right) == (4, 3, 1, 0)
    assert found.variants["lr"].quality.accuracy == pytest.approx(2 / 3)
    assert found.variants["gbm"].quality.accuracy == pytest.approx(1 / 3)
    assert outcomes(found) == {"received": 5, "joined": 3, "conflicting": 2}
    assert found.feedback.pending == 1


def test_a_shadow_of_another_rollout_makes_no_pair(counting: "Counting", world: "World") -> None:
    champion, shadow = shadowed(world)
    shadow.rollout = "r0"
    assert counting.take(champion, shadow).agreement == {}


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations([0, 1, 2, 3, 4]), late=st.sampled_from(["lr", "gbm", "both"]))
def test_a_profile_may_come_after_its_predictions_and_their_labels(
    new_counting: "Callable[..., Counting]", world: "World", order: list[int], late: str
) -> None:
    other = write_json(msgspec.structs.replace(world.profile, name="other"))
    schemas = {"lr": sha256_of(other) if late == "lr" else world.schema,
               "gbm": sha256_of(other) if late == "gbm" else world.schema}  # fmt: skip
    plan = world.plan()
    variants = [msgspec.structs.replace(one, profile=schemas[one.name]) for one in plan.variants]
    counting = new_counting(
        f"{np.random.default_rng().integers(1 << 60)}.db",
        plan=msgspec.structs.replace(plan, variants=variants),
        profile=late != "both",
    )
    raw = world.raw_profile if late == "both" else other
    champion, shadow = shadowed(world)
    champion.schema, shadow.schema = schemas["lr"], schemas["gbm"]
    first, corrected = world.labels((0, 1), (1, 0), (2, 0), (3, "maybe")), world.labels((1, 1), (3, "unsure"))
    corrected = msgspec.structs.replace(corrected, received_at=world.t0 + 1)
    things = [champion, shadow, first, corrected]
    for number in order:
        if number == len(things):
            counting.book.learn(sha256_of(raw), raw, world.t0)
            counting.reopen()
        else:
            counting.take(things[number])
    found = counting.evidence
    pair = found.agreement["gbm"]
    assert (pair.labelled, pair.champion_only_right, pair.challenger_only_right) == (3, 0, 1)
    for variant, right in (("lr", 1), ("gbm", 2)):
        quality = found.variants[variant].quality
        assert (quality.n, quality.positives) == (3, 2)
        assert quality.accuracy == pytest.approx(right / 3)
