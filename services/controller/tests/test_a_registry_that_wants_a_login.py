"""The controller logs in at MLflow as MLflow's own clients do, and says so when that does not help."""

import base64
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from kingmaker_controller.errors import FetchFailed
from kingmaker_controller.runtimes.podspec import Pin
from kingmaker_controller.runtimes.registry import Registry, credentials

WANTED = "Basic " + base64.b64encode(b"ops:pa:ss").decode()
VERSION = {"model_version": {"name": "flights", "version": "3", "tags": []}}


@pytest.fixture
def guarded() -> Iterator[str]:
    """The address of a registry with one version, and one user."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_known = self.headers.get("authorization") == WANTED
            body = json.dumps(VERSION).encode() if is_known else b"You are not authenticated."
            self.send_response(200 if is_known else 401)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


async def ask(uri: str, environ: dict[str, str]) -> Pin:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await Registry(uri, client, credentials(environ)).resolve("models:/flights@champion")


async def test_user_and_password_of_the_environment_open_it(guarded: str) -> None:
    login = {"MLFLOW_TRACKING_USERNAME": "ops", "MLFLOW_TRACKING_PASSWORD": "pa:ss", "MLFLOW_TRACKING_TOKEN": "other"}
    assert await ask(guarded, login) == Pin("3", "")


@pytest.mark.parametrize("environ", [{}, {"MLFLOW_TRACKING_TOKEN": "t"}, {"MLFLOW_TRACKING_USERNAME": "ops"}])
async def test_a_refusal_names_what_to_set(guarded: str, environ: dict[str, Any]) -> None:
    with pytest.raises(FetchFailed, match=r"answered 401: .*MLFLOW_TRACKING_USERNAME") as failure:
        await ask(guarded, environ)
    assert failure.value.reason == "RegistryRefused"


def test_a_token_goes_as_mlflow_sends_it() -> None:
    assert credentials({"MLFLOW_TRACKING_TOKEN": "abc"}) == {"Authorization": "Bearer abc"}
    assert credentials({}) == {}
