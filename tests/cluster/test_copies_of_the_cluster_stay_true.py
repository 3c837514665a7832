"""The controller's copy of a kind, list and watch, against the fake API server and its faults."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from kingmaker_controller.errors import KubernetesError
from kingmaker_controller.kube import api as kube_api
from kingmaker_controller.kube.api import SERVED_MODEL, SERVICE_MONITOR
from kingmaker_controller.kube.reflector import Pace, Reflector
from tests.cluster.copies import QUICK, Cluster, running, until
from tests.fakes.fake_apiserver.cluster import Write

pytestmark = pytest.mark.fake_only("watches break off, hang and are refused when the test says so")

DEFINITION = ("apiextensions.k8s.io", "v1", "customresourcedefinitions")
DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with running(tmp_path) as made:
        yield made


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
