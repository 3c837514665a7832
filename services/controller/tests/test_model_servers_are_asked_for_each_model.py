"""What model servers say of their packages: told to every model that asks, and kept for none that is gone."""

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial

import httpx
import pytest

from kingmaker_contracts import profile
from kingmaker_controller.rollout.facts import Identity
from kingmaker_controller.runtimes import packages as runtime_packages
from kingmaker_controller.runtimes.packages import Packages

RAW = b'{"a": "profile"}'
SHA256 = profile.sha256_of(RAW)
ONE, OTHER = "default/flights", "default/flights-eu"
LR = Identity("lr", "models:/flights/1")
METADATA = json.dumps({"versions": ["1"], "inputs": [], "properties": {"sha256": "a" * 64}}).encode()
HERE = "127.0.0.1"


class Server:
    """Of all models, and who asks it. Answers once `may_answer` is set."""

    def __init__(self) -> None:
        self.may_answer, self.both_asked = asyncio.Event(), asyncio.Event()
        self.asked = 0
        self.packages = Packages(httpx.AsyncClient(trust_env=False))

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked += 1
        if self.asked == 2:
            self.both_asked.set()
        await self.may_answer.wait()
        body = RAW if b"profile" in head.split()[1] else METADATA
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b" % (len(body), body))
        writer.close()


@pytest.fixture
async def server(free_port: int, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Server]:
    monkeypatch.setattr(runtime_packages, "PORT", free_port)
    built = Server()
    async with await asyncio.start_server(built.answer, HERE, free_port):
        yield built
        await built.packages.close()
        built.may_answer.set()


async def quiet() -> None:
    """Until nobody asks any more."""
    asking = [task for task in asyncio.all_tasks() if task.get_name() == "ask a model server"]
    await asyncio.gather(*asking, return_exceptions=True)


async def test_two_models_with_one_profile_both_get_it(server: Server) -> None:
    told: list[str] = []
    for model in (ONE, OTHER):
        server.packages.want_profile(model, HERE, SHA256, partial(told.append, model))
    server.may_answer.set()
    await quiet()
    assert sorted(told) == [ONE, OTHER]
    assert [server.packages.profile(model, SHA256) for model in (ONE, OTHER)] == [RAW, RAW]


async def test_an_answer_about_a_variant_nobody_wants_any_more_is_not_kept(server: Server) -> None:
    """The next of its name and model string may be another version: aliases move."""
    told: list[str] = []
    server.packages.want(ONE, LR, HERE, "flights", lambda: told.append("package"))
    server.packages.want_profile(ONE, HERE, SHA256, lambda: told.append("profile"))
    await server.both_asked.wait()
    server.packages.tidy(ONE, set(), set())
    server.may_answer.set()
    await quiet()
    assert not told
    assert server.packages.of(ONE, LR) is None and server.packages.profile(ONE, SHA256) is None


async def test_what_is_wanted_again_is_asked_again(server: Server) -> None:
    told: list[str] = []
    for attempt in ("dropped", "heard"):
        server.packages.want(ONE, LR, HERE, "flights", partial(told.append, attempt))
        if attempt == "dropped":
            server.packages.tidy(ONE, set(), set())
    server.may_answer.set()
    await quiet()
    assert told == ["heard"] and server.packages.of(ONE, LR) is not None
    server.packages.tidy(ONE, {LR}, set())
    assert server.packages.of(ONE, LR) is not None


async def test_a_profile_nobody_fetched_is_forgotten_with_its_model(server: Server) -> None:
    server.may_answer.set()
    for model in (ONE, OTHER):
        server.packages.want_profile(model, HERE, SHA256, lambda: None)
    await quiet()
    server.packages.tidy(ONE, set(), set())
    server.packages.tidy(OTHER, set(), {SHA256})
    assert server.packages.profile(ONE, SHA256) is None
    assert server.packages.profile(OTHER, SHA256) == RAW
