"""What the pod of `helm test` runs, against a real gateway as the chart starts it."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from conftest import Valkey
from kingmaker_contracts import profile, wire
from kingmaker_contracts.plan import Plan, PlannedVariant
from kingmaker_controller.redis_store import RedisStore, Stored
from kingmaker_servicekit import redis_client
from tests.deploy import chart
from tests.deploy.chart import Values
from tests.deploy.running import MODEL, Service, known_profile, routing, until
from tests.fakes.authority import Authority
from tests.fakes.fake_model_server import FakeModelServer


async def run(values: Values, url: str, etc: Path = Path("/nowhere")) -> tuple[int, str]:
    """Exit code and what it says. The pod's own command and environment; only where things are is another."""
    pod = chart.one(chart.render(values), "Pod", "kingmaker-test-predict-once")["spec"]
    [container] = pod["containers"]
    assert container["env"][0]["value"].endswith("://km-kingmaker-gateway:8080")
    environment = {name: value.replace("/etc/kingmaker", str(etc)) for name, value in chart.environment(pod).items()}
    environment |= {"URL": environment["URL"].split("://")[0] + "://" + url.split("://")[1], "PATH": os.environ["PATH"]}
    process = await asyncio.create_subprocess_exec(
        sys.executable, *container["command"][1:], *container["args"], env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode or 0, out.decode()


@pytest.fixture
async def gateway(valkey: Valkey, tmp_path: Path) -> AsyncIterator[Service]:
    service = Service(chart.render({}), "gateway", valkey.port, tmp_path)

    async def is_up() -> bool:
        try:
            async with httpx.AsyncClient(trust_env=False) as http:
                return (await http.get(f"{service.url(8080)}/v2")).status_code == 200
        except httpx.HTTPError:
            return False

    try:
        await until(is_up, "the gateway's start")
        yield service
    finally:
        service.stop()


@pytest.fixture
async def served(gateway: Service, valkey: Valkey) -> AsyncIterator[FakeModelServer]:
    """The model `flights`, once the gateway can ask it."""
    raw = wire.write_json(known_profile())
    sha256 = profile.sha256_of(raw)
    store = RedisStore(redis_client.connect(valkey.url))
    async with FakeModelServer(inputs=[("distance", "FP32")]) as champion, httpx.AsyncClient(trust_env=False) as http:
        await store.put_profile(*MODEL, sha256, raw)
        plan = Plan(*MODEL, 1, 1, "r1", [PlannedVariant("lr", "champion", "1", sha256)])
        await store.replace(routing(champion.address, sha256), plan, Stored(None))

        async def is_ready() -> bool:
            return (await http.get(f"{gateway.url(8080)}/v2/models/flights/ready")).status_code == 200

        await until(is_ready, "the model")
        yield champion
    await store.close()


async def test_it_predicts_with_a_row_made_up_or_given_and_says_what_came(
    gateway: Service, served: FakeModelServer
) -> None:
    code, said = await run({}, gateway.url(8080))
    assert code == 0 and said.startswith("flights: lr answered "), said
    assert served.rows == 1

    body = '{"inputs": [{"name": "distance", "shape": [2, 1], "datatype": "FP32", "data": [1, 2]}]}'
    code, said = await run({"helmTest": {"model": "flights", "body": body}}, gateway.url(8080))
    assert code == 0 and served.rows == 3, said

    code, said = await run({"helmTest": {"model": "flights", "body": '{"inputs": []}'}}, gateway.url(8080))
    assert code == 1 and "400" in said and "expected at least one row" in said, said


async def test_without_models_it_is_content_unless_the_release_has_some(gateway: Service) -> None:
    code, said = await run({}, gateway.url(8080))
    assert (code, said) == (0, "the gateway answers and serves no model yet\n")
    champion = {"champion": {"name": "lr", "model": "models:/flights/1"}}
    code, said = await run({"models": {"flights": champion}}, gateway.url(8080))
    assert (code, said) == (1, "the gateway answers and serves no model yet; it should serve flights\n")


async def test_it_shows_its_token_and_trusts_the_gateway_s_own_certificate_alone(
    valkey: Valkey, tmp_path: Path
) -> None:
    """The certificate names the address clients use, which is not the Service's."""
    values: Values = {"gateway": {"auth": {"predictTokensSecret": "tokens"}, "tls": {"secret": "tls"}}}
    etc = tmp_path / "etc"
    for folder in ("predict", "tls"):
        (etc / folder).mkdir(parents=True)
    certificate, key = Authority(tmp_path / "authority").issue("kingmaker.example.com")
    shutil.copy(certificate, etc / "tls/tls.crt")
    shutil.copy(key, etc / "tls/tls.key")
    (etc / "predict/tokens").write_text("# shops\nshop:a-token-of-enough-length\n")
    service = Service(chart.render(values), "gateway", valkey.port, tmp_path)
    try:

        async def is_up() -> bool:
            return "answers" in (await run(values, service.url(8080), etc))[1]

        await until(is_up, "the gateway's start")
        body = '{"inputs": [{"name": "distance", "shape": [1, 1], "datatype": "FP32", "data": [1]}]}'
        asking: Values = {**values, "helmTest": {"model": "flights", "body": body}}
        code, said = await run(asking, service.url(8080), etc)
        assert code == 1 and "404" in said, f"let in, and there is no model: {said}"
        strange = tmp_path / "strange"
        shutil.copytree(etc, strange)
        (strange / "predict/tokens").write_text("shop:nobody-knows-this-token\n")
        code, said = await run(asking, service.url(8080), strange)
        assert code == 1 and "401" in said, said
        other, _ = Authority(tmp_path / "another").issue("kingmaker.example.com")
        (strange / "tls/tls.crt").write_bytes(other.read_bytes())
        code, said = await run(asking, service.url(8080), strange)
        assert code == 1 and "certificate verify failed" in said.lower(), said
    finally:
        service.stop()


async def test_a_gateway_that_is_away_fails(free_port: int) -> None:
    code, said = await run({}, f"http://127.0.0.1:{free_port}")
    assert code == 1 and "refused" in said
