"""Real model servers behind a real gateway: one is killed, one is drained, one comes, and no client fails.

Every answer is compared with ONNX Runtime's for its row alone, while the gateway joins rows of many clients.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest

from tests.conformance import models, stack
from tests.conformance.models import Oracle

pytestmark = pytest.mark.slow
CLIENTS = 24
TOLERANCE = 1e-6
PATIENCE_MS = 30_000
"""The clients share a process with the test and write a body one turn after its head: starting servers beside them may
hold them up for over a second, which is no fault of the gateway."""


@pytest.fixture
def replicas(tmp_path: Path, own_valkey: Any, model_bytes: dict[str, bytes]) -> Iterator[SimpleNamespace]:
    """start(): one more server of the model; publish(servers): who is routed to."""
    raw = model_bytes["flights"]
    known = models.flights_profile(raw)
    with ExitStack() as owned:
        revisions = iter(range(1, 100))

        def start(name: str) -> SimpleNamespace:
            process, address = stack.start_model_server(tmp_path / name, "flights", raw, known)
            owned.callback(process.stop)
            return SimpleNamespace(process=process, address=address)

        def publish(*servers: SimpleNamespace) -> None:
            addresses = [server.address for server in servers]
            first, *more = addresses
            stack.publish(own_valkey.client, "flights", first, known, *more, revision=next(revisions))

        first, second = start("first"), start("second")
        publish(first, second)
        gateway, address = stack.start_gateway(tmp_path, own_valkey.url, ["flights"], body_read_ms=PATIENCE_MS)
        owned.callback(gateway.stop)
        yield SimpleNamespace(
            first=first, second=second, start=start, publish=publish, gateway=gateway, url=f"http://{address}"
        )


class Load:
    """Clients that ask one row after another, each over a connection of its own, and check what they get."""

    def __init__(self, url: str, oracle: Oracle) -> None:
        self._url = url
        self._oracle = oracle
        self.answered = 0
        self.failures: list[str] = []
        self.stopped = False

    async def run(self, seed: int) -> None:
        dice = np.random.default_rng(seed)
        async with httpx.AsyncClient(base_url=self._url, timeout=30, trust_env=False) as client:
            while not self.stopped:
                row = {
                    "distance": float(np.float32(dice.uniform(100, 2500))),
                    "delay": float(np.float32(dice.normal(5, 20))),
                    "carrier": str(dice.choice(models.CARRIERS)),
                }
                try:
                    answer = await client.post("/v1/models/flights:predict", json={"instances": [row]})
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                    continue
                self.answered += 1
                if answer.status_code != 200:
                    self.failures.append(answer.text)
                elif not self._is_right(row, answer.json()["predictions"][0]):
                    self.failures.append(f"{row}: {answer.text}")

    def _is_right(self, row: dict[str, Any], found: dict[str, Any]) -> bool:
        alone = self._oracle(
            {
                "distance": np.array([[row["distance"]]], np.float32),
                "delay": np.array([[row["delay"]]], np.float32),
                "carrier": np.array([[row["carrier"]]], object),
            }
        )
        near = np.abs(alone["probabilities"][0] - np.array(found["probabilities"])).max() <= TOLERANCE
        return bool(near) and found["label"] == alone["label"][0]

    async def more(self, count: int) -> None:
        wanted = self.answered + count
        for _ in range(6000):
            if self.answered >= wanted or self.failures:
                break
            await asyncio.sleep(0.01)
        assert not self.failures, (len(self.failures), self.failures[:3])
        assert self.answered >= wanted


@asynccontextmanager
async def load(url: str, oracle: Oracle) -> AsyncIterator[Load]:
    clients = Load(url, oracle)
    tasks = [asyncio.create_task(clients.run(seed)) for seed in range(CLIENTS)]
    try:
        yield clients
    finally:
        clients.stopped = True
        await asyncio.gather(*tasks)
    assert not clients.failures, (len(clients.failures), clients.failures[:3])


async def test_no_request_fails_while_replicas_are_killed_drained_and_replaced(
    replicas: SimpleNamespace, oracles: dict[str, Oracle]
) -> None:
    async with load(replicas.url, oracles["flights"]) as clients:
        await clients.more(500)
        await asyncio.to_thread(replicas.second.process.stop, signal.SIGKILL)
        await clients.more(1000)
        third = await asyncio.to_thread(replicas.start, "third")
        await asyncio.to_thread(replicas.publish, replicas.first, third)
        await clients.more(500)
        await asyncio.to_thread(replicas.first.process.stop, signal.SIGTERM)
        await clients.more(1000)
        batches = await asyncio.to_thread(requests_and_runs, third.address)
    assert batches[0] > batches[1] > 0  # rows of several clients did share a run
    assert "Traceback" not in replicas.gateway.log


def requests_and_runs(address: str) -> tuple[float, float]:
    """Rows a server answered, and how many calls it took."""
    text = httpx.get(f"http://{address}/metrics", trust_env=False).text
    totals = {"rows": 0.0, "requests": 0.0}
    for line in text.splitlines():
        for name in totals:
            if line.startswith(f"kingmaker_model_server_{name}_total"):
                totals[name] += float(line.rpartition(" ")[2])
    return totals["rows"], totals["requests"]
