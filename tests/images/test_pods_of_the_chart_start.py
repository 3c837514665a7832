"""What the chart renders and what was built fit each other: a pod's image, command, environment, volumes and rules.

podman plays kubelet: one network, a Service's name as an alias, volumes where the pod has them and nowhere else.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deploy import chart
from tests.images import stand_ins
from tests.images.conftest import PREFIX
from tests.images.engine import Container, Engine, Failed, until

pytestmark = pytest.mark.images
NETWORK = "chart"
FIELDS = {"metadata.labels['apps.kubernetes.io/pod-index']": "0", "metadata.namespace": chart.NAMESPACE}
ASK = "import sys, urllib.request as r; r.urlopen(sys.argv[1], timeout=2)"


class Played:
    """A pod of the chart, run by podman."""

    def __init__(self, engine: Engine, name: str, pod: dict[str, Any], folder: Path) -> None:
        [self._spec] = pod["containers"]
        command = ["run", "--detach", f"--network={NETWORK}", f"--network-alias={name}", "--no-healthcheck"]
        user = pod["securityContext"]
        command += [f"--user={user['runAsUser']}:{user['runAsGroup']}", *_rules(self._spec["securityContext"])]
        command += [f"--env={variable['name']}={_value(variable)}" for variable in self._spec.get("env", [])]
        command += [_volume(folder / name, mount, pod) for mount in self._spec.get("volumeMounts", [])]
        command += [f"--entrypoint={json.dumps(self._spec['command'])}", _image(self._spec["image"])]
        self.container = Container(engine, engine.say("podman", *command, *self._spec.get("args", [])).strip())

    def passes(self, probe: str) -> bool:
        """Ask from inside, as kubelet asks from outside."""
        about = self._spec[probe]
        if "exec" in about:
            command = about["exec"]["command"]
        else:
            ports = {port["name"]: port["containerPort"] for port in self._spec["ports"]}
            path, port = about["httpGet"]["path"], about["httpGet"]["port"]
            command = ["python", "-c", ASK, f"http://127.0.0.1:{ports[port]}{path}"]
        try:
            self.container.execute(*command)
        except Failed:
            return False
        return True

    def wait(self, probe: str) -> None:
        until(lambda: self.passes(probe), f"{probe} does not pass:\n{self.container.log()}")


def _rules(context: dict[str, Any]) -> list[str]:
    assert context["allowPrivilegeEscalation"] is False
    rules = ["--security-opt=no-new-privileges", *(f"--cap-drop={name}" for name in context["capabilities"]["drop"])]
    return [*rules, "--read-only", "--read-only-tmpfs=false"] if context["readOnlyRootFilesystem"] else rules


def _value(variable: dict[str, Any]) -> str:
    if "value" in variable:
        return str(variable["value"])
    return FIELDS[variable["valueFrom"]["fieldRef"]["fieldPath"]]


def _volume(folder: Path, mount: dict[str, Any], pod: dict[str, Any]) -> str:
    """An empty folder that belongs to the pod's group, as fsGroup makes it: of a claim, or an emptyDir."""
    found = [volume for volume in pod.get("volumes", []) if volume["name"] == mount["name"]]
    assert not found or "emptyDir" in found[0] or "persistentVolumeClaim" in found[0], mount
    place = folder / mount["name"]
    place.mkdir(parents=True)
    os.chown(place, 0, pod["securityContext"]["fsGroup"])
    place.chmod(0o2775)
    return f"--volume={place}:{mount['mountPath']}"


def _image(name: str) -> str:
    """Where what the chart asks for was built."""
    repository = name.rpartition(":")[0].rpartition("/")[2]
    return stand_ins.REDIS if repository == "valkey" else f"{PREFIX}-{repository.removeprefix('kingmaker-')}"


@pytest.fixture
def network(images: Engine) -> Iterator[Engine]:
    stand_ins.make_redis(images)
    images.say("podman", "network", "create", NETWORK)
    yield images
    images.clear()
    images.say("podman", "network", "rm", NETWORK)


def test_redis_gateway_and_monitor_find_each_other(network: Engine, tmp_path: Path) -> None:
    pods = chart.pods(chart.render())
    played = {}
    for part in ("redis", "monitor", "gateway"):
        name = f"{chart.RELEASE}-kingmaker-{part}"
        played[part] = Played(network, name, pods[name], tmp_path)
        played[part].wait("startupProbe")
    played["redis"].wait("readinessProbe")
    played["monitor"].wait("readinessProbe")

    def acknowledged() -> bool:
        """The gateway wrote to Redis what it serves."""
        keys = played["redis"].container.execute("valkey-cli", "--scan", "--pattern", "km:gateways:*")
        return keys.strip() != ""

    until(acknowledged, f"the gateway does not reach Redis:\n{played['gateway'].container.log()}")
    assert {part: one.container.stop() for part, one in played.items()} == {"redis": 0, "monitor": 0, "gateway": 0}
