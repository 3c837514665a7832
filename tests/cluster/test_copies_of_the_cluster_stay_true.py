"""Reflector, lease, status writes and Events of the controller against the fake API server and its faults."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kingmaker_contracts.status import Condition, RoutingStatus, Status
from kingmaker_controller.errors import KubernetesError, LeaderLost, LeaseHeld, LeaseUnavailable, StatusOutdated
from kingmaker_controller.kube import api as kube_api
from kingmaker_controller.kube import records as kube_records
from kingmaker_controller.kube.api import EVENT, SERVED_MODEL, SERVICE_MONITOR, Api
from kingmaker_controller.kube.events import Events
from kingmaker_controller.kube.lease import DURATION_S, PACE, KubernetesLease
from kingmaker_controller.kube.records import KubernetesRecords
from kingmaker_controller.kube.reflector import Pace, Reflector
from kingmaker_controller.leader import Leader
from kingmaker_controller.rollout.facts import Event
from kingmaker_controller.state import StoredModel
from tests.fakes.fake_apiserver import FakeApiserver, load_yaml
from tests.fakes.fake_apiserver.cluster import Write

pytestmark = pytest.mark.fake_only("watches break off, hang and are refused when the test says so")

NOW = datetime(2026, 11, 21, tzinfo=UTC)
CRD = Path(__file__).parents[2] / "deploy" / "k8s" / "crd"
DEFINITION = ("apiextensions.k8s.io", "v1", "customresourcedefinitions")
DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"
QUICK = Pace(silence_s=0.5, watch_s=60.0, relist_s=60.0, first_s=0.02, last_s=0.1)


class Cluster:
    """A fake API server, a client, and a copy that is kept in the background. clock: of records, in seconds."""

    def __init__(self, server: FakeApiserver, client: Api) -> None:
        self.server, self.client = server, client
        self.seen: list[tuple[str, int | None]] = []
        self.clock = [1000.0]
        self.copy = self.reflector(QUICK)

    def reflector(self, pace: Pace) -> Reflector:
        return Reflector(self.client, SERVED_MODEL, "default", on_change=self._note, pace=pace)

    def _note(self, name: str, item: Any) -> None:
        self.seen.append((name, None if item is None else item["spec"].get("weights", {}).get("b")))

    async def make(self, name: str) -> dict[str, Any]:
        return await self.client.create(SERVED_MODEL, "default", resource(name))

    async def weigh(self, name: str, weight: int) -> None:
        await self.client.merge(SERVED_MODEL, "default", name, {"spec": {"weights": {"b": weight}}})

    def weight(self, name: str) -> Any:
        item = self.copy.objects.get(name)
        return None if item is None else item["spec"].get("weights", {}).get("b")


def resource(name: str) -> dict[str, Any]:
    spec = {"champion": {"name": "a", "model": "models:/m/1"}, "challengers": [{"name": "b", "model": "models:/m/2"}]}
    head = {"apiVersion": SERVED_MODEL.api_version, "kind": SERVED_MODEL.kind}
    return {**head, "metadata": {"name": name, "namespace": "default"}, "spec": spec}


async def until(holds: Callable[[], Any], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come true"
        await asyncio.sleep(0.01)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    with FakeApiserver(load_yaml(CRD), port=0) as server:
        client = await kube_api.connect(server.kubeconfig(tmp_path / "kubeconfig"), lambda *_: None)
        built = Cluster(server, client)
        task = asyncio.create_task(built.copy.run())
        await asyncio.wait_for(built.copy.synced.wait(), 30)
        yield built
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.close()


# the reflector


async def test_what_is_made_edited_and_deleted_is_seen_once_each(cluster: Cluster) -> None:
    await cluster.make("x")
    await until(lambda: "x" in cluster.copy.objects)
    await cluster.weigh("x", 5)
    await until(lambda: cluster.weight("x") == 5)
    await cluster.client.delete(SERVED_MODEL, "default", "x")
    await until(lambda: "x" not in cluster.copy.objects)
    assert cluster.seen == [("x", None), ("x", 5), ("x", None)]


async def test_a_list_of_many_pages_is_whole(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube_api, "PAGE", 3)
    for i in range(8):
        await cluster.make(f"x{i}")
    items, _ = await cluster.client.list(SERVED_MODEL, "default")
    assert [item["metadata"]["name"] for item in items] == [f"x{i}" for i in range(8)]


async def test_a_kind_the_cluster_does_not_know_is_none_until_it_does(cluster: Cluster) -> None:
    pace = replace(QUICK, relist_s=0.2)
    made = [c for c in cluster.server.cluster.store.all(DEFINITIONS) if c["spec"]["names"]["kind"] == "ServiceMonitor"]
    definitions = cluster.server.cluster.kind(*DEFINITION)
    cluster.server.cluster.delete(definitions, "", made[0]["metadata"]["name"], {})
    monitors = Reflector(
        cluster.client, SERVICE_MONITOR, "default", on_change=cluster._note, is_optional=True, pace=pace
    )
    task = asyncio.create_task(monitors.run())
    await asyncio.wait_for(monitors.synced.wait(), 30)
    assert not monitors.exists and monitors.objects == {}
    fresh = {**made[0], "metadata": {"name": made[0]["metadata"]["name"]}}
    cluster.server.cluster.create(definitions, "", fresh, Write("kubectl"))
    await until(lambda: monitors.exists)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_dropped_watch_goes_on_where_it_was(cluster: Cluster) -> None:
    await cluster.make("x")
    await until(lambda: "x" in cluster.copy.objects)
    lists = len(cluster.server.faults.seen(verb="GET", path="servedmodels"))

    async def edit(weight: int) -> None:
        cluster.server.faults.drop_watches()
        await cluster.weigh("x", weight)
        await until(lambda: cluster.weight("x") == weight)

    for weight in (1, 2, 3):
        await edit(weight)
    assert len(cluster.server.faults.seen(verb="GET", path="servedmodels")) == lists, "no new list was needed"


async def test_watches_that_end_at_once_are_not_asked_for_without_a_pause(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[int] = []

    def wait_s(failures: int) -> float:
        waits.append(failures)
        return 0.001

    monkeypatch.setattr(cluster.copy, "_wait_s", wait_s)
    cluster.server.faults.longest_watch_s = 0.0
    cluster.server.faults.drop_watches()
    await until(lambda: len(waits) >= 5)
    assert waits[:5] == [0, 1, 2, 3, 4], "each pause is longer than the one before"


async def test_a_version_that_is_too_old_means_to_list_again(cluster: Cluster) -> None:
    await cluster.make("x")
    await cluster.make("y")
    await until(lambda: "y" in cluster.copy.objects)
    cluster.server.faults.trouble(verb="WATCH", path="servedmodels", times=3, code=503)
    cluster.server.faults.drop_watches()
    await cluster.weigh("x", 7)
    await cluster.client.delete(SERVED_MODEL, "default", "y")
    cluster.server.cluster.store.compact()
    await until(lambda: cluster.weight("x") == 7 and "y" not in cluster.copy.objects)
    assert cluster.seen[[name for name, _ in cluster.seen].index("y")] == ("y", None), "its loss was told"


async def test_a_watch_that_falls_silent_is_taken_for_dead(cluster: Cluster) -> None:
    await cluster.make("x")
    await until(lambda: "x" in cluster.copy.objects)
    cluster.server.faults.half_open = True
    await cluster.weigh("x", 9)
    await asyncio.sleep(0.05)
    assert cluster.weight("x") is None, "the frozen watch tells nothing"
    cluster.server.faults.half_open = False
    await until(lambda: cluster.weight("x") == 9)


async def test_an_api_server_that_restarts_or_fails_for_a_while_is_found_again(cluster: Cluster) -> None:
    await cluster.make("x")
    await until(lambda: "x" in cluster.copy.objects)
    cluster.server.stop()
    await asyncio.sleep(0.2)
    assert "x" in cluster.copy.objects, "what was known is kept"
    cluster.server.start()
    cluster.server.faults.trouble(path="servedmodels", times=4, code=500)
    await until(lambda: not cluster.server.faults.strikes("", "nothing"))
    while True:
        with contextlib.suppress(KubernetesError):
            await cluster.weigh("x", 4)
            break
    await until(lambda: cluster.weight("x") == 4)


async def test_everything_is_listed_again_now_and_then(cluster: Cluster) -> None:
    second = cluster.reflector(Pace(silence_s=5.0, relist_s=0.5, first_s=0.02, last_s=0.1))
    task = asyncio.create_task(second.run())
    before = len(cluster.server.faults.seen(verb="GET", path="servedmodels"))
    await until(lambda: len(cluster.server.faults.seen(verb="GET", path="servedmodels")) >= before + 3)
    task.cancel()


async def test_an_older_event_does_not_undo_what_a_write_returned(cluster: Cluster) -> None:
    made = await cluster.make("x")
    await until(lambda: "x" in cluster.copy.objects)
    cluster.server.faults.half_open = True  # the watch brings nothing any more
    await cluster.weigh("x", 5)
    newest = await cluster.client.get(SERVED_MODEL, "default", "x")
    cluster.copy.put(newest)
    assert cluster.weight("x") == 5
    cluster.copy.put(made)
    assert cluster.weight("x") == 5


# the lease


async def test_the_lease_is_taken_renewed_taken_over_and_given_back(cluster: Cluster) -> None:
    clock = [100.0]

    def lease() -> KubernetesLease:
        return KubernetesLease(cluster.client, "default", "kingmaker", lambda: clock[0])

    first = Leader(lease(), "one", PACE, lambda: clock[0])
    second = Leader(second_store := lease(), "two", PACE, lambda: clock[0])
    assert await first.acquire([4], NOW) == 5
    with pytest.raises(LeaseHeld, match="one"):
        await second.acquire([], NOW)
    clock[0] += PACE.renew_s
    await first.hold(NOW.replace(minute=1))
    clock[0] += DURATION_S - 1.0
    with pytest.raises(LeaseHeld):
        await second.acquire([], NOW)  # its renewal was seen only now
    clock[0] += DURATION_S
    assert await second.acquire([], NOW) == 6, "nobody renewed it for as long as a lease lasts"
    with pytest.raises(LeaderLost):
        await first.hold(NOW)
    await first.release()
    stored = await second_store.read_lease()
    assert stored is not None and stored.holder == "two", "who lost it gives nothing back"
    await second.release()
    assert await Leader(lease(), "three", PACE, lambda: clock[0]).acquire([], NOW) == 7, "no wait after a release"


async def test_leadership_survives_a_lost_answer_and_ends_when_nobody_answers(cluster: Cluster) -> None:
    clock = [0.0]
    store = KubernetesLease(cluster.client, "default", "kingmaker", lambda: clock[0])
    leader = Leader(store, "one", PACE, lambda: clock[0])
    await leader.acquire([], NOW)
    cluster.server.faults.trouble(verb="PUT", path="leases", times=1, how="drop after")
    clock[0] += 2.0
    await leader.hold(NOW.replace(minute=1))
    clock[0] += 2.0
    await leader.hold(NOW.replace(minute=2))  # the stored one is our own, though it is not what we last heard of
    assert leader.epoch == 1
    cluster.server.faults.trouble(path="leases", times=1000, code=500)
    clock[0] += 5.0
    await leader.hold(NOW)
    clock[0] += 5.0
    with pytest.raises(LeaderLost, match="could not be renewed"):
        await leader.hold(NOW)


def leader_of(cluster: Cluster, holder: str) -> Leader:
    return Leader(KubernetesLease(cluster.client, "default", "kingmaker"), holder, PACE)


async def test_who_took_the_lease_without_hearing_of_it_does_not_wait_for_itself(cluster: Cluster) -> None:
    for verb in ("POST", "PUT"):
        leader = leader_of(cluster, f"by {verb}")
        cluster.server.faults.trouble(verb=verb, path="leases", how="drop after")
        with pytest.raises((LeaseUnavailable, LeaseHeld)):  # the client sends a PUT again, which then finds its own
            await leader.acquire([], NOW)
        with pytest.raises(LeaseHeld):
            await leader_of(cluster, "another").acquire([], NOW)
        taken = await leader.acquire([], NOW)
        assert taken == leader.epoch
        await leader.release()
    assert taken == 4, "each attempt counted"


async def test_a_lease_whose_renewal_was_broken_off_is_given_back(cluster: Cluster) -> None:
    leader = leader_of(cluster, "one")
    await leader.acquire([], NOW)
    cluster.server.faults.trouble(verb="PUT", path="leases", how="hang after")
    renewing = asyncio.create_task(leader.renew(NOW.replace(minute=1)))
    await until(lambda: cluster.server.faults.seen("PUT", "leases"))
    renewing.cancel()
    await asyncio.gather(renewing, return_exceptions=True)
    cluster.server.faults.clear()
    await leader.release()
    assert await leader_of(cluster, "two").acquire([], NOW) == 2


# statuses and Events


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
