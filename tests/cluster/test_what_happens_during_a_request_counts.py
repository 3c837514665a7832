"""An answer that comes late, and a wish that changes while the last one is carried out: what is newer counts."""

from functools import partial
from typing import Any

import pytest

from kingmaker_controller.kube.api import SERVICE
from kingmaker_controller.runtimes import manifests
from tests.cluster.copies import until
from tests.cluster.test_a_slow_registry_delays_nobody_else import Around, around  # noqa: F401 - a fixture
from tests.fakes.fake_apiserver.cluster import Write

pytestmark = pytest.mark.fake_only("answers are held back when the test says so")

MODEL = "default/quick"
ID = manifests.ID_LABEL


@pytest.fixture
async def name(around: Around) -> str:  # noqa: F811
    """Of the objects of the one variant, once the copies have them."""
    found = manifests.name_of(MODEL, around.want("quick"))
    await until(partial(around.made, "quick"))
    await until(lambda: found in around.deployments.objects and found in around.services.objects)
    return found


def select(around: Around, name: str, whom: str) -> None:  # noqa: F811
    """Past the HTTP server, where answers are held back."""
    cluster, change = around.server.cluster, {"spec": {"selector": {ID: whom}}}
    services = cluster.kind("", "v1", "services")
    cluster.patch(services, "default", name, "application/merge-patch+json", change, Write("kubectl"))


def selected(items: list[dict[str, Any]]) -> list[str]:
    return [item["spec"]["selector"][ID] for item in items]


@pytest.mark.parametrize("happens", ["deleted", "edited"])
async def test_a_child_that_changes_while_it_is_put_right_is_put_right_again(
    around: Around,  # noqa: F811
    name: str,
    happens: str,
) -> None:
    faults, store = around.server.faults, around.server.cluster.store
    before = len(faults.seen("PATCH", "/services/"))
    trouble = faults.trouble(verb="PATCH", path="/services/", how="hang after")
    select(around, name, "nobody")
    await until(lambda: not trouble.times and len(faults.seen("PATCH", "/services/")) > before)
    if happens == "deleted":
        await around.client.delete(SERVICE, "default", name)
        await until(lambda: name not in around.services.objects)
    else:
        select(around, name, "nobody else")
        await until(lambda: selected([around.services.objects[name]]) == ["nobody else"])
    faults.clear()
    await until(lambda: selected(store.all("services", "default")) == [name])


async def test_a_model_made_again_while_the_last_one_is_taken_away_gets_its_pods(
    around: Around,  # noqa: F811
    name: str,
) -> None:
    faults = around.server.faults
    faults.trouble(verb="DELETE", path="/deployments/", how="hang after")
    around.runtime.apply(MODEL, [])
    await until(lambda: faults.seen("DELETE", "/deployments/") and name not in around.deployments.objects)
    around.want("quick")
    faults.clear()
    await until(partial(around.made, "quick"))
