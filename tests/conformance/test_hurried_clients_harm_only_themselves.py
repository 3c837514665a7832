"""A client whose time limit cannot be met gets 504; nobody else, and no server's reputation, pays for its hurry."""

import asyncio

import httpx

from tests.conformance import oip
from tests.conformance.models import Oracle
from tests.conformance.neighbour import Neighbour
from tests.conformance.stack import Target
from tests.conformance.test_infer_follows_the_protocol import flights


async def test_time_limits_of_a_millisecond_take_no_server_out(
    targets: dict[str, Target], oracles: dict[str, Oracle]
) -> None:
    target = targets["gateway"]
    call = oip.request(flights("raw", "raw", "raw"))
    hurry = call.headers | {"x-kingmaker-timeout-ms": "1"}
    for process in target.processes:
        process.news()
    base = f"http://{target.addresses['flights']}"
    with Neighbour(target, oracles["flights"]):
        async with httpx.AsyncClient(base_url=base, timeout=30, limits=httpx.Limits(max_connections=40)) as client:
            for _ in range(6):
                posts = [client.post("/v2/models/flights/infer", content=call.body, headers=hurry) for _ in range(40)]
                found = {answer.status_code for answer in await asyncio.gather(*posts)}
                assert found <= {200, 504}, found
                assert (await client.get("/v2/models/flights/ready")).status_code == 200
    assert "endpoint is down" not in target.processes[0].news()
