"""The same models behind a real gateway and bare, as real processes; after every test their logs hold no traceback."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from conftest import Valkey, take_free_port
from tests.conformance import models, stack
from tests.conformance.models import Oracle
from tests.conformance.stack import Target

TARGETS = ("gateway", "model-server")


@pytest.fixture(scope="session")
def model_bytes() -> dict[str, bytes]:
    return {"flights": models.flights(), "block": models.block(), "echo": models.echo()}


@pytest.fixture(scope="session")
def oracles(model_bytes: dict[str, bytes]) -> dict[str, Oracle]:
    return {name: Oracle(raw) for name, raw in model_bytes.items()}


@pytest.fixture(scope="session")
def targets(tmp_path_factory: pytest.TempPathFactory, model_bytes: dict[str, bytes]) -> Iterator[dict[str, Target]]:
    folder = tmp_path_factory.mktemp("conformance")
    with ExitStack() as owned:
        valkey = Valkey(tmp_path_factory.mktemp("valkey"), take_free_port())
        owned.callback(valkey.stop)
        valkey.start()
        servers, addresses = [], {}
        for name, raw in model_bytes.items():
            known = models.flights_profile(raw) if name == "flights" else None
            process, addresses[name] = stack.start_model_server(folder / name, name, raw, known)
            owned.callback(process.stop)
            servers.append(process)
            stack.publish(valkey.client, name, addresses[name], known)
        gateway, address = stack.start_gateway(folder, valkey.url, list(model_bytes))
        owned.callback(gateway.stop)
        yield {
            "gateway": Target(
                "gateway",
                dict.fromkeys(model_bytes, address),
                stack.VARIANT,
                stack.GATEWAY_BODY_BYTES,
                (gateway, *servers),
            ),
            "model-server": Target(
                "model-server", addresses, stack.VERSION, stack.SERVER_BODY_BYTES, (gateway, *servers)
            ),
        }


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest, targets: dict[str, Target]) -> Iterator[Target]:
    """The service under test. Whatever a test sends, nothing dies and nothing logs a traceback."""
    chosen = targets[request.param]
    for process in chosen.processes:
        process.news()
    yield chosen
    for process in chosen.processes:
        news = process.news()
        assert process.is_running, f"{process.name} ended: {news[-4000:]}"
        tracebacks = [line for line in news.splitlines() if "Traceback" in line]
        assert not tracebacks, tracebacks[0]
