"""Services as the chart's pods start them, and one model for them to serve."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from conftest import take_free_port
from kingmaker_contracts import profile
from kingmaker_contracts.profile import NumericReference, Profile, Reference
from kingmaker_contracts.routing import Limits, RoutedVariant, RoutingRecord, Sticky
from tests.deploy import chart
from tests.deploy.chart import NAMESPACE, Object

MODEL = (NAMESPACE, "flights")


def routing(address: str, sha256: str) -> RoutingRecord:
    variant = RoutedVariant("lr", "champion", "1", "fake", [address], 100, 0, sha256)
    return RoutingRecord(
        *MODEL, revision=1, epoch=1, generation=1, rollout_id="r1", mode="Canary", variants=[variant], ranges="",
        sticky=Sticky("PredictionId", "shop/flights"), overrides="Denied", limits=Limits(), source="test",
        updated_at="2026-01-01T00:00:00Z",
    )  # fmt: skip


def known_profile() -> Profile:
    return Profile(
        name="fake",
        onnx_sha256="0" * 64,
        inputs=[profile.Feature("distance", "FP32", [-1, 1], "numeric")],
        outputs=[profile.Output("label", "INT64", [-1]), profile.Output("probabilities", "FP32", [-1, 2])],
        score=profile.Score("binary", "probabilities", 1, "1", ["0", "1"], "label"),
        reference=Reference(2, {"distance": NumericReference([0.5], [1, 1], 0, 0.0, 1.0, 0.5, 0.5)}, {}),
        quality=None,
        parity=None,
        created_at="2026-01-01T00:00:00Z",
    )


class Service:
    """A service as its pod starts it: command and environment are the chart's, only places are other ones."""

    def __init__(self, objects: list[Object], component: str, redis_port: int, folder: Path) -> None:
        kind = "StatefulSet" if component == "monitor" else "Deployment"
        pod = chart.one(objects, kind, f"kingmaker-{component}")["spec"]["template"]["spec"]
        self.ports: dict[str, int] = {}
        data = folder / f"{component}-data"
        data.mkdir()
        places = {
            "/data/": f"{data}/",
            "/etc/kingmaker/redis/password": str(folder / "passwords" / component),
            "/etc/kingmaker/": f"{folder}/etc/",
            "0.0.0.0": "127.0.0.1",
            "km-kingmaker-redis:6379": f"127.0.0.1:{redis_port}",
        }
        environment = {"PATH": os.environ["PATH"], "KINGMAKER_MONITOR_SHARD": "0"} if component == "monitor" else {}
        for name, given in chart.environment(pod).items():
            value = given
            for there, here in places.items():
                value = value.replace(there, here)
            if name.endswith("PORT"):
                self.ports[value] = take_free_port()
                value = str(self.ports[value])
            environment[name] = value
        command = [sys.executable, *pod["containers"][0]["command"][1:]]
        self.process = subprocess.Popen(command, env={"PATH": os.environ["PATH"], **environment})

    def url(self, port: int) -> str:
        return f"http://127.0.0.1:{self.ports[str(port)]}"

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0


async def until(condition: Callable[[], Awaitable[bool]], what: str, within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not await condition():
        assert time.monotonic() < deadline, f"{what}: not within {within_s} s"
        await asyncio.sleep(0.05)
