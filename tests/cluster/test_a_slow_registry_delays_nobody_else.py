"""A registry that takes its time, or goes away, delays the variants that need it and no other model's objects."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from kingmaker_contracts.served_model import Champion
from kingmaker_controller.errors import FetchFailed
from kingmaker_controller.kube import api as kube_api
from kingmaker_controller.kube.api import DEPLOYMENT, SERVICE, Api
from kingmaker_controller.kube.reflector import Reflector
from kingmaker_controller.rollout.facts import Identity, WantedVariant
from kingmaker_controller.runtimes import applying, children
from kingmaker_controller.runtimes.kubernetes import KubernetesRuntime
from kingmaker_controller.runtimes.manifests import OWN_SELECTOR, Owner
from kingmaker_controller.runtimes.packages import Packages
from kingmaker_controller.runtimes.podspec import Pin, Template
from kingmaker_controller.runtimes.registry import Registry
from tests.cluster.copies import until
from tests.fakes.fake_apiserver import FakeApiserver, load_yaml

pytestmark = pytest.mark.fake_only("the registry answers when the test says so")

CRD = Path(__file__).parents[2] / "deploy" / "k8s" / "crd"


class Slow(Registry):
    """Answers for `quick` at once, and for everything else when it is told to. faults: what it says instead."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.asked: list[str] = []
        self.faults: list[FetchFailed] = []

    async def resolve(self, model: str) -> Pin:
        self.asked.append(model)
        if "quick" not in model:
            await self.may_answer.wait()
        if self.faults:
            raise self.faults.pop()
        return Pin("1", "a" * 64)


class Around:
    """A runtime with its copies, on a fake API server."""

    def __init__(self, server: FakeApiserver, client: Api) -> None:
        self.server, self.client, self.registry = server, client, Slow()
        self.deployments = Reflector(
            client, DEPLOYMENT, "default", OWN_SELECTOR, on_change=self._note, keep=applying.slim
        )
        self.services = Reflector(
            client, SERVICE, "default", OWN_SELECTOR, on_change=self._note_service, keep=children.slim
        )
        alive = server.cluster.store.all("namespaces")[0]["metadata"]["uid"]  # else the garbage collector takes them
        self.runtime = KubernetesRuntime(
            client, self.registry, Packages(httpx.AsyncClient(trust_env=False)), Template("image", "http://registry"),
            self.deployments.objects, owner_of=lambda model: Owner(model.split("/")[1], "default", alive),
            has_monitors=lambda: False, on_change=lambda: None,
        )  # fmt: skip

    def _note(self, name: str, item: Any) -> None:
        self.runtime.note_deployment(name, item)

    def _note_service(self, name: str, item: Any) -> None:
        self.runtime.note_child(SERVICE, name, item)

    def want(self, name: str) -> Identity:
        variant = WantedVariant("lr", f"models:/{name}/1", "", "", None, 1, asked=Champion(name="lr", model="m"))
        self.runtime.apply(f"default/{name}", [variant])
        return variant.identity

    def made(self, name: str) -> bool:
        found = self.server.cluster.store.all("deployments.apps", "default")
        return any(item["metadata"]["labels"]["kingmaker.dev/model"] == name for item in found)


@pytest.fixture
async def around(tmp_path: Path) -> AsyncIterator[Around]:
    with FakeApiserver(load_yaml(CRD), port=0) as server:
        client = await kube_api.connect(server.kubeconfig(tmp_path / "kubeconfig"), lambda *_: None)
        built = Around(server, client)
        work = (built.deployments.run(), built.services.run(), built.runtime.run())
        tasks = [asyncio.create_task(each) for each in work]
        await asyncio.wait_for(built.services.synced.wait(), 30)
        yield built
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await built.runtime.close()
        await client.close()


async def test_other_models_get_their_pods_while_the_registry_thinks(around: Around) -> None:
    slow = around.want("slow")
    await until(lambda: around.registry.asked == ["models:/slow/1"])
    around.want("quick")
    await until(partial(around.made, "quick"))
    assert not around.made("slow")
    assert around.runtime.observe("default/slow", frozenset())[slow].phase == "Fetching"
    around.registry.may_answer.set()
    await until(partial(around.made, "slow"))


async def test_many_that_wait_for_the_registry_do_not_ask_it_all_at_once(around: Around) -> None:
    for i in range(30):
        around.want(f"slow{i}")
    await until(lambda: len(around.registry.asked) == 8)
    around.want("quick")  # waits in line as well: its question is one to the same registry
    around.registry.may_answer.set()
    await until(lambda: all(around.made(f"slow{i}") for i in range(30)))
    assert len(around.registry.asked) == 31


async def test_a_reason_is_shown_until_the_registry_answers_and_it_is_asked_again_by_itself(around: Around) -> None:
    around.registry.faults = [FetchFailed("registry http://registry: refused", "RegistryUnreachable")]
    quick = around.want("quick")

    def seen() -> Any:
        return around.runtime.observe("default/quick", frozenset())[quick]

    await until(lambda: seen().reason == "RegistryUnreachable")
    assert "refused" in seen().message
    await until(partial(around.made, "quick"))
    assert around.registry.asked == ["models:/quick/1"] * 2


async def test_a_variant_nobody_wants_any_more_is_not_asked_about(around: Around) -> None:
    around.want("slow")
    await until(lambda: around.registry.asked == ["models:/slow/1"])
    around.runtime.apply("default/slow", [])
    await until(lambda: not around.runtime.observe("default/slow", frozenset()))
    around.registry.may_answer.set()
    around.want("quick")
    await until(partial(around.made, "quick"))
    assert not around.made("slow")
