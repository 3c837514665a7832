"""TLS on the public port by settings: a certificate that cannot work stops the start, one that can is shown."""

import asyncio
import os
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from pydantic import ValidationError

from kingmaker_gateway.settings import Settings
from tests.fakes.authority import Authority

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Kit, Pair


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def test_predictions_travel_encrypted_and_probes_plain(
    valkey: Any, pair: "Pair", kit: "Kit", authority: Authority, free_port: int, tmp_path: Path
) -> None:
    certificate, key = authority.issue("gateway")
    (tmp_path / "tokens").write_text("shop:a-token-long-enough\n")
    kit.store(valkey.client, pair.record(), pair.profiles)
    settings = {"PORT": free_port, "ADMIN_PORT": 0, "REDIS_URL": valkey.url, "LOG_FORMAT": "text"}
    settings |= {"TLS__CERT_FILE": certificate, "TLS__KEY_FILE": key, "AUTH__PREDICT_TOKENS_FILE": tmp_path / "tokens"}
    env = {**os.environ, **{f"KINGMAKER_GATEWAY_{name}": str(value) for name, value in settings.items()}}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "kingmaker_gateway", env=env)
    trusting = ssl.create_default_context(cafile=authority.ca)
    address = f"https://127.0.0.1:{free_port}"
    try:
        async with httpx.AsyncClient(base_url=address, verify=trusting, timeout=10, trust_env=False) as client:

            async def ready() -> bool:
                try:
                    return (await client.get("/v2/health/ready")).status_code == 200
                except httpx.TransportError:
                    return False

            await kit.until(ready, 60)
            body = {"instances": [kit.row]}
            headers = {"authorization": "Bearer a-token-long-enough"}
            path = "/v1/models/flights:predict"
            assert (await client.post(path, json=body, headers=headers)).headers["x-variant"] == "lr"
            assert (await client.post(path, json=body)).status_code == 401
        async with httpx.AsyncClient(timeout=10, trust_env=False) as stranger:
            with pytest.raises(httpx.TransportError, match="certificate verify failed"):
                await stranger.get(f"{address}/v2/health/live")
            with pytest.raises(httpx.TransportError):
                await stranger.get(f"http://127.0.0.1:{free_port}/v2/health/live")
    finally:
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 15) == 0


def test_files_that_cannot_work_are_refused_with_their_names(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("gateway")
    _, other = authority.issue("another")
    (tmp_path / "no.pem").write_text("nothing")
    for tls, says in (
        ({"cert_file": certificate}, "expected both or none"),
        ({"key_file": key}, "expected both or none"),
        ({"cert_file": tmp_path / "gone", "key_file": key}, "No such file"),
        ({"cert_file": certificate, "key_file": tmp_path / "no.pem"}, "expected PEM files"),
        ({"cert_file": certificate, "key_file": other}, "expected PEM files"),
    ):
        with pytest.raises(ValidationError, match=says):
            Settings(tls=tls)
