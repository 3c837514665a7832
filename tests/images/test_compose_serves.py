"""deploy/compose/compose.yaml as people use it; podman-compose stands in for Docker, Debian's Redis for Valkey."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from conftest import take_free_port
from tests.images import stand_ins
from tests.images.conftest import PREFIX, ROOT
from tests.images.engine import Engine, until

pytestmark = pytest.mark.images
COMPOSE = ROOT / "deploy/compose"
PORTS = ("GATEWAY_PORT", "GATEWAY_ADMIN_PORT", "MONITOR_PORT", "CONTROLLER_PORT")


class Stack:
    """What compose started."""

    def __init__(self, engine: Engine, models: Path) -> None:
        self._engine = engine
        self.ports = {name: take_free_port() for name in PORTS}
        given = {"IMAGE_PREFIX": PREFIX, "REDIS_IMAGE": stand_ins.REDIS, "MODELS": str(models)}
        self._environment = given | {name: str(port) for name, port in self.ports.items()}

    def compose(self, *words: str) -> str:
        command = ["podman-compose", "--project-name", "kingmaker", *words]
        return self._engine.say(*command, environment=self._environment, cwd=COMPOSE, timeout_s=120)

    def get(self, port: str, path: str, **more: Any) -> httpx.Response | None:
        try:
            return httpx.get(f"http://127.0.0.1:{self.ports[port]}{path}", trust_env=False, timeout=5, **more)
        except httpx.HTTPError:
            return None

    def is_up(self) -> bool:
        answer = self.get("GATEWAY_ADMIN_PORT", "/health/ready")
        return answer is not None and answer.status_code == 200

    def predict(self) -> httpx.Response:
        url = f"http://127.0.0.1:{self.ports['GATEWAY_PORT']}/v1/models/flights:predict"
        return httpx.post(url, json={"instances": [[1, 2]]}, trust_env=False, timeout=5)

    def state(self, service: str) -> dict[str, Any]:
        [found] = json.loads(self._engine.say("podman", "inspect", f"kingmaker_{service}_1"))
        return dict(found["State"])

    def logs(self) -> str:
        return "\n".join(
            self._engine.say("podman", "logs", f"kingmaker_{name}_1") for name in ("controller", "gateway")
        )

    def execute(self, service: str, *command: str) -> str:
        return self._engine.say("podman", "exec", f"kingmaker_{service}_1", *command)


@pytest.fixture
def stack(images: Engine, models: Path) -> Iterator[Stack]:
    stand_ins.make_redis(images)
    shutil.copy(COMPOSE / "models/served-model.yaml", models)
    made = Stack(images, models)
    made.compose("up", "--detach", "--no-build")
    yield made
    made.compose("down", "--volumes")


def test_a_file_is_served_edited_measured_and_survives_a_stop(stack: Stack, models: Path) -> None:
    until(stack.is_up, "the gateway did not get ready")
    answers = [stack.predict() for _ in range(200)]
    assert {answer.status_code for answer in answers} == {200}
    by_variant = {answer.headers["x-variant"]: answer.json()["predictions"] for answer in answers}
    assert by_variant == {"lr": [[2.0, 3.0]], "gbm": [[3.0, 4.0]]}

    file = models / "served-model.yaml"
    file.write_text(file.read_text().replace("gbm: 10", "gbm: 100"))
    until(lambda: {stack.predict().headers["x-variant"] for _ in range(20)} == {"gbm"}, "the edit was not followed", 20)

    def measured() -> int:
        answer = stack.get("MONITOR_PORT", "/api/models/flights")
        return 0 if answer is None or answer.status_code != 200 else answer.json()["variants"]["lr"]["answered"]

    until(lambda: measured() > 100, "the monitor counts")
    token = stack.execute("controller", "cat", "/data/token").strip()
    refused = stack.get("CONTROLLER_PORT", "/api/models")
    assert refused is not None and refused.status_code == 401
    answer = stack.get("CONTROLLER_PORT", "/api/models", headers={"Authorization": f"Bearer {token}"})
    assert answer is not None and answer.status_code == 200
    counted = measured()

    stack.compose("stop")
    assert {name: stack.state(name)["ExitCode"] for name in ("gateway", "monitor", "controller", "redis")} == {
        "gateway": 0, "monitor": 0, "controller": 0, "redis": 0,
    }  # fmt: skip
    stack.compose("start")
    until(stack.is_up, "it did not come back")
    until(lambda: measured() >= counted, "counts survive a stop")
    until(lambda: stack.predict().headers.get("x-variant") == "gbm", "weights survive a stop")
