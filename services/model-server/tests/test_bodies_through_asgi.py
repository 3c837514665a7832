"""Bodies of requests that the hot path leaves to FastAPI, or of all of them without it: bounded as there."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from kingmaker_model_server import app, asgi
from kingmaker_model_server.settings import Settings
from kingmaker_servicekit import metrics_endpoint


@pytest.mark.parametrize("path", ["/v2/models/m/infer", "/v1/models/m:predict", "/invocations"])
async def test_a_body_that_does_not_come_is_given_up_and_its_connection_closed(
    monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(asgi, "BODY_READ_S", 0.01)
    registry = metrics_endpoint.new_registry()
    service = app.build(Settings(model_dir=Path("none"), model_name="m", hot_path=False), registry)
    parts: list[Any] = [{"type": "http.request", "body": b"{", "more_body": True}]
    sent: list[Any] = []

    async def receive() -> Any:
        if not parts:
            await asyncio.Event().wait()  # never
        return parts.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"content-length", b"100")],
    }
    async with asyncio.timeout(20):
        await service.app(scope, receive, send)
    start, body = sent
    assert start["status"] == 408
    assert (b"connection", b"close") in start["headers"]
    assert json.loads(body["body"])["code"] == "request_timeout"
    assert registry.get_sample_value("kingmaker_model_server_requests_total", {"code": "408"}) == 1
