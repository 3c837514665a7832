"""Status writes and Events of the controller against the fake API server and its faults."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from kingmaker_contracts.status import Condition, RoutingStatus, Status
from kingmaker_controller.errors import KubernetesError, StatusOutdated
from kingmaker_controller.kube import records as kube_records
from kingmaker_controller.kube.api import EVENT, SERVED_MODEL
from kingmaker_controller.kube.events import Events
from kingmaker_controller.kube.records import KubernetesRecords
from kingmaker_controller.rollout.facts import Event
from kingmaker_controller.state import StoredModel
from tests.cluster.copies import NOW, Cluster, resource, running, until

pytestmark = pytest.mark.fake_only("watches break off, hang and are refused when the test says so")


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with running(tmp_path) as made:
        yield made


def stored(name: str, message: str, phase: str = "Stable") -> StoredModel:
    conditions = [Condition("Ready", "True", "ChampionServes", message, "2026-11-21T00:00:00.000Z", 1)]
    data = {**resource(name), "spec": {"champion": {"name": "a", "model": "models:/m/1"}}}
    status = Status(1, phase, message, conditions=conditions)
    return StoredModel(f"default/{name}", "", 1, data, status, removed=False)


@pytest.fixture
async def records(cluster: Cluster) -> KubernetesRecords:
    await cluster.make("x")
    await until(lambda: "x" in cluster.copy.objects)
    events = Events(cluster.client, "default", "me", lambda: None)
    made = KubernetesRecords(cluster.client, cluster.copy, events, lambda: cluster.clock[0])
    made.models()
    return made


def writes(cluster: Cluster) -> int:
    return len(cluster.server.faults.seen(verb="PATCH", path="/status"))


async def test_news_is_written_at_once_and_other_words_at_most_once_a_minute(
    cluster: Cluster, records: KubernetesRecords
) -> None:
    await records.save(stored("x", "1 of 3"), [], NOW)
    for i in range(30):
        await records.save(stored("x", f"{i} of 3"), [], NOW)
    assert writes(cluster) == 1
    await records.save(stored("x", "0 of 3", "Degraded"), [], NOW)
    assert writes(cluster) == 2
    await records.save(stored("x", "1 of 3", "Degraded"), [], NOW)
    assert writes(cluster) == 2
    cluster.clock[0] += 60.0
    await records.save(stored("x", "2 of 3", "Degraded"), [], NOW)
    assert writes(cluster) == 3


async def test_a_status_changes_neither_spec_nor_metadata(cluster: Cluster, records: KubernetesRecords) -> None:
    before = await cluster.client.get(SERVED_MODEL, "default", "x")
    await records.save(stored("x", "fine"), [], NOW)
    after = await cluster.client.get(SERVED_MODEL, "default", "x")
    changed = {key for key in after["metadata"] if after["metadata"][key] != before["metadata"].get(key)}
    assert after["spec"] == before["spec"]
    assert changed == {"resourceVersion", "managedFields"}
    read = records.models()["default/x"]
    assert replace(read, created_at="") == stored("x", "fine"), "a new leader reads what was written"


async def test_a_status_somebody_else_wrote_meanwhile_is_not_overwritten(
    cluster: Cluster, records: KubernetesRecords
) -> None:
    other = KubernetesRecords(cluster.client, cluster.copy, Events(cluster.client, "default", "o", lambda: None))
    other.models()
    await records.save(stored("x", "mine"), [], NOW)
    with pytest.raises(StatusOutdated):
        await other.save(stored("x", "theirs"), [], NOW)
    read = await other.reload(stored("x", "theirs"))
    assert read.status.message == "mine"
    await other.save(stored("x", "theirs, knowingly"), [Event("A", "b")], NOW)
    with pytest.raises(StatusOutdated):
        await records.save(stored("x", "mine again", "Degraded"), [], NOW)


async def test_an_edit_of_the_spec_meanwhile_does_not_matter_once_it_is_seen(
    cluster: Cluster, records: KubernetesRecords
) -> None:
    await records.save(stored("x", "mine"), [], NOW)
    await cluster.weigh("x", 3)
    await until(lambda: cluster.weight("x") == 3)
    await records.save(stored("x", "mine", "Degraded"), [], NOW)
    assert writes(cluster) == 2


@pytest.mark.parametrize("is_made_again", [False, True])
async def test_a_model_deleted_while_its_status_is_written_stays_deleted(
    cluster: Cluster, records: KubernetesRecords, is_made_again: bool
) -> None:
    cluster.server.faults.trouble(verb="PATCH", path="/status", how="hang after")
    writing = asyncio.create_task(records.save(stored("x", "mine"), [], NOW))
    await until(lambda: writes(cluster) == 1)
    await cluster.client.delete(SERVED_MODEL, "default", "x")
    await until(lambda: "x" not in cluster.copy.objects)
    uids = set()
    if is_made_again:
        uids.add((await cluster.make("x"))["metadata"]["uid"])
        await until(lambda: "x" in cluster.copy.objects)
    cluster.server.faults.clear()
    await writing
    assert {item["metadata"]["uid"] for item in cluster.copy.objects.values()} == uids
    assert set(records.models()) == {"default/x"} if is_made_again else not records.models()


@pytest.mark.parametrize("is_written", [True, False])
async def test_a_decision_whose_write_was_not_answered_is_told_once_it_is_seen_to_stand(
    cluster: Cluster, records: KubernetesRecords, is_written: bool
) -> None:
    decided, event = stored("x", "crowned", "Degraded"), Event("ChampionCrowned", "b")
    cluster.server.faults.trouble(verb="PATCH", path="/status", how="drop after" if is_written else "drop before")
    with pytest.raises(KubernetesError):
        await records.save(decided, [event], NOW)
    read = await records.reload(decided)
    assert read.status.phase == ("Degraded" if is_written else "Pending")
    assert [entry.reason for entry in records.audit("default/x")] == (["ChampionCrowned"] if is_written else [])
    await records.save(replace(decided, status=msgspec.structs.replace(decided.status, phase="Stable")), [], NOW)
    await records.reload(decided)
    assert len(records.audit("default/x")) == is_written


async def make_again(cluster: Cluster) -> None:
    """x deleted, and another one made under its name."""
    await cluster.client.delete(SERVED_MODEL, "default", "x")
    uid = (await cluster.make("x"))["metadata"]["uid"]
    await until(lambda: "x" in cluster.copy.objects and cluster.copy.objects["x"]["metadata"]["uid"] == uid)


async def test_a_decision_about_a_deleted_model_is_not_written_to_the_next_of_its_name(
    cluster: Cluster, records: KubernetesRecords
) -> None:
    await make_again(cluster)
    with pytest.raises(StatusOutdated):
        await records.save(stored("x", "of the first"), [], NOW)
    assert "status" not in await cluster.client.get(SERVED_MODEL, "default", "x")


async def test_a_deleted_model_is_not_taken_for_the_next_of_its_name_and_hands_its_revision_on(
    cluster: Cluster, records: KubernetesRecords
) -> None:
    first = stored("x", "of the first")
    first = replace(first, status=msgspec.structs.replace(first.status, routing=RoutingStatus(17, 1, 100, "", [])))
    await records.save(first, [], NOW)
    await make_again(cluster)
    with pytest.raises(StatusOutdated):
        first = await records.reload(first)
    await records.save(replace(first, removed=True), [], NOW)
    second = records.find("default/x")
    assert second is not None and second.status.routing is not None
    assert second.status.routing.revision == 17


async def test_words_that_wait_for_their_minute_outlive_a_refused_write(
    cluster: Cluster, records: KubernetesRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube_records, "LOOK_S", 0.01)
    for words in ("0 of 3", "1 of 3"):
        await records.save(stored("x", words), [], NOW)
    cluster.server.faults.trouble(verb="PATCH", path="/status")
    cluster.clock[0] += 60.0
    working = asyncio.create_task(records.run())
    await until(lambda: writes(cluster) == 2)
    cluster.clock[0] += 60.0
    await until(lambda: cluster.copy.objects["x"]["status"]["message"] == "1 of 3")
    assert writes(cluster) == 3, "it was tried again after a minute"
    working.cancel()


async def test_the_last_words_are_written_though_newer_ones_came_while_another_model_was_written(
    cluster: Cluster, records: KubernetesRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube_records, "LOOK_S", 0.01)
    await cluster.make("y")
    await until(lambda: "y" in cluster.copy.objects)
    records.models()
    for name in ("x", "y"):
        for words in ("0 of 3", "1 of 3"):
            await records.save(stored(name, words), [], NOW)
        cluster.clock[0] += 30.0
    cluster.server.faults.trouble(verb="PATCH", path="/x/status", how="hang after")
    working = asyncio.create_task(records.run())
    await until(lambda: writes(cluster) == 3)
    await records.save(stored("y", "2 of 3"), [], NOW)
    cluster.clock[0] += 30.0
    cluster.server.faults.clear()
    await until(lambda: cluster.copy.objects["y"]["status"]["message"] != "0 of 3")
    assert cluster.copy.objects["y"]["status"]["message"] == "2 of 3"
    working.cancel()


async def test_a_repeated_event_is_counted_and_another_is_another(cluster: Cluster) -> None:
    made = await cluster.make("x")
    events = Events(cluster.client, "default", "me", lambda: None)
    about = {"apiVersion": made["apiVersion"], "kind": made["kind"], "name": "x", "namespace": "default"}
    about["uid"] = made["metadata"]["uid"]
    for event in (Event("VariantFailed", "b: no"), Event("VariantFailed", "b: no"), Event("VariantFailed", "b: why")):
        events.tell(about, event, NOW)
    events.tell(about, Event("WeightChanged", "ä" * 2000), NOW)
    events.tell(about, Event("VariantFailed", "b: no"), NOW)
    await events.flush(10)
    items, _ = await cluster.client.list(EVENT, "default")
    found = {e["note"][:8]: e for e in items}
    assert set(found) == {"b: no", "b: why", "ä" * 8}
    assert found["b: no"]["series"]["count"] == 3 and found["b: no"]["type"] == "Warning"
    assert found["ä" * 8]["type"] == "Normal"


async def test_an_event_that_was_being_sent_at_the_end_is_among_the_last_words(cluster: Cluster) -> None:
    made = await cluster.make("x")
    events = Events(cluster.client, "default", "me", lambda: None)
    about = {"apiVersion": made["apiVersion"], "kind": made["kind"], "name": "x", "namespace": "default"}
    about["uid"] = made["metadata"]["uid"]
    hanging = cluster.server.faults.trouble(verb="POST", path="/events", how="hang")
    for number in (1, 2):
        events.tell(about, Event("VariantFailed", f"b: {number}"), NOW)
    sending = asyncio.create_task(events.run())
    await until(lambda: hanging.times == 0)
    sending.cancel()
    await asyncio.wait([sending])
    cluster.server.faults.clear()
    await events.flush(10)
    items, _ = await cluster.client.list(EVENT, "default")
    assert {item["note"] for item in items} == {"b: 1", "b: 2"}
