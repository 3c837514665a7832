"""A real Prometheus with the rules as they are, a real gateway, and a champion that goes away and comes back."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from conftest import Valkey, needs, take_free_port
from kingmaker_contracts import keys, wire
from kingmaker_contracts.routing import Limits, RoutedVariant, RoutingRecord, Sticky
from tests.fakes.fake_model_server import FakeModelServer
from tests.monitoring.watched import RULES, records

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ALERT = "KingmakerNoReadyChampion"


@pytest.fixture
async def champion() -> AsyncIterator[FakeModelServer]:
    async with FakeModelServer([("distance", "FP32")], name="lr") as server:
        yield server


@pytest.fixture
def gateway(valkey: Valkey, champion: FakeModelServer) -> Iterator[tuple[str, str]]:
    """A gateway process that serves the champion; its public address and that of its metrics."""
    store(valkey.client, champion)
    ports = {"PORT": take_free_port(), "ADMIN_PORT": take_free_port()}
    settings = {f"KINGMAKER_GATEWAY_{name}": str(value) for name, value in ports.items()}
    environ = {**os.environ, **settings, "KINGMAKER_GATEWAY_REDIS_URL": valkey.url}
    with process([sys.executable, "-m", "kingmaker_gateway"], environ):
        yield f"http://127.0.0.1:{ports['PORT']}", f"127.0.0.1:{ports['ADMIN_PORT']}"


@pytest.fixture
def prometheus(tmp_path: Path, gateway: tuple[str, str]) -> Iterator[str]:
    program = needs("prometheus", "apt-get install prometheus")
    target = {"targets": [gateway[1]], "labels": {"namespace": "shop", "pod": "gateway-0"}}
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(file) for file in RULES],
        "scrape_configs": [{"job_name": "kingmaker", "static_configs": [target]}],
    }
    file = tmp_path / "prometheus.yml"
    file.write_text(json.dumps(config))
    address = f"127.0.0.1:{take_free_port()}"
    command = [str(program), f"--config.file={file}", f"--storage.tsdb.path={tmp_path / 'data'}"]
    with process([*command, f"--web.listen-address={address}"], dict(os.environ)):
        yield f"http://{address}/api/v1"


@contextmanager
def process(command: list[str], environ: dict[str, str]) -> Iterator[None]:
    running = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        running.terminate()
        running.wait(20)


def store(client: "redis.Redis", champion: FakeModelServer) -> None:
    routed = RoutedVariant("lr", "champion", "1", champion.name, [champion.address], 100, 0, None)
    record = RoutingRecord(
        namespace="default",
        name="flights",
        revision=1,
        epoch=1,
        generation=1,
        rollout_id="r1",
        mode="Canary",
        variants=[routed],
        ranges="",
        sticky=Sticky("PredictionId", "default/flights"),
        overrides="Denied",
        limits=Limits(),
        source="test",
        updated_at="2026-01-01T00:00:00Z",
    )
    client.set(keys.routing("default", "flights"), wire.write_json(record))
    client.sadd(keys.MODELS, "default/flights")


async def until(probe: Callable[[], Awaitable[Any]], what: str, patience_s: float = 120) -> Any:
    """The first true value of probe; a server that does not answer yet has none."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            found = await probe()
        except httpx.HTTPError:
            found = None
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {patience_s} s: {what}"
        await asyncio.sleep(0.2)


async def test_a_champion_that_goes_away_is_an_alert_until_it_is_back(
    champion: FakeModelServer, gateway: tuple[str, str], prometheus: str
) -> None:
    async with httpx.AsyncClient(timeout=10) as client:

        async def predicts() -> bool:
            body = {"instances": [{"distance": 1.5}]}
            return (await client.post(f"{gateway[0]}/v1/models/flights:predict", json=body)).status_code == 200

        async def query(text: str) -> list[dict[str, Any]]:
            answer = await client.get(f"{prometheus}/query", params={"query": text})
            found: list[dict[str, Any]] = answer.json()["data"]["result"]
            return found

        async def firing() -> list[dict[str, Any]]:
            alerts = (await client.get(f"{prometheus}/alerts")).json()["data"]["alerts"]
            return [a for a in alerts if a["state"] == "firing" and a["labels"]["alertname"] == ALERT]

        async def counted() -> bool:
            await predicts()
            rates = await query('namespace_model:kingmaker_gateway_requests:rate5m{namespace="shop",model="flights"}')
            slow = await query('namespace_model:kingmaker_gateway_slow:ratio_rate5m{namespace="shop",model="flights"}')
            return bool(slow) and any(float(found["value"][1]) > 0 for found in rates)

        await until(predicts, "the gateway answers")
        await until(counted, "predictions are counted, by a bucket that exists")
        [ready] = await query("kingmaker_gateway_ready")
        assert ready["value"][1] == "1"
        assert not await firing()

        await champion.stop()
        [alert] = await until(firing, f"{ALERT} fires", 240)
        assert alert["labels"]["severity"] == "critical"
        assert (alert["labels"]["namespace"], alert["labels"]["model"]) == ("shop", "flights")
        assert alert["annotations"]["summary"] == "shop/flights has no champion that any gateway can ask"

        await champion.start()

        async def is_over() -> bool:
            return not await firing()

        await until(is_over, f"{ALERT} is over")
        groups = (await client.get(f"{prometheus}/rules")).json()["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        assert len(rules) > 30
        assert [(rule["name"], rule["lastError"]) for rule in rules if rule["health"] == "err"] == []
        assert {rule["name"] for rule in rules} >= set(records())
