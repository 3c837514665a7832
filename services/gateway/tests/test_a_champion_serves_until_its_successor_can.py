"""A record with a new champion waits until this gateway can ask it, while the old one serves, and not for ever."""

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from kingmaker_gateway import models

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Bench, Kit, Pair


def deposed(pair: "Pair", endpoint: str, revision: int = 2) -> Any:
    """gbm reigns alone, behind one endpoint."""
    crowned = next(v for v in pair.record().variants if v.name == "gbm")
    champion = msgspec.structs.replace(crowned, role="champion", endpoints=[endpoint], version="9", mirror=0)
    return msgspec.structs.replace(pair.record(revision=revision), variants=[champion], ranges="")


async def test_an_unreachable_successor_costs_no_request(
    bench: "Bench", pair: "Pair", kit: "Kit", free_port: int
) -> None:
    await bench.publish(pair.record(), pair.profiles)
    gbm = next(v for v in pair.record().variants if v.name == "gbm")
    host, _, port = gbm.endpoints[0].partition(":")
    bench.store(deposed(pair, f"{host}:{free_port}"), pair.profiles)
    for _ in range(30):
        answer = await bench.predict([kit.full_row])
        assert (answer.status_code, answer.headers["x-variant"]) == (200, "lr")
        await asyncio.sleep(0.01)
    assert bench.metric("routing_revision", model="flights") == 1.0, "nothing is acknowledged that is not in force"

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, away = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pipe(reader, away), pipe(there, writer), return_exceptions=True)

    async with await asyncio.start_server(forward, host, free_port):
        seen = []

        async def crowned() -> bool:
            answer = await bench.predict([kit.full_row])
            seen.append(answer.status_code)
            return answer.headers.get("x-variant") == "gbm"

        await kit.until(crowned)
        assert set(seen) == {200}
        assert bench.metric("routing_revision", model="flights") == 2.0


async def test_patience_has_an_end(bench: "Bench", pair: "Pair", kit: "Kit", monkeypatch: Any, free_port: int) -> None:
    monkeypatch.setattr(models, "_PATIENCE_S", 0.3)
    await bench.publish(pair.record(), pair.profiles)
    bench.store(deposed(pair, f"127.0.0.1:{free_port}"), pair.profiles)
    await kit.until(lambda: bench.metric("routing_revision", model="flights") == 2.0)


async def test_a_record_that_takes_the_change_back_is_applied_at_once(
    bench: "Bench", pair: "Pair", kit: "Kit", monkeypatch: Any, free_port: int
) -> None:
    monkeypatch.setattr(models, "_PATIENCE_S", 60.0)
    await bench.publish(pair.record(), pair.profiles)
    bench.store(deposed(pair, f"127.0.0.1:{free_port}"), pair.profiles)
    await asyncio.sleep(0.1)
    bench.store(pair.record(revision=3), pair.profiles)
    await kit.until(lambda: bench.metric("routing_revision", model="flights") == 3.0)
    answer = await bench.predict([kit.full_row])
    assert answer.headers["x-variant"] == "lr"


async def test_a_successor_that_moves_while_it_is_waited_for_is_asked_where_it_is_now(
    bench: "Bench", pair: "Pair", kit: "Kit", monkeypatch: Any, free_port: int
) -> None:
    monkeypatch.setattr(models, "_PATIENCE_S", 60.0)
    await bench.publish(pair.record(), pair.profiles)
    bench.store(deposed(pair, f"127.0.0.1:{free_port}"), pair.profiles)
    await asyncio.sleep(0.1)
    bench.store(deposed(pair, pair.challenger.address, revision=3), pair.profiles)
    await kit.until(lambda: bench.metric("routing_revision", model="flights") == 3.0)
    answer = await bench.predict([kit.full_row])
    assert (answer.status_code, answer.headers["x-variant"]) == (200, "gbm")


async def test_a_challenger_that_is_crowned_and_moves_at_once_is_waited_for_where_it_will_be(
    bench: "Bench", pair: "Pair", kit: "Kit", monkeypatch: Any, free_port: int
) -> None:
    monkeypatch.setattr(models, "_PATIENCE_S", 60.0)
    await bench.publish(pair.record(), pair.profiles)
    await bench.challenger_is_up("gbm")
    record = deposed(pair, f"127.0.0.1:{free_port}")
    [champion] = record.variants
    crowned = msgspec.structs.replace(champion, version="4")  # the very same
    bench.store(msgspec.structs.replace(record, variants=[crowned]), pair.profiles)
    for _ in range(30):
        answer = await bench.predict([kit.full_row])
        assert (answer.status_code, answer.headers["x-variant"]) == (200, "lr")
        await asyncio.sleep(0.01)
    assert bench.metric("routing_revision", model="flights") == 1.0
