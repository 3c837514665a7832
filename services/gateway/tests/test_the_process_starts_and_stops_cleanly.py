"""`python -m kingmaker_gateway` as an operator sees it: refusals in one line, and a SIGTERM that loses nothing."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pytest

from kingmaker_contracts import keys
from kingmaker_contracts.acks import GatewayAck
from kingmaker_gateway import __main__
from tests.fakes.fake_model_server import Fault

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Kit, Pair


def environment(**settings: object) -> dict[str, str]:
    ours = {f"KINGMAKER_GATEWAY_{name}": str(value) for name, value in settings.items()}
    return {**os.environ, "KINGMAKER_GATEWAY_LOG_FORMAT": "text", **ours}


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()[1]


def refused(**settings: object) -> str:
    """What it says when it does not start."""
    command = [sys.executable, "-m", "kingmaker_gateway"]
    done = subprocess.run(command, env=environment(**settings), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    [line] = done.stderr.strip().splitlines()
    return line


@pytest.mark.parametrize("which", ["PORT", "ADMIN_PORT"])
def test_a_taken_port_is_one_clear_line(taken: int, which: str) -> None:
    ports = {"PORT": 0, "ADMIN_PORT": 0, which: taken}
    assert f"port {taken} on 127.0.0.1 is taken" in refused(**ports)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"PORT": "high"}, "KINGMAKER_GATEWAY_PORT: Input should be a valid integer"),
        ({"RECORDR__FLUSH_MS": 5}, "no such setting: KINGMAKER_GATEWAY_RECORDR__FLUSH_MS"),
        ({"RECORDER__FLUSHMS": 5}, "KINGMAKER_GATEWAY_RECORDER__FLUSHMS: Extra inputs are not permitted"),
        ({"REDIS_URL": "http://x"}, "KINGMAKER_GATEWAY_REDIS_URL: Value error, found http://x: the scheme is 'http'"),
        ({"AUTH__PREDICT_TOKENS_FILE": "/nowhere"}, "KINGMAKER_GATEWAY_AUTH__PREDICT_TOKENS_FILE: Value error, found"),
        ({"TLS__CERT_FILE": "/nowhere"}, "KINGMAKER_GATEWAY_TLS: Value error, found one of CERT_FILE and KEY_FILE"),
    ],
)
def test_a_wrong_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], settings: dict[str, object], text: str
) -> None:
    """In this process: that the command says it in one line and ends is shown by a taken port."""
    for name, value in environment(**settings).items():
        monkeypatch.setenv(name, value)
    assert __main__.main() == __main__.BAD_START
    [line] = capsys.readouterr().err.strip().splitlines()
    assert text in line


async def is_ready(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/v2/health/ready")).status_code == 200
    except httpx.TransportError:
        return False


async def test_sigterm_drains_flushes_and_says_the_last_word(
    valkey: Any, pair: "Pair", kit: "Kit", free_port: int
) -> None:
    kit.store(valkey.client, pair.record(), pair.profiles)
    env = environment(
        PORT=free_port,
        ADMIN_PORT=0,
        REDIS_URL=valkey.url,
        GATEWAY_ID="gw-proc",
        RECORDER__FLUSH_MS=60_000,
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "kingmaker_gateway", env=env, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{free_port}", timeout=10) as client:
            await kit.until(lambda: is_ready(client), within_s=30)
            body = {"instances": [kit.row]}
            for _ in range(6):
                assert (await client.post("/v1/models/flights:predict", json=body)).status_code == 200
            assert kit.batches(valkey.client) == []
            pair.champion.fault, pair.champion.slow_s = Fault.SLOW, 0.4
            calls = pair.champion.calls
            last = asyncio.create_task(client.post("/v1/models/flights:predict", json=body))
            await kit.until(lambda: pair.champion.calls > calls)
            process.send_signal(signal.SIGTERM)
            assert (await last).status_code == 200  # in flight when the signal came
        _, errors = await asyncio.wait_for(process.communicate(), 20)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    assert b"Traceback" not in errors
    assert sum(b.count for b in kit.batches(valkey.client)) == 7
    ack = msgspec.json.decode(valkey.client.get(keys.gateway("gw-proc")), type=GatewayAck)
    assert ack.accounts["default/flights"].sent == 7
    assert valkey.client.ttl(keys.gateway("gw-proc")) > 3000


_WITH_A_SILENT_NAME_SERVER = """
import os, socket, sys, threading

plain = socket.getaddrinfo

def getaddrinfo(host, *more):
    os.write(1, host.encode() + b"\\n")  # one call a line: print() lets threads in before the line's end
    if host == "dead.example":
        threading.Event().wait()
    return plain(host, *more)

socket.getaddrinfo = getaddrinfo
from kingmaker_gateway.__main__ import main
sys.exit(main())
"""


async def test_a_silent_name_server_keeps_nobody_from_an_answer_nor_the_process_from_ending(
    valkey: Any, pair: "Pair", kit: "Kit", free_port: int
) -> None:
    record = pair.record(mirror=100)
    for one in record.variants:
        one.endpoints[:] = ["dead.example:80", one.endpoints[0].replace("127.0.0.1", "localhost")]
    kit.store(valkey.client, record, pair.profiles)
    env = environment(PORT=free_port, ADMIN_PORT=0, REDIS_URL=valkey.url, UPSTREAM__RESOLVE_MS=100)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _WITH_A_SILENT_NAME_SERVER),
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{free_port}", timeout=10) as client:
            await kit.until(lambda: is_ready(client), within_s=30)

            async def answers() -> bool:
                body = {"instances": [kit.row]}
                return (await client.post("/v1/models/flights:predict", json=body)).status_code == 200

            await kit.until(answers)
        asked: list[str] = []
        while asked.count("localhost") < 10:  # the other name is followed, round after round
            asked.append((await asyncio.wait_for(process.stdout.readline(), 20)).decode().strip())
        assert asked.count("dead.example") == 1
        process.send_signal(signal.SIGTERM)
        _, errors = await asyncio.wait_for(process.communicate(), 20)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    assert b"Traceback" not in errors
