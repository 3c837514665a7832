"""A fake API server and the controller's own copy of what it holds."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kingmaker_controller.kube import api as kube_api
from kingmaker_controller.kube.api import SERVED_MODEL, Api
from kingmaker_controller.kube.reflector import Pace, Reflector
from tests.fakes.fake_apiserver import FakeApiserver, load_yaml

NOW = datetime(2026, 11, 21, tzinfo=UTC)
CRD = Path(__file__).parents[2] / "deploy" / "k8s" / "crd"
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


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Cluster]:
    """One whose copy is kept."""
    with FakeApiserver(load_yaml(CRD), port=0) as server:
        client = await kube_api.connect(server.kubeconfig(folder / "kubeconfig"), lambda *_: None)
        built = Cluster(server, client)
        task = asyncio.create_task(built.copy.run())
        await asyncio.wait_for(built.copy.synced.wait(), 30)
        yield built
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.close()
